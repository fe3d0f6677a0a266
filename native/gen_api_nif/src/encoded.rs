//! Terms seen as what a JSON encoder makes of them: atoms are texts, as values and as keys.
//!
//! What an encoder makes of a struct only the struct knows. A date is one of its type; every other struct
//! is something that no type takes, so whoever is refused here may still be right.

use crate::atoms;
use crate::value::{Arg, Entries, Items};
use gen_api_core::schema::datetime::DateTime;
use gen_api_core::value::{self, Big, Build, DateStruct, Value, View};
use rustler::types::atom;
use rustler::{Atom, Binary, Encoder, Env, NewBinary, Term};
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

/// How many atoms are remembered: the fields of most results.
const SLOTS: usize = 128;

/// Where one is looked for.
const PROBES: usize = 4;

/// An atom and its text.
type Slot = OnceLock<(Atom, Box<[u8]>)>;

/// The texts of atoms that results of one type have. To ask the VM for one takes as long as to check ten
/// values, and all results of a type have the same few.
#[derive(Default)]
pub struct Names(OnceLock<Box<[Slot]>>);

impl Names {
    #[inline]
    fn get(&self, term: Term<'_>) -> Option<&[u8]> {
        let slots = self.0.get()?;
        for slot in places(slots, term) {
            let (known, text) = slot.get()?;
            if *known == term {
                return Some(text);
            }
        }
        None
    }

    /// Keeps it where there is room.
    #[cold]
    fn keep(&self, term: Term<'_>, text: &str) -> Option<&[u8]> {
        let atom = Atom::from_term(term).ok()?;
        let slots = self
            .0
            .get_or_init(|| (0..SLOTS).map(|_| Slot::new()).collect());
        for slot in places(slots, term) {
            let (known, text) = slot.get_or_init(|| (atom, text.as_bytes().into()));
            if *known == atom {
                return Some(text);
            }
        }
        None
    }
}

/// The slots of an atom: the VM numbers them, above six bits that are the same in all.
#[inline]
fn places<'s>(slots: &'s [Slot], term: Term<'_>) -> impl Iterator<Item = &'s Slot> {
    let mut number = Number(0);
    term.as_c_arg().hash(&mut number);
    let first = number.0 >> 6;
    (first..first + PROBES).filter_map(|place| slots.get(place % SLOTS))
}

/// What is hashed, as it is.
struct Number(usize);

impl Hasher for Number {
    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.0 = number;
    }

    fn write(&mut self, _bytes: &[u8]) {}

    fn finish(&self) -> u64 {
        self.0 as u64
    }
}

/// A term that a function has returned.
#[derive(Clone, Copy)]
pub struct Encoded<'n, 'a> {
    term: Arg<'a>,
    names: &'n Names,
}

impl<'n, 'a> Encoded<'n, 'a> {
    pub fn new(term: Term<'a>, names: &'n Names) -> Self {
        Encoded {
            term: Arg(term),
            names,
        }
    }

    #[inline]
    fn part(self, term: Arg<'a>) -> Self {
        Encoded { term, ..self }
    }

    /// The text of an atom that is one in JSON. What a struct has among its keys is none, so that no struct
    /// is taken for a map.
    #[cold]
    fn name(self) -> Option<&'n [u8]>
    where
        'a: 'n,
    {
        let term = self.term.0;
        let constants = [atom::nil(), atom::true_(), atom::false_(), atoms::struct_()];
        if !term.is_atom() || constants.iter().any(|constant| *constant == term) {
            return None;
        }
        let text = term.atom_to_string().ok()?;
        if let Some(kept) = self.names.keep(term, &text) {
            return Some(kept);
        }
        // On the heap of the process: what is borrowed has to live as long as the term.
        let mut binary = NewBinary::new(term.get_env(), text.len());
        binary.as_mut_slice().copy_from_slice(text.as_bytes());
        let binary: Binary<'a> = binary.into();
        Some(binary.as_slice())
    }
}

/// The items of a list that are still to come.
pub struct EncodedItems<'n, 'a>(Items<'a>, Encoded<'n, 'a>);

impl<'n, 'a> Iterator for EncodedItems<'n, 'a> {
    type Item = Encoded<'n, 'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|item| self.1.part(item))
    }
}

impl value::Items for EncodedItems<'_, '_> {
    fn is_proper(&self) -> bool {
        self.0.is_proper()
    }
}

