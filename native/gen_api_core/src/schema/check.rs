//! Checking and converting arguments.

use super::number::big_to_f64;
use super::problem::{Failure, Problem, Segment};
use super::tree::{Meter, Stop, Walk};
use super::{
    datetime, text, Fields, FlatMap, Kind, Member, Members, Range, Schema, Shape, Size, StrRule,
    Type, TypeName,
};
use crate::value::{Build, Cell, DateStruct, Value, View};
use smallvec::SmallVec;
use std::cmp::Ordering;

/// The outcome of a check.
#[derive(Debug)]
pub enum Outcome<'s, V> {
    /// The call arguments: one list in the order or shape declared.
    Valid(V),
    /// The first problem.
    Invalid(Box<Failure<'s, V>>),
    /// The arguments are too large to be checked with the work allowed; nothing is known
    /// about them. Check them where more work is allowed.
    OutOfBudget,
}

/// `None` when the value needs no conversion.
type Converted<V> = Option<V>;

/// Values by their place; four covers most functions without an allocation.
type Slots<V> = SmallVec<[V; 8]>;

/// What was sent under a declared name: the key and the value.
type Sent<V> = Option<(V, V)>;

impl Schema {
    /// Checks a map of arguments and converts it into the list of call arguments.
    ///
    /// `units` bounds the work: one is about 10 ns. Cost is linear in the size of the
    /// arguments, which the schema's tree limits bound.
    pub fn check<'s, 'a, B: Build<'a>>(
        &'s self,
        args: B::V,
        build: &B,
        units: u32,
    ) -> Outcome<'s, B::V> {
        let mut check = Check {
            build,
            meter: Meter::new(self.limits, units),
        };
        match check.arguments(self, args) {
            Ok(list) => Outcome::Valid(list),
            Err(Stop::OutOfBudget) => Outcome::OutOfBudget,
            Err(Stop::Failed(failure)) => {
                // The successful walk has counted every value; the failed one has not.
                let mut meter = Meter::new(self.limits, units);
                match meter.measure_entries(args, 1) {
                    Ok(()) => Outcome::Invalid(failure),
                    Err(Stop::OutOfBudget) => Outcome::OutOfBudget,
                    Err(Stop::Failed(limit)) => Outcome::Invalid(limit),
                }
            }
        }
    }
}

impl Type {
    /// Converts one value by itself, such as a default value; `None` when it stays as it is.
    pub fn convert<'s, 'a, B: Build<'a>>(
        &'s self,
        value: B::V,
        build: &B,
        limits: super::TreeLimits,
    ) -> Result<Option<B::V>, Box<Failure<'s, B::V>>> {
        let mut check = Check {
            build,
            meter: Meter::new(limits, u32::MAX),
        };
        match check.value(self, value, 1) {
            Ok(converted) => Ok(converted),
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::OutOfBudget) => Err(Failure::new(Problem::TooManyNodes(limits.max_nodes))),
        }
    }
}

struct Check<'b, B> {
    build: &'b B,
    meter: Meter,
}

