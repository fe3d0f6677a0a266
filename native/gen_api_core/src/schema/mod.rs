//! Argument schemas: compiled once, checked on every request.
//!
//! A [`Schema`] is immutable. [`Schema::check`] walks the arguments once; a value that needs
//! no conversion is passed on untouched, so a request whose arguments are all plain makes
//! nothing but the list of call arguments.

mod check;
pub mod datetime;
mod fields;
mod format;
mod number;
mod problem;
mod text;
mod tree;

pub use check::Outcome;
pub use fields::{Field, Fields};
pub use format::{Flags, Format, FormatError, Formats};
pub use number::{Bound, Range};
pub use problem::{Failure, Problem, Segment};

use ahash::AHashMap;

/// How the converted arguments are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value per argument, in the declared order.
    List,
    /// One map with every declared name.
    Map,
}

/// Levels of types within each other, and of lists and maps in arguments. A check recurses once a
/// level, on whatever stack it is called on.
pub const MAX_LEVELS: u32 = 32;

/// Limits on the whole tree of arguments.
#[derive(Clone, Copy, Debug)]
pub struct TreeLimits {
    max_depth: u32,
    max_nodes: u32,
}

impl TreeLimits {
    /// `max_depth` levels of lists and maps, at most [`MAX_LEVELS`], where an argument itself is
    /// level 1; and `max_nodes` values in all.
    pub const fn new(max_depth: u32, max_nodes: u32) -> Option<Self> {
        if max_depth > MAX_LEVELS {
            return None;
        }
        Some(TreeLimits {
            max_depth,
            max_nodes,
        })
    }
}

/// Everything known about the arguments of one function.
#[derive(Debug)]
pub struct Schema {
    fields: Fields,
    shape: Shape,
    limits: TreeLimits,
}

impl Schema {
    /// Compiles a schema. `fields` are in call order.
    pub fn new(fields: Vec<Field>, shape: Shape, limits: TreeLimits) -> Self {
        Schema {
            fields: Fields::new(fields),
            shape,
            limits,
        }
    }

    /// The number of declared arguments.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether no argument is declared.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// A rough count of the bytes this schema holds.
    pub fn bytes(&self) -> usize {
        std::mem::size_of::<Self>() + self.fields.bytes()
    }
}

/// One type with the options that every type has.
#[derive(Debug)]
pub struct Type {
    /// What is accepted.
    pub kind: Kind,
    /// Whether an explicit nil is accepted.
    pub allow_nil: bool,
    /// The default value, if there is one.
    pub default: Option<KeptValue>,
}

/// A value that the caller of the core keeps, because the core cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptValue {
    /// Its number.
    pub id: u32,
    /// The work that a copy of it takes, in the units of [`Schema::check`].
    pub units: u32,
}

/// What a type accepts. Sizes are in items, lengths in code points.
#[derive(Debug)]
pub enum Kind {
    /// A UTF-8 string.
    Str(StrRule),
    /// An integer or a float.
    Num(Range),
    /// An integer.
    Integer(Range),
    /// A float or an integer; the result is a float.
    Float(Range),
    /// A boolean.
    Boolean,
    /// One of the listed values.
    Enum(Members),
    /// A UUID in its 8-4-4-4-12 text form.
    Uuid,
    /// An ISO 8601 date and time with an offset; the result is in UTC.
    DateTime,
    /// An ISO 8601 date and time; an offset is ignored.
    NaiveDateTime,
    /// An ISO 8601 date.
    Date,
    /// An ISO 8601 time of day; an offset is ignored.
    Time,
    /// A list of scalars; strings of at most `max_length` code points.
    ScalarList {
        /// How many items.
        size: Size,
        /// The longest string item.
        max_length: u32,
    },
    /// A list whose items have one type.
    List {
        /// How many items.
        size: Size,
        /// The type of each item.
        item: Box<Type>,
    },
    /// A list of strings.
    StrList {
        /// How many items.
        size: Size,
        /// The longest item in code points.
        max_length: u32,
        /// The longest item in bytes.
        max_bytes: Option<u32>,
    },
    /// A list of numbers.
    NumList(Size),
    /// A list of UUIDs.
    UuidList(Size),
    /// A list of maps of any JSON content.
    MapList(Size),
    /// A map of any JSON content with at most this many entries.
    AnyMap(u32),
    /// A map of scalars and flat lists.
    FlatMap(FlatMap),
    /// A map with exactly the declared fields.
    Record(Fields),
    /// Any JSON value.
    Any,
}