/// The entries of a map.
pub struct EncodedEntries<'n, 'a>(Entries<'a>, Encoded<'n, 'a>);

impl<'n, 'a> Iterator for EncodedEntries<'n, 'a> {
    type Item = (Encoded<'n, 'a>, Encoded<'n, 'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.0.next()?;
        Some((self.1.part(key), self.1.part(value)))
    }
}

impl<'n, 'a: 'n> Value<'n> for Encoded<'n, 'a> {
    type Items = EncodedItems<'n, 'a>;
    type Entries = EncodedEntries<'n, 'a>;

    #[inline]
    fn view(self) -> View<'n> {
        match self.term.view() {
            View::Atom => self.as_str().map_or(View::Other, View::Str),
            view => view,
        }
    }

    #[inline]
    fn as_str(self) -> Option<&'n [u8]> {
        if let Some(known) = self.names.get(self.term.0) {
            return Some(known);
        }
        match self.term.as_str() {
            Some(text) => Some(text),
            None => self.name(),
        }
    }

    #[inline]
    fn as_int(self) -> Option<i64> {
        self.term.as_int()
    }

    #[inline]
    fn as_float(self) -> Option<f64> {
        self.term.as_float()
    }

    #[inline]
    fn as_bool(self) -> Option<bool> {
        self.term.as_bool()
    }

    #[inline]
    fn items(self) -> EncodedItems<'n, 'a> {
        EncodedItems(self.term.items(), self)
    }

    #[inline]
    fn all_strs(self, mut each: impl FnMut(&'n [u8]) -> bool) -> bool {
        // One with atoms in it is looked at item by item.
        self.term.all_strs(|text| {
            let text: &'n [u8] = text;
            each(text)
        })
    }

    #[inline]
    fn map_len(self) -> Option<usize> {
        self.term.map_len()
    }

    #[inline]
    fn entries(self) -> EncodedEntries<'n, 'a> {
        EncodedEntries(self.term.entries(), self)
    }

    /// Not asked for: a walk over the entries of a struct finds a key that is none.
    fn is_struct(self) -> bool {
        false
    }

    fn date_struct(self) -> Option<DateStruct> {
        self.term.date_struct()
    }

    fn big(self) -> Option<Big> {
        self.term.big()
    }
}

/// Makes nothing: of a result only the verdict counts.
pub struct Nothing<'n, 'a> {
    pub env: Env<'a>,
    pub names: &'n Names,
}

impl<'n, 'a> Nothing<'n, 'a> {
    #[inline]
    fn none(&self) -> Encoded<'n, 'a> {
        Encoded::new(atom::nil().encode(self.env), self.names)
    }
}

impl<'n, 'a: 'n> Build<'n> for Nothing<'n, 'a> {
    type V = Encoded<'n, 'a>;

    fn nil(&self) -> Encoded<'n, 'a> {
        self.none()
    }

    fn float(&self, _value: f64) -> Encoded<'n, 'a> {
        self.none()
    }

    fn default_value(&self, _id: u32) -> Encoded<'n, 'a> {
        self.none()
    }

    fn member(&self, _id: u32) -> Encoded<'n, 'a> {
        self.none()
    }

    fn is_member(&self, _id: u32, _value: Encoded<'n, 'a>) -> bool {
        false
    }

    fn datetime(&self, _date: &DateTime) -> Encoded<'n, 'a> {
        self.none()
    }

    fn naive_datetime(&self, _date: &DateTime) -> Encoded<'n, 'a> {
        self.none()
    }

    fn date(&self, _date: &DateTime) -> Encoded<'n, 'a> {
        self.none()
    }

    fn time(&self, _time: &DateTime) -> Encoded<'n, 'a> {
        self.none()
    }

    fn to_utc(&self, value: Encoded<'n, 'a>) -> Option<Encoded<'n, 'a>> {
        Some(value)
    }

    fn string(&self, _value: &str) -> Encoded<'n, 'a> {
        self.none()
    }

    fn list(&self, _items: &[Encoded<'n, 'a>]) -> Encoded<'n, 'a> {
        self.none()
    }

    fn map(&self, _keys: &[Encoded<'n, 'a>], _values: &[Encoded<'n, 'a>]) -> Encoded<'n, 'a> {
        self.none()
    }
}
