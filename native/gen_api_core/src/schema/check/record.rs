//! Maps whose fields are declared: the arguments themselves, and records among them.
//!
//! What the fields became is kept for all open records together, on one list behind [`Check`]: a
//! record within a record takes none of the stack for it.

use super::super::tree::{Stop, Walk};
use super::super::{Field, Fields, TypeName};
use super::{mismatch, Check, Converted, Problem, Segment};
use crate::value::{Build, Value};
use smallvec::SmallVec;

/// What was sent under a declared name: the key and the value.
type Sent<V> = Option<(V, V)>;

/// A place that no key has.
const NO_KEYS: usize = usize::MAX;

impl<'a, B: Build<'a>> Check<'a, '_, B> {
    /// The values of the declared arguments, in their order: the first of all that are kept.
    pub(super) fn arguments_in_order<'s>(
        &mut self,
        fields: &'s Fields,
        map: B::V,
    ) -> Walk<'s, B::V, bool> {
        // None of these keys is needed again.
        self.fields(fields, map, 1, NO_KEYS)
    }

    /// A map with every declared field; `None` when it is the one given. `depth` is that of
    /// the fields.
    pub(super) fn record<'s>(
        &mut self,
        fields: &'s Fields,
        map: B::V,
        depth: u32,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        let (first, first_key) = (self.values.len(), self.keys.len());
        self.keys.resize(first_key + fields.len(), None);
        let unchanged = self.fields(fields, map, depth, first_key)?;
        let record = if unchanged {
            None
        } else {
            Some(self.make_record(fields, first, first_key)?)
        };
        self.values.truncate(first);
        self.keys.truncate(first_key);
        Ok(record)
    }

    #[inline(never)]
    fn make_record<'s>(
        &mut self,
        fields: &'s Fields,
        first: usize,
        first_key: usize,
    ) -> Walk<'s, B::V, B::V> {
        // To make a map takes some 30 ns an entry.
        let entries = u32::try_from(fields.len()).unwrap_or(u32::MAX);
        self.meter.work(entries.saturating_mul(3))?;
        let sent = self.keys.get(first_key..).unwrap_or_default();
        let key = |(field, sent): (&Field, &Option<B::V>)| {
            sent.unwrap_or_else(|| self.build.string(&field.name))
        };
        let keys: SmallVec<[B::V; 8]> = fields.iter().zip(sent).map(key).collect();
        let values = self.values.get(first..).unwrap_or_default();
        Ok(self.build.map(&keys, values))
    }

    /// Checks the declared fields of a map and keeps what each became, in declared order.
    /// Everything that is not declared is a problem. Returns whether the map holds all fields and
    /// no value became another.
    #[inline]
    fn fields<'s>(
        &mut self,
        fields: &'s Fields,
        map: B::V,
        depth: u32,
        first_key: usize,
    ) -> Walk<'s, B::V, bool> {
        let first = self.values.len();
        self.values.resize(first + fields.len(), map);
        if self.in_order {
            self.fields_in_order(fields, map, depth, (first, first_key))
        } else {
            self.fields_as_they_come(fields, map, depth, (first, first_key))
        }
    }

    fn fields_as_they_come<'s>(
        &mut self,
        fields: &'s Fields,
        map: B::V,
        depth: u32,
        (first, first_key): (usize, usize),
    ) -> Walk<'s, B::V, bool> {
        let mut cursor = 0;
        let mut sent = 0;
        let mut unchanged = true;
        // By reference: moved into the loop, an iterator has a second place on the stack, and is large.
        let mut entries = map.entries();
        for (key, value) in entries.by_ref() {
            let found = key.as_str().and_then(|name| fields.find(name, &mut cursor));
            let Some((place, field)) = found else {
                return Err(Problem::Missing.into());
            };
            let converted = self.value(&field.r#type, value, depth)?;
            unchanged &= converted.is_none();
            self.put(first + place, converted.unwrap_or(value));
            self.put_key(first_key.saturating_add(place), key);
            sent += 1;
        }
        if sent == fields.len() {
            return Ok(unchanged);
        }
        self.absent_fields(fields, map, first)?;
        Ok(false)
    }

    #[inline]
    fn put(&mut self, place: usize, value: B::V) {
        if let Some(slot) = self.values.get_mut(place) {
            *slot = value;
        }
    }

    #[inline]
    fn put_key(&mut self, place: usize, key: B::V) {
        if let Some(slot) = self.keys.get_mut(place) {
            *slot = Some(key);
        }
    }

    #[inline(never)]
    fn absent_fields<'s>(&mut self, fields: &'s Fields, map: B::V, first: usize) -> Walk<'s, B::V> {
        let sent = self.sent(fields, map)?;
        for (place, (field, sent)) in fields.iter().zip(&sent).enumerate() {
            if sent.is_none() {
                let default = self.absent(&field.r#type)?;
                self.put(first + place, default.unwrap_or_else(|| self.build.nil()));
            }
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn fields_in_order<'s>(
        &mut self,
        fields: &'s Fields,
        map: B::V,
        depth: u32,
        (first, first_key): (usize, usize),
    ) -> Walk<'s, B::V, bool> {
        let sent = self.sent(fields, map)?;
        let mut unchanged = true;
        // Arguments have an order that the caller knows, fields have none.
        let by_name = self.by_name || depth > 1;
        for n in 0..fields.len() {
            let Some((place, field)) = fields.nth(n, by_name) else {
                break;
            };
            let sent = sent.get(place).copied().flatten();
            let checked = match sent {
                Some((_key, value)) => self.value(&field.r#type, value, depth),
                None => self.absent(&field.r#type),
            };
            let converted =
                checked.map_err(|stop| stop.below(|| Segment::Name(field.name.clone())))?;
            unchanged &= converted.is_none() && sent.is_some();
            let value = converted.or(sent.map(|(_key, value)| value));
            self.put(first + place, value.unwrap_or_else(|| self.build.nil()));
            if let Some((key, _value)) = sent {
                self.put_key(first_key.saturating_add(place), key);
            }
        }
        Ok(unchanged)
    }

    /// What a map holds under the declared names, in declared order.
    #[inline(never)]
    fn sent<'s>(&mut self, fields: &'s Fields, map: B::V) -> Walk<'s, B::V, Vec<Sent<B::V>>> {
        let mut sent = vec![None; fields.len()];
        let mut cursor = 0;
        for (key, value) in map.entries() {
            let slot = key
                .as_str()
                .and_then(|name| fields.find(name, &mut cursor))
                .and_then(|(place, _field)| sent.get_mut(place));
            match slot {
                Some(slot) => *slot = Some((key, value)),
                None => return Err(self.extra(fields, map)),
            }
        }
        Ok(sent)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn extra<'s>(&mut self, fields: &'s Fields, map: B::V) -> Stop<'s, B::V> {
        if map.is_struct() {
            return mismatch(TypeName::Map, map);
        }
        let mut extra = Vec::new();
        let mut cursor = 0;
        for (key, _value) in map.entries() {
            if let Err(stop) = self.meter.work(2) {
                return stop;
            }
            let declared = key
                .as_str()
                .is_some_and(|name| fields.find(name, &mut cursor).is_some());
            if !declared {
                extra.push(key);
            }
        }
        Problem::Extra(extra).into()
    }
}