impl<'a, B: Build<'a>> Check<'_, B> {
    fn arguments<'s>(&mut self, schema: &'s Schema, args: B::V) -> Walk<'s, B::V, B::V> {
        let fields = &schema.fields;
        let slots = self.slots(fields, args)?;
        let mut values: Slots<B::V> = SmallVec::with_capacity(fields.len());
        match schema.shape {
            Shape::List => {
                for (field, sent) in fields.iter().zip(&slots) {
                    let value = sent.map(|(_key, value)| value);
                    let converted = self.field(field, value, 1)?;
                    values.push(converted.or(value).unwrap_or_else(|| self.build.nil()));
                }
                Ok(self.build.list(&values))
            }
            Shape::Map => {
                let map = self.record(fields, args, &slots, 1)?;
                Ok(self.build.list(&[map.unwrap_or(args)]))
            }
        }
    }

    /// The values sent under the declared names, in declared order, each with its key.
    fn slots<'s>(&mut self, fields: &'s Fields, map: B::V) -> Walk<'s, B::V, Slots<Sent<B::V>>> {
        let mut slots = SmallVec::from_elem(None, fields.len());
        let mut cursor = 0;
        let mut found = 0;
        let len = map.map_len();
        if len <= fields.len() {
            for (key, value) in map.entries() {
                let View::Str(name) = key.view() else { break };
                let Some(slot) = fields
                    .find(name, &mut cursor)
                    .and_then(|index| slots.get_mut(index))
                else {
                    break;
                };
                *slot = Some((key, value));
                found += 1;
            }
        }
        if found == len {
            Ok(slots)
        } else {
            Err(self.extra(fields, map)?.into())
        }
    }

    fn extra<'s>(&mut self, fields: &'s Fields, map: B::V) -> Walk<'s, B::V, Problem<'s, B::V>> {
        let mut extra = Vec::new();
        let mut cursor = 0;
        for (key, _value) in map.entries() {
            self.meter.work(2)?;
            let declared =
                matches!(key.view(), View::Str(name) if fields.find(name, &mut cursor).is_some());
            if !declared {
                extra.push(key);
            }
        }
        Ok(Problem::Extra(extra))
    }

    /// One argument or field, absent or not.
    #[inline]
    fn field<'s>(
        &mut self,
        field: &'s super::Field,
        value: Option<B::V>,
        depth: u32,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        let outcome = match value {
            Some(value) => self.value(&field.r#type, value, depth),
            None => self.absent(&field.r#type),
        };
        outcome.map_err(|stop| stop.below(|| Segment::Name(field.name.clone())))
    }

    fn absent<'s>(&mut self, r#type: &'s Type) -> Walk<'s, B::V, Converted<B::V>> {
        match r#type.default {
            Some(id) => Ok(Some(self.build.default_value(id))),
            None if r#type.allow_nil => Ok(None),
            None => Err(Problem::Missing.into()),
        }
    }

    fn value<'s>(
        &mut self,
        r#type: &'s Type,
        value: B::V,
        depth: u32,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        self.meter.node()?;
        let view = value.view();
        if view == View::Nil {
            return if r#type.allow_nil {
                Ok(None)
            } else {
                Err(Problem::Missing.into())
            };
        }
        match &r#type.kind {
            Kind::Str(rule) => self.string(rule, value, view),
            Kind::Num(range) => match view {
                View::Int(_) | View::BigInt | View::Float(_) => in_range(range, value),
                _ => Err(mismatch(TypeName::Num, value, view)),
            },
            Kind::Integer(range) => match view {
                View::Int(_) | View::BigInt => in_range(range, value),
                _ => Err(mismatch(TypeName::Integer, value, view)),
            },
            Kind::Float(range) => self.float(range, value, view),
            Kind::Boolean => match view {
                View::Bool(_) => Ok(None),
                _ => Err(mismatch(TypeName::Boolean, value, view)),
            },
            Kind::Enum(members) => self.member(members, value, view),
            Kind::Uuid => match view {
                View::Str(bytes) if text::is_uuid(bytes) => Ok(None),
                View::Str(_) => Err(Problem::NotUuid.into()),
                _ => Err(mismatch(TypeName::Uuid, value, view)),
            },
            Kind::DateTime => self.datetime(TypeName::DateTime, value, view),
            Kind::NaiveDateTime => self.datetime(TypeName::NaiveDateTime, value, view),
            Kind::Any => self.json(value, view, depth).map(|()| None),
            Kind::ScalarList { size, max_length } => {
                self.items(TypeName::List, *size, value, view, depth, |check, item| {
                    check.scalar_item(item, *max_length)
                })
            }
            Kind::StrList {
                size,
                max_length,
                max_bytes,
            } => self.items(
                TypeName::StrList,
                *size,
                value,
                view,
                depth,
                |check, item| match item.view() {
                    View::Str(bytes) => check.text(bytes, *max_length, *max_bytes).map(|_| ()),
                    view => Err(unsupported(item, view)),
                },
            ),
            Kind::NumList(size) => self.items(
                TypeName::NumList,
                *size,
                value,
                view,
                depth,
                |_, item| match item.view() {
                    View::Int(_) | View::BigInt | View::Float(_) => Ok(()),
                    view => Err(unsupported(item, view)),
                },
            ),
            Kind::UuidList(size) => self.items(
                TypeName::UuidList,
                *size,
                value,
                view,
                depth,
                |_, item| match item.view() {
                    View::Str(bytes) if text::is_uuid(bytes) => Ok(()),
                    View::Str(_) => Err(Problem::NotUuid.into()),
                    view => Err(unsupported(item, view)),
                },
            ),
            Kind::MapList(size) => self.items(
                TypeName::MapList,
                *size,
                value,
                view,
                depth,
                |check, item| match item.view() {
                    View::Map if !item.is_struct() => check.json(item, View::Map, depth + 1),
                    view => Err(unsupported(item, view)),
                },
            ),
            Kind::List { size, item } => self.typed_items(*size, item, value, view, depth),
            Kind::AnyMap(max) => {
                self.map(value, view, depth)?;
                if value.map_len() > *max as usize {
                    return Err(Problem::TooManyItems(*max).into());
                }
                self.json(value, view, depth).map(|()| None)
            }
            Kind::FlatMap(rule) => {
                self.map(value, view, depth)?;
                self.flat_map(rule, value, depth).map(|()| None)
            }
            Kind::Record(fields) => {
                self.map(value, view, depth)?;
                let slots = self.slots(fields, value)?;
                self.record(fields, value, &slots, depth + 1)
            }
        }
    }

    fn string<'s>(
        &mut self,
        rule: &'s StrRule,
        value: B::V,
        view: View<'a>,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        let View::Str(bytes) = view else {
            return Err(mismatch(TypeName::Str, value, view));
        };
        let text = self.text(bytes, rule.max_length, rule.max_bytes)?;
        if rule.min_length > 0 && text::shorter_than(text, rule.min_length) {
            return Err(Problem::TooShort(rule.min_length).into());
        }
        if let Some(format) = &rule.format {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            self.meter
                .work(length.saturating_mul(format.units_per_byte()))?;
            if !format.matches(bytes) {
                return Err(Problem::Format.into());
            }
        }
        Ok(None)
    }

    #[inline]
    fn text<'s>(
        &mut self,
        bytes: &'a [u8],
        max_length: u32,
        max_bytes: Option<u32>,
    ) -> Walk<'s, B::V, &'a str> {
        if let Some(max) = max_bytes {
            if bytes.len() > max as usize {
                return Err(Problem::TooManyBytes(max).into());
            }
        }
        let text = self.utf8(bytes)?;
        if text::longer_than(text, max_length) {
            return Err(Problem::TooLong(max_length).into());
        }
        Ok(text)
    }

    #[inline]
    fn utf8<'s>(&mut self, bytes: &'a [u8]) -> Walk<'s, B::V, &'a str> {
        self.meter.bytes(bytes.len())?;
        text::utf8(bytes).ok_or_else(|| Problem::NotUtf8.into())
    }

    fn float<'s>(
        &mut self,
        range: &'s Range,
        value: B::V,
        view: View<'a>,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        match view {
            View::Float(_) => in_range(range, value),
            View::Int(_) | View::BigInt => {
                #[allow(clippy::cast_precision_loss)]
                let float = match view {
                    View::Int(integer) => Some(integer as f64),
                    _ => value.big().as_ref().and_then(big_to_f64),
                };
                let Some(float) = float else {
                    return Err(mismatch(TypeName::Float, value, view));
                };
                in_range(range, value)?;
                Ok(Some(self.build.float(float)))
            }
            _ => Err(mismatch(TypeName::Float, value, view)),
        }
    }

    fn member<'s>(
        &mut self,
        members: &'s Members,
        value: B::V,
        view: View<'a>,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        let listed = &members.listed;
        let found = match view {
            View::Str(bytes) => {
                self.meter.bytes(bytes.len())?;
                match std::str::from_utf8(bytes)
                    .ok()
                    .and_then(|t| members.by_text(t))
                {
                    Some(Member::Atom(_, id)) => return Ok(Some(self.build.member(*id))),
                    member => member.is_some(),
                }
            }
            View::Int(i) => listed.contains(&Member::Int(i)),
            View::BigInt => value
                .big()
                .is_some_and(|big| listed.contains(&Member::Big(big))),
            View::Float(f) => listed.contains(&Member::Float(f)),
            View::Bool(b) => listed.contains(&Member::Bool(b)),
            View::Atom => listed.iter().any(
                |member| matches!(member, Member::Atom(_, id) if self.build.is_member(*id, value)),
            ),
            _ => false,
        };
        if found {
            return Ok(None);
        }
        match view {
            View::Atom | View::Other => Err(Problem::NotJson(value).into()),
            View::Map if value.is_struct() => Err(Problem::NotJson(value).into()),
            _ => Err(Problem::NotMember(members.shown).into()),
        }
    }

    fn datetime<'s>(
        &mut self,
        name: TypeName,
        value: B::V,
        view: View<'a>,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        let utc = name == TypeName::DateTime;
        match view {
            View::Str(bytes) => {
                let parsed = if utc {
                    datetime::parse_utc(bytes)
                } else {
                    datetime::parse_naive(bytes)
                };
                match parsed {
                    Ok(date) if utc => Ok(Some(self.build.datetime(&date))),
                    Ok(date) => Ok(Some(self.build.naive_datetime(&date))),
                    Err(error) => Err(Problem::NotDate(name, value, error).into()),
                }
            }
            View::Map => match (value.date_struct(), utc) {
                (Some(DateStruct::DateTime), true) => match self.build.to_utc(value) {
                    Some(date) => Ok(Some(date)),
                    None => Err(Problem::WrongType(name, value).into()),
                },
                (Some(DateStruct::NaiveDateTime), false) => Ok(None),
                (Some(_), _) => Err(Problem::WrongType(name, value).into()),
                (None, _) => Err(mismatch(name, value, view)),
            },
            _ => Err(mismatch(name, value, view)),
        }
    }

    /// A list whose items are checked but never converted.
    fn items<'s>(
        &mut self,
        name: TypeName,
        size: Size,
        value: B::V,
        view: View<'a>,
        depth: u32,
        mut item: impl FnMut(&mut Self, B::V) -> Walk<'s, B::V>,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        self.list(name, size, value, view, depth)?;
        let mut rest = value;
        let mut index = 0u32;
        while let Cell::Item(head, tail) = rest.next_cell() {
            self.meter.node()?;
            item(self, head).map_err(|stop| stop.below(|| Segment::Index(index)))?;
            index += 1;
            rest = tail;
        }
        Ok(None)
    }

    fn typed_items<'s>(
        &mut self,
        size: Size,
        item: &'s Type,
        value: B::V,
        view: View<'a>,
        depth: u32,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        self.list(TypeName::List, size, value, view, depth)?;
        let mut converted: Option<Vec<B::V>> = None;
        let mut rest = value;
        let mut index = 0u32;
        while let Cell::Item(head, tail) = rest.next_cell() {
            let outcome = self
                .value(item, head, depth + 1)
                .map_err(|stop| stop.below(|| Segment::Index(index)))?;
            match (&mut converted, outcome) {
                (None, None) => {}
                (Some(items), outcome) => items.push(outcome.unwrap_or(head)),
                (None, Some(first)) => {
                    let mut items = leading_items(value, index);
                    items.push(first);
                    converted = Some(items);
                }
            }
            index += 1;
            rest = tail;
        }
        Ok(converted.map(|items| self.build.list(&items)))
    }

    /// A proper list of an accepted size. Its length is counted first, no further than the
    /// limit, so that an endless-looking list costs no more than a full one.
    fn list<'s>(
        &mut self,
        name: TypeName,
        size: Size,
        value: B::V,
        view: View<'a>,
        depth: u32,
    ) -> Walk<'s, B::V> {
        if view != View::List {
            return Err(mismatch(name, value, view));
        }
        self.meter.level(depth)?;
        let mut count = 0u32;
        let mut rest = value;
        loop {
            match rest.next_cell() {
                Cell::Item(_, tail) if count < size.max => {
                    count += 1;
                    rest = tail;
                }
                Cell::Item(..) => {
                    return if self.is_proper(rest)? {
                        Err(Problem::TooManyItems(size.max).into())
                    } else {
                        Err(Problem::WrongType(name, value).into())
                    };
                }
                Cell::Improper => return Err(Problem::WrongType(name, value).into()),
                Cell::End => break,
            }
        }
        self.meter.work(count / 4)?;
        if count < size.min {
            return Err(Problem::TooFewItems(size.min).into());
        }
        Ok(())
    }

    fn is_proper<'s>(&mut self, list: B::V) -> Walk<'s, B::V, bool> {
        let mut rest = list;
        loop {
            match rest.next_cell() {
                Cell::Item(_, tail) => {
                    self.meter.work(1)?;
                    rest = tail;
                }
                Cell::End => return Ok(true),
                Cell::Improper => return Ok(false),
            }
        }
    }

    fn map<'s>(&mut self, value: B::V, view: View<'a>, depth: u32) -> Walk<'s, B::V> {
        if view != View::Map || value.is_struct() {
            return Err(mismatch(TypeName::Map, value, view));
        }
        self.meter.level(depth)
    }

    fn scalar_item<'s>(&mut self, item: B::V, max_length: u32) -> Walk<'s, B::V> {
        match item.view() {
            View::Bool(_) | View::Int(_) | View::BigInt | View::Float(_) => Ok(()),
            View::Str(bytes) => {
                let text = self.utf8(bytes)?;
                if text::longer_than(text, max_length) {
                    return Err(Problem::ItemTooLong.into());
                }
                Ok(())
            }
            View::Nil => Err(Problem::UnsupportedNil.into()),
            View::Map if item.is_struct() => Err(Problem::NotJson(item).into()),
            View::Map => Err(Problem::NestedMap.into()),
            View::List => Err(Problem::NestedList.into()),
            View::Atom | View::Other => Err(Problem::NotJson(item).into()),
        }
    }

    /// A map with exactly the declared fields; absent ones are filled in. `depth` is that
    /// of the fields.
    fn record<'s>(
        &mut self,
        fields: &'s Fields,
        map: B::V,
        slots: &[Sent<B::V>],
        depth: u32,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        let mut values: Slots<Option<B::V>> = SmallVec::from_elem(None, fields.len());
        let mut changed = false;
        for (index, field) in fields.by_name() {
            let value = slots
                .get(index)
                .copied()
                .flatten()
                .map(|(_key, value)| value);
            let converted = self.field(field, value, depth)?;
            changed |= converted.is_some() || value.is_none();
            if let Some(slot) = values.get_mut(index) {
                *slot = converted.or(value);
            }
        }
        if !changed {
            return Ok(None);
        }
        debug_assert!(map.map_len() <= fields.len());
        let (keys, values): (Slots<B::V>, Slots<B::V>) = fields
            .iter()
            .zip(slots)
            .zip(values)
            .map(|((field, sent), value)| {
                let key = sent.map_or_else(|| self.build.string(&field.name), |(key, _)| key);
                (key, value.unwrap_or_else(|| self.build.nil()))
            })
            .unzip();
        Ok(Some(self.build.map(&keys, &values)))
    }

    fn flat_map<'s>(&mut self, rule: &'s FlatMap, map: B::V, depth: u32) -> Walk<'s, B::V> {
        if map.map_len() > rule.max_items as usize {
            return Err(Problem::TooManyItems(rule.max_items).into());
        }
        if !rule.required.is_empty() {
            let sent: ahash::AHashSet<&[u8]> =
                map.entries().filter_map(|(key, _)| text_of(key)).collect();
            let missing: Vec<&str> = rule
                .required
                .iter()
                .map(|key| &**key)
                .filter(|key| !sent.contains(key.as_bytes()))
                .collect();
            if !missing.is_empty() {
                return Err(Problem::MissingKeys(missing).into());
            }
        }
        if let Some(accept) = &rule.accept {
            let rejected: Vec<B::V> = map
                .entries()
                .map(|(key, _)| key)
                .filter(|key| {
                    !text_of(*key)
                        .and_then(|bytes| std::str::from_utf8(bytes).ok())
                        .is_some_and(|key| accept.contains(key))
                })
                .collect();
            if !rejected.is_empty() {
                return Err(Problem::RejectedKeys(rejected).into());
            }
        }
        self.flat_entries(rule, map, depth)
    }

    fn flat_entries<'s>(&mut self, rule: &'s FlatMap, map: B::V, depth: u32) -> Walk<'s, B::V> {
        self.entries(map, |check, key, value| {
            check.flat_entry(rule, key, value, depth + 1)
        })
    }

    fn flat_entry<'s>(
        &mut self,
        rule: &'s FlatMap,
        key: B::V,
        value: B::V,
        depth: u32,
    ) -> Walk<'s, B::V> {
        let below = |stop: Stop<'s, B::V>| stop.below(|| name_of(key));
        match value.view() {
            View::Bool(_) | View::Int(_) | View::BigInt | View::Float(_) => Ok(()),
            View::Str(bytes) => {
                let text = self.utf8(bytes).map_err(below)?;
                if text::longer_than(text, rule.max_length) {
                    return Err(Problem::EntryTooLong(key).into());
                }
                Ok(())
            }
            View::List => {
                self.meter.level(depth)?;
                let mut count = 0u32;
                let mut rest = value;
                loop {
                    match rest.next_cell() {
                        Cell::Item(..) if count >= rule.max_list => {
                            return Err(if self.is_proper(rest)? {
                                Problem::EntryTooMany(key).into()
                            } else {
                                Problem::UnsupportedEntry(value, key).into()
                            });
                        }
                        Cell::Item(_, tail) => {
                            count += 1;
                            rest = tail;
                        }
                        Cell::Improper => return Err(Problem::UnsupportedEntry(value, key).into()),
                        Cell::End => break,
                    }
                }
                self.each_item(value, |check, item| {
                    check.scalar_item(item, rule.max_length)
                })
                .map_err(below)
            }
            View::Map if value.is_struct() => Err(below(Problem::NotJson(value).into())),
            View::Map if rule.nested => {
                self.meter.level(depth)?;
                self.flat_entries(rule, value, depth).map_err(below)
            }
            View::Map => Err(below(Problem::NestedMap.into())),
            View::Nil => Err(Problem::UnsupportedEntry(value, key).into()),
            View::Atom | View::Other => Err(below(Problem::NotJson(value).into())),
        }
    }

    /// Any JSON content.
    fn json<'s>(&mut self, value: B::V, view: View<'a>, depth: u32) -> Walk<'s, B::V> {
        match view {
            View::Nil | View::Bool(_) | View::Int(_) | View::BigInt | View::Float(_) => Ok(()),
            View::Str(bytes) => self.utf8(bytes).map(|_| ()),
            View::List => {
                self.meter.level(depth)?;
                if !self.is_proper(value)? {
                    return Err(Problem::NotJson(value).into());
                }
                self.each_item(value, |check, item| {
                    check.json(item, item.view(), depth + 1)
                })
            }
            View::Map if value.is_struct() => Err(Problem::NotJson(value).into()),
            View::Map => {
                self.meter.level(depth)?;
                self.entries(value, |check, key, value| {
                    check
                        .json(value, value.view(), depth + 1)
                        .map_err(|stop| stop.below(|| name_of(key)))
                })
            }
            View::Atom | View::Other => Err(Problem::NotJson(value).into()),
        }
    }

    fn each_item<'s>(
        &mut self,
        list: B::V,
        mut item: impl FnMut(&mut Self, B::V) -> Walk<'s, B::V>,
    ) -> Walk<'s, B::V> {
        let mut rest = list;
        let mut index = 0u32;
        while let Cell::Item(head, tail) = rest.next_cell() {
            self.meter.node()?;
            item(self, head).map_err(|stop| stop.below(|| Segment::Index(index)))?;
            index += 1;
            rest = tail;
        }
        Ok(())
    }

    /// Each entry of a map whose keys must be strings. A large map has no order, so of
    /// several problems the one under the smallest key is reported.
    fn entries<'s>(
        &mut self,
        map: B::V,
        mut entry: impl FnMut(&mut Self, B::V, B::V) -> Walk<'s, B::V>,
    ) -> Walk<'s, B::V> {
        let mut first: Option<(&'a [u8], Stop<'s, B::V>)> = None;
        for (key, value) in map.entries() {
            self.meter.node()?;
            let Some(name) = text_of(key) else {
                return Err(Problem::NotJson(key).into());
            };
            if first.as_ref().is_some_and(|(smallest, _)| name > *smallest) {
                continue;
            }
            let outcome = match self.utf8(name) {
                Ok(_) => entry(self, key, value),
                Err(stop) => Err(stop),
            };
            match outcome {
                Ok(()) => {}
                Err(Stop::OutOfBudget) => return Err(Stop::OutOfBudget),
                Err(stop) => first = Some((name, stop)),
            }
        }
        match first {
            None => Ok(()),
            Some((_, stop)) => Err(stop),
        }
    }
}

