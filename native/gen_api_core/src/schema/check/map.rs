//! Maps whose keys are not declared: flat ones, and any JSON.

use super::super::tree::{Stop, Walk};
use super::super::{text, FlatMap, TypeName};
use super::{is_json, mismatch, Check, Problem, Segment};
use crate::value::{Build, Value, View};
use ahash::AHashSet;

impl<'a, B: Build<'a>> Check<'a, '_, B> {
    /// A map of any JSON content.
    pub(super) fn any_map<'s>(&mut self, max: u32, map: B::V, depth: u32) -> Walk<'s, B::V> {
        match map.map_len() {
            Some(len) if len <= max as usize => self.json(map, depth),
            Some(_) if is_json(map) => Err(Problem::TooManyItems(max).into()),
            _ => Err(mismatch(TypeName::Map, map)),
        }
    }

    pub(super) fn flat_map<'s>(
        &mut self,
        rule: &'s FlatMap,
        map: B::V,
        depth: u32,
    ) -> Walk<'s, B::V> {
        let Some(len) = map.map_len().filter(|_| !map.is_struct()) else {
            return Err(mismatch(TypeName::Map, map));
        };
        self.meter.level(depth)?;
        if len > rule.max_items as usize {
            return Err(Problem::TooManyItems(rule.max_items).into());
        }
        let missing = rule.missing(map);
        if !missing.is_empty() {
            return Err(Problem::MissingKeys(missing).into());
        }
        let rejected = rule.rejected(map);
        if !rejected.is_empty() {
            return Err(Problem::RejectedKeys(rejected).into());
        }
        self.flat_entries(rule, map, depth)
    }

    fn flat_entries<'s>(&mut self, rule: &'s FlatMap, map: B::V, depth: u32) -> Walk<'s, B::V> {
        self.entries(map, |check, key, value| {
            check.flat_entry(rule, key, value, depth + 1)
        })
    }

    pub(super) fn flat_entry<'s>(
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
                self.utf8(bytes).map_err(below)?;
                if text::longer_than(bytes, rule.max_length) {
                    return Err(Problem::EntryTooLong(key, rule.max_length).into());
                }
                Ok(())
            }
            View::List => {
                self.meter.level(depth)?;
                match self.count(value)? {
                    None => Err(Problem::UnsupportedEntry(value, key).into()),
                    Some(count) if count > rule.max_list => {
                        Err(Problem::EntryTooMany(key, rule.max_list).into())
                    }
                    Some(_) => self
                        .each_item(value, |check, item| {
                            check.scalar_item(item, rule.max_length)
                        })
                        .map_err(below),
                }
            }
            View::Nil => Err(Problem::UnsupportedEntry(value, key).into()),
            _ if !is_json(value) => Err(below(Problem::NotJson(value).into())),
            _ if rule.nested => {
                self.meter.level(depth)?;
                if value.map_len().unwrap_or(0) > rule.max_items as usize {
                    return Err(below(Problem::TooManyItems(rule.max_items).into()));
                }
                self.flat_entries(rule, value, depth).map_err(below)
            }
            _ => Err(below(Problem::NestedMap.into())),
        }
    }

    /// Any JSON content.
    pub(super) fn json<'s>(&mut self, value: B::V, depth: u32) -> Walk<'s, B::V> {
        match value.view() {
            View::Nil | View::Bool(_) | View::Int(_) | View::BigInt | View::Float(_) => Ok(()),
            View::Str(bytes) => self.utf8(bytes),
            View::List => {
                self.meter.level(depth)?;
                if self.count(value)?.is_none() {
                    return Err(Problem::NotJson(value).into());
                }
                self.each_item(value, |check, item| check.json(item, depth + 1))
            }
            View::Map => {
                self.meter.level(depth)?;
                self.entries(value, |check, key, value| {
                    check
                        .json(value, depth + 1)
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
        for (index, value) in (0u32..).zip(list.items()) {
            self.meter.node()?;
            item(self, value).map_err(|stop| stop.below(|| Segment::Index(index)))?;
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
        // By reference, for the stack.
        let mut entries = map.entries();
        for (key, value) in entries.by_ref() {
            self.meter.node()?;
            let Some(name) = key.as_str() else {
                let culprit = if map.is_struct() { map } else { key };
                return Err(Problem::NotJson(culprit).into());
            };
            if first.as_ref().is_some_and(|(smallest, _)| name > *smallest) {
                continue;
            }
            let outcome = match self.utf8(name) {
                Ok(()) => entry(self, key, value),
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

impl FlatMap {
    /// Keys that have to be there and are not.
    pub(super) fn missing<'a, V: Value<'a>>(&self, map: V) -> Vec<&str> {
        if self.required.is_empty() {
            return Vec::new();
        }
        let sent: AHashSet<&[u8]> = map.entries().filter_map(|(key, _)| key.as_str()).collect();
        let required = self.required.iter().map(|key| &**key);
        required
            .filter(|key| !sent.contains(key.as_bytes()))
            .collect()
    }

    /// Keys that are there and are not accepted.
    pub(super) fn rejected<'a, V: Value<'a>>(&self, map: V) -> Vec<V> {
        let Some(accept) = &self.accept else {
            return Vec::new();
        };
        let accepted = |key: &V| {
            key.as_str()
                .and_then(|bytes| std::str::from_utf8(bytes).ok())
                .is_some_and(|key| accept.contains(key))
        };
        let keys = map.entries().map(|(key, _)| key);
        keys.filter(|key| !accepted(key)).collect()
    }
}

/// A key that is not UTF-8 is shown with replacement characters.
pub(super) fn name_of<'a, V: Value<'a>>(key: V) -> Segment {
    let bytes = key.as_str().unwrap_or_default();
    Segment::Name(String::from_utf8_lossy(bytes).into())
}