/// Limits of a string.
#[derive(Debug)]
pub struct StrRule {
    /// Most code points.
    pub max_length: u32,
    /// Fewest code points.
    pub min_length: u32,
    /// Most bytes.
    pub max_bytes: Option<u32>,
    /// What the text must match somewhere.
    pub format: Option<Format>,
}

/// How many items a list may have.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Most items.
    pub max: u32,
    /// Fewest items.
    pub min: u32,
}

/// Rules of a flat map.
#[derive(Debug)]
pub struct FlatMap {
    /// Most entries.
    pub max_items: u32,
    /// Keys that must be there.
    pub required: Vec<Box<str>>,
    /// The only keys allowed; `None` allows all.
    pub accept: Option<ahash::AHashSet<Box<str>>>,
    /// Whether maps may be values.
    pub nested: bool,
    /// The longest string value in code points.
    pub max_length: u32,
    /// The longest list value.
    pub max_list: u32,
}

/// One listed value of an enum.
#[derive(Clone, Debug, PartialEq)]
pub enum Member {
    /// A string.
    Str(Box<str>),
    /// An atom with this name, kept under this number; it is accepted by its name.
    Atom(Box<str>, u32),
    /// An integer.
    Int(i64),
    /// An integer of more than 64 bits.
    Big(crate::value::Big),
    /// A float.
    Float(f64),
    /// A boolean.
    Bool(bool),
}

/// The listed values of an enum, in the order given.
#[derive(Debug)]
pub struct Members {
    listed: Vec<Member>,
    shown: KeptValue,
    by_text: AHashMap<Box<str>, u32>,
}

impl Members {
    /// Indexes the listed values; `shown` is the list as it is kept for messages. Of a string and an atom with one text the string counts,
    /// because it needs no conversion.
    pub fn new(listed: Vec<Member>, shown: KeptValue) -> Self {
        let mut by_text = AHashMap::new();
        for (index, member) in (0u32..).zip(&listed) {
            match member {
                Member::Str(text) => {
                    by_text.insert(text.clone(), index);
                }
                Member::Atom(text, _) => {
                    by_text.entry(text.clone()).or_insert(index);
                }
                _ => {}
            }
        }
        Members {
            listed,
            shown,
            by_text,
        }
    }

    fn by_text(&self, text: &str) -> Option<&Member> {
        self.by_text
            .get(text)
            .and_then(|index| self.listed.get(*index as usize))
    }
}

/// The published name of a type, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeName {
    /// `:string`
    Str,
    /// `:num`
    Num,
    /// `:integer`
    Integer,
    /// `:float`
    Float,
    /// `:boolean`
    Boolean,
    /// `:uuid`
    Uuid,
    /// `:datetime`
    DateTime,
    /// `:naive_datetime`
    NaiveDateTime,
    /// `:date`
    Date,
    /// `:time`
    Time,
    /// `:list`
    List,
    /// `:list_string`
    StrList,
    /// `:list_num`
    NumList,
    /// `:list_uuid`
    UuidList,
    /// `:list_map`
    MapList,
    /// `:map`
    Map,
}

impl Type {
    fn bytes(&self) -> usize {
        let own = match &self.kind {
            Kind::List { item, .. } => std::mem::size_of::<Type>() + item.bytes(),
            Kind::Record(fields) => fields.bytes(),
            Kind::Enum(members) => members.listed.len() * 64,
            Kind::FlatMap(rule) => {
                (rule.required.len() + rule.accept.as_ref().map_or(0, |keys| keys.len())) * 32
            }
            // The engine does not say; this is what a short pattern takes.
            Kind::Str(StrRule {
                format: Some(_), ..
            }) => 8_192,
            _ => 0,
        };
        own
    }
}
