//! Every problem of arguments that a check has refused.
//!
//! The check stops at the first one and is made for those where there is none. This looks at what
//! consists of parts part by part, and has the check look at each of them.

use super::super::problem::{Failure, Problem, Segment};
use super::super::tree::{Meter, Stop, Walk};
use super::super::{Fields, FlatMap, Kind, Schema, Shape, Size, Type, TypeName};
use super::list::unsupported;
use super::map::name_of;
use super::{scalar, Check};
use crate::value::{Build, Value, View};

impl Schema {
    /// Every problem of a map of arguments, at most `max`, in the order in which they count: a
    /// tree limit alone, else undeclared arguments, then the arguments in their order, and so in
    /// each value that has parts with types of their own; of other content only the first. The
    /// first of all is that of [`Schema::check`]; where that is content, there is none.
    ///
    /// `None` if it takes more work than `units`.
    pub fn problems<'s, 'a, B: Build<'a>>(
        &'s self,
        args: B::V,
        build: &B,
        units: u64,
        max: usize,
    ) -> Option<Vec<Failure<'s, B::V>>> {
        let mut every = Every {
            check: Check::new(build, self.limits, units),
            path: Vec::new(),
            found: Vec::new(),
            max,
        };
        every.check.in_order = true;
        let search = match Meter::new(self.limits, units).measure_entries(args, 1) {
            Ok(()) => every.fields(&self.fields, args, 1, self.shape == Shape::Map),
            Err(stop) => every.note(stop),
        };
        match search {
            Ok(()) | Err(Enough::Found) => Some(every.found),
            Err(Enough::OutOfBudget) => None,
        }
    }
}

struct Every<'s, 'a, 'b, B: Build<'a>> {
    check: Check<'a, 'b, B>,
    /// Where the part is that is being looked at.
    path: Vec<Segment>,
    found: Vec<Failure<'s, B::V>>,
    max: usize,
}

/// Why a search stopped ahead of its end.
enum Enough {
    Found,
    OutOfBudget,
}

type Search = Result<(), Enough>;

impl<'s, 'a, B: Build<'a>> Every<'s, 'a, '_, B> {
    fn note(&mut self, stop: Stop<'s, B::V>) -> Search {
        let Stop::Failed(failure) = stop else {
            return Err(Enough::OutOfBudget);
        };
        let Failure { path, problem } = *failure;
        let path = self.path.iter().cloned().chain(path).collect();
        self.found.push(Failure { path, problem });
        if self.found.len() < self.max {
            Ok(())
        } else {
            Err(Enough::Found)
        }
    }

    fn whole<T>(&mut self, checked: Walk<'s, B::V, T>) -> Search {
        checked.map_or_else(|stop| self.note(stop), |_| Ok(()))
    }

    fn below(&mut self, segment: Segment, look: impl FnOnce(&mut Self) -> Search) -> Search {
        self.path.push(segment);
        look(self)?;
        self.path.pop();
        Ok(())
    }

