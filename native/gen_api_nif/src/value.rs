//! Terms seen as the core's values.

use crate::atoms;
use gen_api_core::value::{Big, Cell, DateStruct, Value, View};
use rustler::types::atom;
use rustler::{Atom, Binary, Encoder, MapIterator, Term, TermType};
use std::cmp::Ordering;

/// A term of the caller.
#[derive(Clone, Copy)]
pub struct Arg<'a>(pub Term<'a>);

/// The entries of a map.
pub struct Entries<'a>(Option<MapIterator<'a>>);

impl<'a> Iterator for Entries<'a> {
    type Item = (Arg<'a>, Arg<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.0.as_mut()?.next()?;
        Some((Arg(key), Arg(value)))
    }
}

impl<'a> Value<'a> for Arg<'a> {
    type Entries = Entries<'a>;

    #[inline]
    fn view(self) -> View<'a> {
        match self.0.get_type() {
            TermType::Binary => match Binary::from_term(self.0) {
                Ok(binary) => View::Str(binary.as_slice()),
                Err(_) => View::Other,
            },
            TermType::Integer => self.0.decode().map_or(View::BigInt, View::Int),
            TermType::Float => self.0.decode().map_or(View::Other, View::Float),
            TermType::List => View::List,
            TermType::Map => View::Map,
            TermType::Atom if atom::nil() == self.0 => View::Nil,
            TermType::Atom if atom::true_() == self.0 => View::Bool(true),
            TermType::Atom if atom::false_() == self.0 => View::Bool(false),
            TermType::Atom => View::Atom,
            _ => View::Other,
        }
    }

    #[inline]
    fn next_cell(self) -> Cell<Self> {
        match self.0.list_get_cell() {
            Ok((head, tail)) => Cell::Item(Arg(head), Arg(tail)),
            Err(_) if self.0.is_empty_list() => Cell::End,
            Err(_) => Cell::Improper,
        }
    }

    #[inline]
    fn map_len(self) -> usize {
        self.0.map_size().unwrap_or(0)
    }

    #[inline]
    fn entries(self) -> Entries<'a> {
        Entries(MapIterator::new(self.0))
    }

    fn is_struct(self) -> bool {
        self.struct_name().is_some()
    }

    fn date_struct(self) -> Option<DateStruct> {
        let name = self.struct_name()?;
        if name == atoms::datetime() {
            Some(DateStruct::DateTime)
        } else if name == atoms::naive_datetime() {
            Some(DateStruct::NaiveDateTime)
        } else {
            None
        }
    }

    fn cmp_int(self, other: i64) -> Ordering {
        self.0.cmp(&other.encode(self.0.get_env()))
    }

    fn cmp_float(self, other: f64) -> Ordering {
        self.0.cmp(&other.encode(self.0.get_env()))
    }

    fn big(self) -> Option<Big> {
        from_external(&self.0.to_binary())
    }
}

impl Arg<'_> {
    fn struct_name(self) -> Option<Atom> {
        self.0.map_get(atoms::struct_()).ok()?.decode().ok()
    }
}

/// Reads SMALL_BIG_EXT and LARGE_BIG_EXT of the external term format.
fn from_external(external: &[u8]) -> Option<Big> {
    match external {
        [131, 110, _, sign, magnitude @ ..] | [131, 111, _, _, _, _, sign, magnitude @ ..] => {
            Some(Big {
                negative: *sign != 0,
                magnitude: magnitude.into(),
            })
        }
        _ => None,
    }
}