impl<V> Stop<'_, V> {
    /// The failure lies below this segment. The path is built on the way up, so success
    /// pays nothing for it.
    #[cold]
    fn below(mut self, segment: impl FnOnce() -> Segment) -> Self {
        if let Stop::Failed(failure) = &mut self {
            failure.path.insert(0, segment());
        }
        self
    }
}

fn in_range<'a, 's, V: Value<'a>>(range: &'s Range, value: V) -> Walk<'s, V, Converted<V>> {
    if range.is_open() {
        return Ok(None);
    }
    match range.violated(value) {
        None => Ok(None),
        Some((Ordering::Less, min)) => Err(Problem::BelowMin(min).into()),
        Some((_, max)) => Err(Problem::AboveMax(max).into()),
    }
}

/// A value of another type, or of no type that JSON has.
fn mismatch<'a, 's, V: Value<'a>>(name: TypeName, value: V, view: View<'a>) -> Stop<'s, V> {
    match view {
        View::Atom | View::Other => Problem::NotJson(value).into(),
        View::Map if value.is_struct() => Problem::NotJson(value).into(),
        _ => Problem::WrongType(name, value).into(),
    }
}

fn unsupported<'a, 's, V: Value<'a>>(item: V, view: View<'a>) -> Stop<'s, V> {
    match view {
        View::Atom | View::Other => Problem::NotJson(item).into(),
        View::Map if item.is_struct() => Problem::NotJson(item).into(),
        _ => Problem::UnsupportedItem(item).into(),
    }
}

fn text_of<'a, V: Value<'a>>(key: V) -> Option<&'a [u8]> {
    match key.view() {
        View::Str(bytes) => Some(bytes),
        _ => None,
    }
}

/// A key that is not UTF-8 is shown with replacement characters.
fn name_of<'a, V: Value<'a>>(key: V) -> Segment {
    let name = text_of(key).map_or_else(String::new, |bytes| {
        String::from_utf8_lossy(bytes).into_owned()
    });
    Segment::Name(name.into_boxed_str())
}

fn leading_items<'a, V: Value<'a>>(list: V, count: u32) -> Vec<V> {
    let mut items = Vec::with_capacity(count as usize + 1);
    let mut rest = list;
    while items.len() < count as usize {
        let Cell::Item(head, tail) = rest.next_cell() else {
            break;
        };
        items.push(head);
        rest = tail;
    }
    items
}