    /// The declared fields of a map, at `depth`, and whatever else is in it.
    fn fields(&mut self, fields: &'s Fields, map: B::V, depth: u32, by_name: bool) -> Search {
        let mut sent = vec![None; fields.len()];
        let mut cursor = 0;
        let mut undeclared = false;
        for (key, value) in map.entries() {
            let counted = self.check.meter.work(1);
            self.whole(counted)?;
            let declared = key
                .as_str()
                .and_then(|name| fields.find(name, &mut cursor))
                .and_then(|(place, _field)| sent.get_mut(place));
            match declared {
                Some(slot) => *slot = Some(value),
                None => undeclared = true,
            }
        }
        if undeclared {
            let extra = self.check.extra(fields, map);
            self.note(extra)?;
            // A record type is no data: none of its fields counts.
            if map.is_struct() {
                return Ok(());
            }
        }
        for n in 0..fields.len() {
            let Some((place, field)) = fields.nth(n, by_name) else {
                break;
            };
            let sent = sent.get(place).copied().flatten();
            self.below(Segment::Name(field.name.clone()), |every| match sent {
                Some(value) => every.value(&field.r#type, value, depth),
                None => {
                    let absent = every.check.absent(&field.r#type);
                    every.whole(absent)
                }
            })?;
        }
        Ok(())
    }

    fn value(&mut self, r#type: &'s Type, value: B::V, depth: u32) -> Search {
        let is_nil = value.view() == View::Nil;
        match &r#type.kind {
            Kind::Record(fields) if value.map_len().is_some() => {
                self.fields(fields, value, depth + 1, true)
            }
            Kind::FlatMap(rule) if value.map_len().is_some() && !value.is_struct() => {
                self.flat_map(rule, value, depth)
            }
            Kind::List { size, item } if !is_nil => {
                self.items(TypeName::List, *size, value, |every, head| {
                    every.value(item, head, depth + 1)
                })
            }
            kind => match list(kind) {
                Some((name, size)) if !is_nil => self.items(name, size, value, |every, head| {
                    let checked = every.item(kind, head, depth);
                    every.whole(checked)
                }),
                _ => {
                    let checked = self.check.value(r#type, value, depth);
                    self.whole(checked)
                }
            },
        }
    }

    /// What is wrong with a list as a whole, else with its items.
    fn items(
        &mut self,
        name: TypeName,
        size: Size,
        value: B::V,
        mut look: impl FnMut(&mut Self, B::V) -> Search,
    ) -> Search {
        if let Err(stop) = self.check.list_size(name, size, value) {
            return self.note(stop);
        }
        for (index, head) in (0u32..).zip(value.items()) {
            self.below(Segment::Index(index), |every| look(every, head))?;
        }
        Ok(())
    }

    /// An item of a list that takes one kind of value.
    fn item(&mut self, kind: &'s Kind, item: B::V, depth: u32) -> Walk<'s, B::V> {
        match (kind, item.as_str()) {
            (Kind::ScalarList { max_length, .. }, _) => self.check.scalar_item(item, *max_length),
            (
                Kind::StrList {
                    max_length,
                    max_bytes,
                    ..
                },
                Some(bytes),
            ) => self.check.text(bytes, *max_length, *max_bytes),
            (Kind::StrList { .. }, None) => Err(unsupported(item, TypeName::Str)),
            (Kind::NumList(_), _) if scalar::is_number(item) => Ok(()),
            (Kind::NumList(_), _) => Err(unsupported(item, TypeName::Num)),
            (Kind::UuidList(_), _) => scalar::uuid(item, || unsupported(item, TypeName::Uuid)),
            _ if item.map_len().is_some() => self.check.json(item, depth + 1),
            _ => Err(unsupported(item, TypeName::Map)),
        }
    }

    fn flat_map(&mut self, rule: &'s FlatMap, map: B::V, depth: u32) -> Search {
        if map.map_len().unwrap_or(0) > rule.max_items as usize {
            return self.note(Problem::TooManyItems(rule.max_items).into());
        }
        let missing = rule.missing(map);
        if !missing.is_empty() {
            self.note(Problem::MissingKeys(missing).into())?;
        }
        let rejected = rule.rejected(map);
        if !rejected.is_empty() {
            self.note(Problem::RejectedKeys(rejected).into())?;
        }
        self.flat_entries(rule, map, depth)
    }

    /// The entries of a flat map, ascending by their keys.
    fn flat_entries(&mut self, rule: &'s FlatMap, map: B::V, depth: u32) -> Search {
        let mut entries = Vec::new();
        for (key, value) in map.entries() {
            let Some(name) = key.as_str() else {
                return self.note(Problem::NotJson(key).into());
            };
            entries.push((name, key, value));
        }
        entries.sort_by_key(|(name, _, _)| *name);
        for (name, key, value) in entries {
            let checked = self.check.utf8(name);
            match checked {
                Ok(()) => self.flat_entry(rule, key, value, depth + 1)?,
                Err(stop) => self.note(stop)?,
            }
        }
        Ok(())
    }

    fn flat_entry(&mut self, rule: &'s FlatMap, key: B::V, value: B::V, depth: u32) -> Search {
        let size = Size {
            max: rule.max_list,
            min: 0,
        };
        match value.view() {
            View::List if self.check.list_size(TypeName::List, size, value).is_ok() => {
                self.below(name_of(key), |every| {
                    every.items(TypeName::List, size, value, |every, item| {
                        let checked = every.check.scalar_item(item, rule.max_length);
                        every.whole(checked)
                    })
                })
            }
            View::Map
                if rule.nested
                    && !value.is_struct()
                    && value.map_len().unwrap_or(0) <= rule.max_items as usize =>
            {
                self.below(name_of(key), |every| every.flat_entries(rule, value, depth))
            }
            _ => {
                let checked = self.check.flat_entry(rule, key, value, depth);
                self.whole(checked)
            }
        }
    }
}

/// The name and size of a list whose items are of one kind of value.
fn list(kind: &Kind) -> Option<(TypeName, Size)> {
    match kind {
        Kind::ScalarList { size, .. } => Some((TypeName::List, *size)),
        Kind::StrList { size, .. } => Some((TypeName::StrList, *size)),
        Kind::NumList(size) => Some((TypeName::NumList, *size)),
        Kind::UuidList(size) => Some((TypeName::UuidList, *size)),
        Kind::MapList(size) => Some((TypeName::MapList, *size)),
        _ => None,
    }
}
