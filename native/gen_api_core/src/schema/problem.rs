//! What can be wrong with arguments.

use super::{Bound, TypeName};

/// One step of the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// An argument or a field.
    Name(Box<str>),
    /// An item of a list.
    Index(u32),
}

/// The first problem found and where.
#[derive(Debug, PartialEq)]
pub struct Failure<'s, V> {
    /// From the argument down to the value; empty for problems of the arguments as a whole.
    pub path: Vec<Segment>,
    /// What is wrong.
    pub problem: Problem<'s, V>,
}

/// What is wrong with a value.
#[derive(Debug, PartialEq)]
pub enum Problem<'s, V> {
    /// Undeclared arguments or fields, as their keys.
    Extra(Vec<V>),
    /// Absent, or nil where nil is not accepted.
    Missing,
    /// Of another type than the one named.
    WrongType(TypeName, V),
    /// Of no type that JSON has.
    NotJson(V),
    /// More code points than that.
    TooLong(u32),
    /// Fewer code points than that.
    TooShort(u32),
    /// More bytes than that.
    TooManyBytes(u32),
    /// Not UTF-8.
    NotUtf8,
    /// No match of the format.
    Format,
    /// Less than that.
    BelowMin(&'s Bound),
    /// More than that.
    AboveMax(&'s Bound),
    /// None of the listed values, which are kept under this number.
    NotMember(u32),
    /// Not a UUID text.
    NotUuid,
    /// More items or entries than that.
    TooManyItems(u32),
    /// Fewer items than that.
    TooFewItems(u32),
    /// An item that a list of one kind of value does not take, and the kind it takes.
    UnsupportedItem(V, TypeName),
    /// A map where only scalars go.
    NestedMap,
    /// A list where only scalars go.
    NestedList,
    /// Nil where only scalars go.
    UnsupportedNil,
    /// A string item over the limit of scalar lists.
    ItemTooLong(u32),
    /// A string value over the limit of flat maps, by its key.
    EntryTooLong(V, u32),
    /// A list value over the limit of flat maps, by its key.
    EntryTooMany(V, u32),
    /// A value that flat maps do not take, and its key.
    UnsupportedEntry(V, V),
    /// Keys that have to be there.
    MissingKeys(Vec<&'s str>),
    /// Keys that are not accepted.
    RejectedKeys(Vec<V>),
    /// A text that is no date or time.
    NotDate(TypeName, V, super::datetime::ParseError),
    /// More levels of lists and maps than that.
    TooDeep(u32),
    /// More values than that.
    TooManyNodes(u32),
}

impl<'s, V> Failure<'s, V> {
    pub(super) fn new(problem: Problem<'s, V>) -> Box<Self> {
        Box::new(Failure {
            path: Vec::new(),
            problem,
        })
    }
}
