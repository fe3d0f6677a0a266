//! Lists.

use super::super::tree::{Stop, Walk};
use super::super::{text, Size, Type, TypeName};
use super::{is_json, mismatch, Check, Converted, Problem, Segment};
use crate::value::{Build, Items, Value, View};

impl<'a, B: Build<'a>> Check<'a, '_, B> {
    /// A list whose items are checked but never converted.
    #[inline]
    pub(super) fn items<'s>(
        &mut self,
        name: TypeName,
        size: Size,
        value: B::V,
        depth: u32,
        mut item: impl FnMut(&mut Self, B::V) -> Walk<'s, B::V>,
    ) -> Walk<'s, B::V> {
        self.meter.level(depth)?;
        let mut items = value.items();
        let mut count = 0u32;
        for head in items.by_ref() {
            if count == size.max {
                return self.list_size(name, size, value);
            }
            self.meter.node()?;
            if let Err(stop) = item(self, head) {
                self.list_size(name, size, value)?;
                return Err(stop.below(|| Segment::Index(count)));
            }
            count += 1;
        }
        if count >= size.min && items.is_proper() {
            Ok(())
        } else {
            self.list_size(name, size, value)
        }
    }

    /// A list of strings.
    #[inline]
    pub(super) fn strs<'s>(
        &mut self,
        size: Size,
        value: B::V,
        depth: u32,
        mut item: impl FnMut(&mut Self, &'a [u8]) -> Walk<'s, B::V>,
    ) -> Walk<'s, B::V> {
        let before = self.meter;
        let mut count = 0u32;
        let accepted = value.all_strs(|bytes| {
            count += 1;
            count <= size.max && self.meter.node::<B::V>().is_ok() && item(self, bytes).is_ok()
        });
        if accepted && count >= size.min && self.meter.level::<B::V>(depth).is_ok() {
            return Ok(());
        }
        // The same again, item by item, to find out what is wrong.
        self.meter = before;
        self.items(
            TypeName::StrList,
            size,
            value,
            depth,
            |check, value| match value.as_str() {
                Some(bytes) => item(check, bytes),
                None => Err(unsupported(value, TypeName::Str)),
            },
        )
    }

    pub(super) fn typed_items<'s>(
        &mut self,
        size: Size,
        item: &'s Type,
        value: B::V,
        depth: u32,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        let mut converted: Option<Vec<B::V>> = None;
        let mut count = 0u32;
        self.items(TypeName::List, size, value, depth, |check, head| {
            // Counted here as a value, and by the walk over items: once is enough.
            check.meter.uncount();
            let outcome = check.value(item, head, depth + 1)?;
            match (&mut converted, outcome) {
                (None, None) => {}
                (Some(items), outcome) => items.push(outcome.unwrap_or(head)),
                (None, Some(first)) => {
                    let mut items: Vec<B::V> = value.items().take(count as usize).collect();
                    items.push(first);
                    converted = Some(items);
                }
            }
            count += 1;
            Ok(())
        })?;
        Ok(converted.map(|items| self.build.list(&items)))
    }

    /// What is wrong with a list as a whole, which comes before what is wrong with an item.
    #[cold]
    pub(super) fn list_size<'s>(
        &mut self,
        name: TypeName,
        size: Size,
        list: B::V,
    ) -> Walk<'s, B::V> {
        match self.count(list)? {
            None => Err(mismatch(name, list)),
            Some(count) if count > size.max => Err(Problem::TooManyItems(size.max).into()),
            Some(count) if count < size.min => Err(Problem::TooFewItems(size.min).into()),
            Some(_) => Ok(()),
        }
    }

    /// The length of a proper list.
    pub(super) fn count<'s>(&mut self, list: B::V) -> Walk<'s, B::V, Option<u32>> {
        let mut items = list.items();
        let mut count = 0u32;
        for _ in items.by_ref() {
            self.meter.work(1)?;
            count = count.saturating_add(1);
        }
        Ok(items.is_proper().then_some(count))
    }

    /// An item of a list that takes scalars only.
    pub(super) fn scalar_item<'s>(&mut self, item: B::V, max_length: u32) -> Walk<'s, B::V> {
        match item.view() {
            View::Bool(_) | View::Int(_) | View::BigInt | View::Float(_) => Ok(()),
            View::Str(bytes) => {
                self.utf8(bytes)?;
                if text::longer_than(bytes, max_length) {
                    return Err(Problem::ItemTooLong(max_length).into());
                }
                Ok(())
            }
            View::Nil => Err(Problem::UnsupportedNil.into()),
            _ if !is_json(item) => Err(Problem::NotJson(item).into()),
            View::List => Err(Problem::NestedList.into()),
            _ => Err(Problem::NestedMap.into()),
        }
    }
}

/// An item that a list of one kind of value does not take.
#[cold]
pub(super) fn unsupported<'a, 's, V: Value<'a>>(item: V, taken: TypeName) -> Stop<'s, V> {
    if is_json(item) {
        Problem::UnsupportedItem(item, taken).into()
    } else {
        Problem::NotJson(item).into()
    }
}
