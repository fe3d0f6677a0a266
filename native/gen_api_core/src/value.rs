//! A borrowed, typed view of one argument, and the means to make new ones.

use std::cmp::Ordering;

/// What an argument is, as far as validation cares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View<'a> {
    /// The absent value.
    Nil,
    /// A boolean.
    Bool(bool),
    /// An integer that fits 64 bits.
    Int(i64),
    /// An integer of more than 64 bits; see [`Value::big`].
    BigInt,
    /// A finite float.
    Float(f64),
    /// A byte string, not yet known to be UTF-8.
    Str(&'a [u8]),
    /// A list, walked with [`Value::items`]; it may turn out to be improper.
    List,
    /// A map, walked with [`Value::entries`].
    Map,
    /// A name that is neither nil nor a boolean.
    Atom,
    /// Anything that JSON has no counterpart for.
    Other,
}

/// An integer of more than 64 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Big {
    /// Whether it is below zero.
    pub negative: bool,
    /// Its magnitude, least significant byte first, without leading zeros.
    pub magnitude: Box<[u8]>,
}

impl Ord for Big {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.magnitude, &other.magnitude);
        let by_size = a.len().cmp(&b.len());
        let order = by_size.then_with(|| a.iter().rev().cmp(b.iter().rev()));
        match (self.negative, other.negative) {
            (false, false) => order,
            (true, true) => order.reverse(),
            (negative, _) if negative => Ordering::Less,
            _ => Ordering::Greater,
        }
    }
}

impl PartialOrd for Big {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Walks the items of a list.
pub trait Items: Iterator {
    /// Whether the walk, having come to its end, has ended as a list does. False for an
    /// improper list and for what is no list at all.
    fn is_proper(&self) -> bool;
}

/// Which date struct a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateStruct {
    /// A date and time with a time zone.
    DateTime,
    /// A date and time without one.
    NaiveDateTime,
    /// A date.
    Date,
    /// A time of day.
    Time,
}

/// A handle on one argument that lives at least as long as the check.
pub trait Value<'a>: Copy {
    /// Walks the items of a list.
    type Items: Items<Item = Self>;
    /// Walks the entries of a map.
    type Entries: Iterator<Item = (Self, Self)>;

    /// What this value is.
    fn view(self) -> View<'a>;
    /// The bytes of a string. Same as [`Value::view`], like the three after it, but asks one
    /// question instead of all: a value mostly is what its type says.
    fn as_str(self) -> Option<&'a [u8]>;
    /// An integer that fits 64 bits.
    fn as_int(self) -> Option<i64>;
    /// A float.
    fn as_float(self) -> Option<f64>;
    /// A boolean.
    fn as_bool(self) -> Option<bool>;
    /// The items of a list; none of what is no list.
    fn items(self) -> Self::Items;
    /// Whether this is a proper list of strings that `each` accepts all of. Asks less of each
    /// item than [`Value::items`] does.
    fn all_strs(self, each: impl FnMut(&'a [u8]) -> bool) -> bool;
    /// The number of entries of a map.
    fn map_len(self) -> Option<usize>;
    /// The entries of a value whose view is [`View::Map`], else none.
    fn entries(self) -> Self::Entries;
    /// Whether a map is a struct (a record type rather than data).
    fn is_struct(self) -> bool;
    /// Which date struct a map is, if any.
    fn date_struct(self) -> Option<DateStruct>;
    /// An integer whose view is [`View::BigInt`].
    fn big(self) -> Option<Big>;
}

/// Makes the values that a conversion needs. Whatever needs no conversion is passed on as
/// the caller's own value, so nothing is made for it.
pub trait Build<'a> {
    /// The values made.
    type V: Value<'a>;

    /// The absent value.
    fn nil(&self) -> Self::V;
    /// A float.
    fn float(&self, value: f64) -> Self::V;
    /// The default value kept under this number when the schema was compiled.
    fn default_value(&self, id: u32) -> Self::V;
    /// The listed atom kept under this number when the schema was compiled.
    fn member(&self, id: u32) -> Self::V;
    /// Whether the value is that listed atom.
    fn is_member(&self, id: u32, value: Self::V) -> bool;
    /// A date and time in UTC.
    fn datetime(&self, value: &crate::schema::datetime::DateTime) -> Self::V;
    /// A date and time without a zone.
    fn naive_datetime(&self, value: &crate::schema::datetime::DateTime) -> Self::V;
    /// Its date.
    fn date(&self, value: &crate::schema::datetime::DateTime) -> Self::V;
    /// Its time of day.
    fn time(&self, value: &crate::schema::datetime::DateTime) -> Self::V;
    /// The UTC counterpart of a date struct with a zone; `None` when it has no valid one.
    fn to_utc(&self, value: Self::V) -> Option<Self::V>;
    /// A string, for the name of a field that the caller did not send.
    fn string(&self, value: &str) -> Self::V;
    /// A list.
    fn list(&self, items: &[Self::V]) -> Self::V;
    /// A map; the keys are distinct.
    fn map(&self, keys: &[Self::V], values: &[Self::V]) -> Self::V;
}
