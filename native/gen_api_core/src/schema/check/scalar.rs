//! Strings, numbers, enums, dates.

use super::super::number::big_to_f64;
use super::super::tree::{Stop, Walk};
use super::super::{datetime, text, Member, Members, Range, StrRule, TypeName};
use super::{is_json, mismatch, Check, Converted, Problem};
use crate::value::{Build, DateStruct, Value, View};
use std::cmp::Ordering;

/// Units that it takes to make a date.
const DATE: u32 = 40;

impl<'a, B: Build<'a>> Check<'a, '_, B> {
    #[inline]
    pub(super) fn string<'s>(&mut self, rule: &'s StrRule, value: B::V) -> Walk<'s, B::V> {
        let Some(bytes) = value.as_str() else {
            return Err(mismatch(TypeName::Str, value));
        };
        self.text(bytes, rule.max_length, rule.max_bytes)?;
        if rule.min_length > 0 && text::shorter_than(bytes, rule.min_length) {
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
        Ok(())
    }

    #[inline]
    pub(super) fn text<'s>(
        &mut self,
        bytes: &'a [u8],
        max_length: u32,
        max_bytes: Option<u32>,
    ) -> Walk<'s, B::V> {
        if let Some(max) = max_bytes {
            if bytes.len() > max as usize {
                return Err(Problem::TooManyBytes(max).into());
            }
        }
        self.utf8(bytes)?;
        if text::longer_than(bytes, max_length) {
            return Err(Problem::TooLong(max_length).into());
        }
        Ok(())
    }

    #[inline]
    pub(super) fn utf8<'s>(&mut self, bytes: &'a [u8]) -> Walk<'s, B::V> {
        self.meter.bytes(bytes.len())?;
        if text::is_utf8(bytes) {
            Ok(())
        } else {
            Err(Problem::NotUtf8.into())
        }
    }

    pub(super) fn float<'s>(
        &mut self,
        range: &'s Range,
        value: B::V,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        if value.as_float().is_some() {
            return in_range(range, value).map(|()| None);
        }
        #[allow(clippy::cast_precision_loss)]
        let float = match value.view() {
            View::Int(integer) => Some(integer as f64),
            View::BigInt => value.big().as_ref().and_then(big_to_f64),
            _ => None,
        };
        let Some(float) = float else {
            return Err(mismatch(TypeName::Float, value));
        };
        in_range(range, value)?;
        Ok(Some(self.build.float(float)))
    }

    pub(super) fn member<'s>(
        &mut self,
        members: &'s Members,
        value: B::V,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        let listed = &members.listed;
        let found = match value.view() {
            View::Str(bytes) => {
                self.meter.bytes(bytes.len())?;
                match std::str::from_utf8(bytes)
                    .ok()
                    .and_then(|text| members.by_text(text))
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
            Ok(None)
        } else if is_json(value) {
            self.meter.work(members.shown.units)?;
            Err(Problem::NotMember(members.shown.id).into())
        } else {
            Err(Problem::NotJson(value).into())
        }
    }

    pub(super) fn date<'s>(
        &mut self,
        name: TypeName,
        value: B::V,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        if let Some(text) = value.as_str() {
            self.meter.work(DATE)?;
            let build = self.build;
            let made = match name {
                TypeName::DateTime => datetime::parse_utc(text).map(|date| build.datetime(&date)),
                TypeName::Date => datetime::parse_date(text).map(|date| build.date(&date)),
                TypeName::Time => datetime::parse_time(text).map(|time| build.time(&time)),
                _naive => datetime::parse_naive(text).map(|date| build.naive_datetime(&date)),
            };
            return match made {
                Ok(date) => Ok(Some(date)),
                Err(error) => Err(Problem::NotDate(name, value, error).into()),
            };
        }
        // Callers in Elixir may have the struct already.
        match (value.date_struct(), name) {
            (Some(DateStruct::DateTime), TypeName::DateTime) => match self.build.to_utc(value) {
                Some(date) => Ok(Some(date)),
                None => Err(Problem::NotJson(value).into()),
            },
            (Some(DateStruct::NaiveDateTime), TypeName::NaiveDateTime)
            | (Some(DateStruct::Date), TypeName::Date)
            | (Some(DateStruct::Time), TypeName::Time) => Ok(None),
            (Some(DateStruct::DateTime | DateStruct::NaiveDateTime), _) => {
                Err(Problem::WrongType(name, value).into())
            }
            _ => Err(mismatch(name, value)),
        }
    }
}

#[inline]
pub(super) fn is_number<'a, V: Value<'a>>(value: V) -> bool {
    value.as_int().is_some() || value.as_float().is_some() || value.view() == View::BigInt
}

#[inline]
pub(super) fn number<'a, 's, V: Value<'a>>(range: &'s Range, value: V) -> Walk<'s, V> {
    if is_number(value) {
        in_range(range, value)
    } else {
        Err(mismatch(TypeName::Num, value))
    }
}

#[inline]
pub(super) fn integer<'a, 's, V: Value<'a>>(range: &'s Range, value: V) -> Walk<'s, V> {
    if value.as_int().is_some() || value.view() == View::BigInt {
        in_range(range, value)
    } else {
        Err(mismatch(TypeName::Integer, value))
    }
}

#[inline]
pub(super) fn uuid<'a, 's, V: Value<'a>>(
    value: V,
    no_string: impl FnOnce() -> Stop<'s, V>,
) -> Walk<'s, V> {
    match value.as_str() {
        Some(bytes) if text::is_uuid(bytes) => Ok(()),
        Some(_) => Err(Problem::NotUuid.into()),
        None => Err(no_string()),
    }
}

#[inline]
fn in_range<'a, 's, V: Value<'a>>(range: &'s Range, value: V) -> Walk<'s, V> {
    if range.is_open() {
        return Ok(());
    }
    match range.violated(value) {
        None => Ok(()),
        Some((Ordering::Less, min)) => Err(Problem::BelowMin(min).into()),
        Some((_, max)) => Err(Problem::AboveMax(max).into()),
    }
}
