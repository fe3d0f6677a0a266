//! The core's conversions as terms.

use crate::atoms;
use crate::schema::KeptTerms;
use crate::value::Arg;
use gen_api_core::schema::datetime::DateTime;
use gen_api_core::value::Build;
use rustler::types::atom;
use rustler::{Atom, Encoder, Env, Term};

/// Makes converted values in the caller's environment.
pub struct Builder<'a, 'k> {
    pub env: Env<'a>,
    pub kept: &'k KeptTerms,
}

impl<'a> Builder<'a, '_> {
    fn term(&self, value: impl Encoder) -> Arg<'a> {
        Arg(value.encode(self.env))
    }

    fn date_fields(&self, date: &DateTime) -> [(Atom, Term<'a>); 4] {
        [
            (atoms::calendar(), atoms::iso().encode(self.env)),
            (atoms::year(), date.year.encode(self.env)),
            (atoms::month(), date.month.encode(self.env)),
            (atoms::day(), date.day.encode(self.env)),
        ]
    }

    fn time_fields(&self, time: &DateTime) -> [(Atom, Term<'a>); 4] {
        [
            (atoms::hour(), time.hour.encode(self.env)),
            (atoms::minute(), time.minute.encode(self.env)),
            (atoms::second(), time.second.encode(self.env)),
            (
                atoms::microsecond(),
                (time.microsecond, time.precision).encode(self.env),
            ),
        ]
    }

    fn record(&self, name: Atom, fields: &[(Atom, Term<'a>)]) -> Arg<'a> {
        let mut pairs = vec![(atoms::struct_(), name.encode(self.env))];
        pairs.extend_from_slice(fields);
        // The keys are distinct atoms, the one thing that could go wrong.
        let map = Term::map_from_pairs(self.env, &pairs);
        map.map_or_else(|_| self.nil(), Arg)
    }
}

impl<'a> Build<'a> for Builder<'a, '_> {
    type V = Arg<'a>;

    fn nil(&self) -> Arg<'a> {
        self.term(atom::nil())
    }

    fn float(&self, value: f64) -> Arg<'a> {
        self.term(value)
    }

    fn default_value(&self, id: u32) -> Arg<'a> {
        Arg(self.kept.term(self.env, id))
    }

    fn member(&self, id: u32) -> Arg<'a> {
        self.term(self.kept.atom(id))
    }

    fn is_member(&self, id: u32, value: Arg<'a>) -> bool {
        self.kept.atom(id).is_some_and(|atom| atom == value.0)
    }

    fn datetime(&self, date: &DateTime) -> Arg<'a> {
        let zone = [
            (atoms::time_zone(), "Etc/UTC".encode(self.env)),
            (atoms::zone_abbr(), "UTC".encode(self.env)),
            (atoms::utc_offset(), 0.encode(self.env)),
            (atoms::std_offset(), 0.encode(self.env)),
        ];
        let fields = [self.date_fields(date), self.time_fields(date), zone].concat();
        self.record(atoms::datetime(), &fields)
    }

    fn naive_datetime(&self, date: &DateTime) -> Arg<'a> {
        let fields = [self.date_fields(date), self.time_fields(date)].concat();
        self.record(atoms::naive_datetime(), &fields)
    }

    fn date(&self, date: &DateTime) -> Arg<'a> {
        self.record(atoms::date(), &self.date_fields(date))
    }

    fn time(&self, time: &DateTime) -> Arg<'a> {
        let calendar = (atoms::calendar(), atoms::iso().encode(self.env));
        let fields = [&[calendar][..], &self.time_fields(time)[..]].concat();
        self.record(atoms::time(), &fields)
    }

    fn to_utc(&self, value: Arg<'a>) -> Option<Arg<'a>> {
        fn field<'a, T: rustler::Decoder<'a>>(map: Arg<'a>, name: Atom) -> Option<T> {
            map.0.map_get(name).ok()?.decode().ok()
        }
        let (microsecond, precision) = field(value, atoms::microsecond())?;
        let local = DateTime {
            year: field(value, atoms::year())?,
            month: field(value, atoms::month())?,
            day: field(value, atoms::day())?,
            hour: field(value, atoms::hour())?,
            minute: field(value, atoms::minute())?,
            second: field(value, atoms::second())?,
            microsecond,
            precision,
        };
        let utc: i32 = field(value, atoms::utc_offset())?;
        let daylight: i32 = field(value, atoms::std_offset())?;
        let calendar: Atom = field(value, atoms::calendar())?;
        if calendar != atoms::iso() {
            return None;
        }
        let moved = local.to_utc(utc.checked_add(daylight)?)?;
        let zone: &str = field(value, atoms::time_zone())?;
        if zone == "Etc/UTC" {
            Some(value)
        } else {
            Some(self.datetime(&moved))
        }
    }

    fn string(&self, value: &str) -> Arg<'a> {
        self.term(value)
    }

    #[inline]
    fn list(&self, items: &[Arg<'a>]) -> Arg<'a> {
        // Consing from the end needs no array of raw terms.
        let empty = Term::list_new_empty(self.env);
        Arg(items
            .iter()
            .rev()
            .fold(empty, |tail, item| tail.list_prepend(item.0)))
    }

    fn map(&self, keys: &[Arg<'a>], values: &[Arg<'a>]) -> Arg<'a> {
        let raw = |args: &[Arg<'a>]| args.iter().map(|arg| arg.0).collect::<Vec<_>>();
        Term::map_from_term_arrays(self.env, &raw(keys), &raw(values))
            .map_or_else(|_| self.nil(), Arg)
    }
}
