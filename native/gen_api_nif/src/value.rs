//! Terms seen as the core's values.

use crate::atoms;
use gen_api_core::value::{self, Big, DateStruct, Value, View};
use rustler::types::atom;
use rustler::{Atom, Binary, Encoder, Env, MapIterator, Term, TermType};

/// A term of the caller.
#[derive(Clone, Copy)]
pub struct Arg<'a>(pub Term<'a>);

impl<'a> Arg<'a> {
    /// A part of this value. What rustler returns in a `Result` or an `Option` lies in memory
    /// in pieces, its environment apart, and reading that back at once stalls for some 4 ns;
    /// here only the term itself is read, the environment is this value's.
    #[inline]
    fn part(self, term: Term<'a>) -> Arg<'a> {
        Arg(term.in_env(self.0.get_env()))
    }
}

/// The items of a list that are still to come.
pub struct Items<'a> {
    list: Arg<'a>,
    rest: Arg<'a>,
}

impl<'a> Iterator for Items<'a> {
    type Item = Arg<'a>;

    #[inline]
    fn next(&mut self) -> Option<Arg<'a>> {
        let (head, tail) = self.rest.0.list_get_cell().ok()?;
        self.rest = self.list.part(tail);
        Some(self.list.part(head))
    }
}

impl value::Items for Items<'_> {
    fn is_proper(&self) -> bool {
        self.rest.0.is_empty_list()
    }
}

/// The entries of a map.
pub struct Entries<'a> {
    map: Arg<'a>,
    iterator: Option<MapIterator<'a>>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = (Arg<'a>, Arg<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.iterator.as_mut()?.next()?;
        Some((self.map.part(key), self.map.part(value)))
    }
}

impl<'a> Value<'a> for Arg<'a> {
    type Items = Items<'a>;
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
    fn as_str(self) -> Option<&'a [u8]> {
        Binary::from_term(self.0)
            .ok()
            .map(|binary| binary.as_slice())
    }

    #[inline]
    fn as_int(self) -> Option<i64> {
        self.0.decode().ok()
    }

    #[inline]
    fn as_float(self) -> Option<f64> {
        // Decoding alone would take an integer, too.
        if self.0.is_float() {
            self.0.decode().ok()
        } else {
            None
        }
    }

    #[inline]
    fn as_bool(self) -> Option<bool> {
        if atom::true_() == self.0 {
            Some(true)
        } else if atom::false_() == self.0 {
            Some(false)
        } else {
            None
        }
    }

    #[inline]
    fn items(self) -> Items<'a> {
        Items {
            list: self,
            rest: self,
        }
    }

    #[inline]
    fn all_strs(self, mut each: impl FnMut(&'a [u8]) -> bool) -> bool {
        let mut rest = self;
        while let Ok((head, tail)) = rest.0.list_get_cell() {
            match self.part(head).as_str() {
                Some(bytes) if each(bytes) => rest = self.part(tail),
                _ => return false,
            }
        }
        rest.0.is_empty_list()
    }

    #[inline]
    fn map_len(self) -> Option<usize> {
        self.0.map_size().ok()
    }

    #[inline]
    fn entries(self) -> Entries<'a> {
        Entries {
            map: self,
            iterator: MapIterator::new(self.0),
        }
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
        } else if name == atoms::date() {
            Some(DateStruct::Date)
        } else if name == atoms::time() {
            Some(DateStruct::Time)
        } else {
            None
        }
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

/// The term of a large integer: what `from_external` reads.
pub fn big_term<'a>(env: Env<'a>, big: &Big) -> Term<'a> {
    let size = big.magnitude.len();
    let mut external = vec![131];
    match u8::try_from(size) {
        Ok(size) => external.extend([110, size]),
        Err(_) => {
            external.push(111);
            external.extend(u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    external.push(u8::from(big.negative));
    external.extend_from_slice(&big.magnitude);
    env.binary_to_term(&external)
        .map_or_else(|| atom::nil().encode(env), |(term, _read)| term)
}
