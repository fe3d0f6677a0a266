//! What NIFs take. A term of another kind is `badarg`, whatever is wrong with it and however deep.
//!
//! rustler's own decoders for lists, enums and maps panic or raise texts that show the argument.

use rustler::{Binary, Decoder, Error, NifResult, Term};

/// A proper list.
pub struct List<T>(pub Vec<T>);

impl<'a, T: Decoder<'a>> Decoder<'a> for List<T> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let mut items = Vec::new();
        let mut rest = term;
        while let Ok((head, tail)) = rest.list_get_cell() {
            items.push(head.decode()?);
            rest = tail;
        }
        if rest.is_empty_list() {
            Ok(List(items))
        } else {
            Err(Error::BadArg)
        }
    }
}

/// Most bytes of a [`Name`]. Those of configs are no longer, nor are ids of groups and users or names of nodes.
pub const NAME_BYTES: usize = 8_192;

/// A name that clients, services or nodes have chosen: checking, hashing and copying it takes some microseconds.
#[derive(Clone, Copy)]
pub struct Name<'a>(&'a str);

impl<'a> Decoder<'a> for Name<'a> {
    #[inline]
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let bytes: Binary = term.decode()?;
        if bytes.len() > NAME_BYTES {
            return Err(Error::BadArg);
        }
        let text = std::str::from_utf8(bytes.as_slice());
        text.map(Name).map_err(|_| Error::BadArg)
    }
}

impl<'a> Name<'a> {
    /// Its text.
    #[inline]
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl std::ops::Deref for Name<'_> {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.0
    }
}

/// A map, structs included.
#[derive(Clone, Copy)]
pub struct Map<'a>(pub Term<'a>);

impl<'a> Decoder<'a> for Map<'a> {
    #[inline]
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if term.is_map() {
            Ok(Map(term))
        } else {
            Err(Error::BadArg)
        }
    }
}

/// A process of any node.
#[derive(Clone, Copy)]
pub struct AnyPid<'a>(pub Term<'a>);

impl<'a> Decoder<'a> for AnyPid<'a> {
    #[inline]
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if term.is_pid() {
            Ok(AnyPid(term))
        } else {
            Err(Error::BadArg)
        }
    }
}

/// Which of the other nodes that hold a group: one of 64.
#[derive(Clone, Copy)]
pub struct NodeBit(pub u32);

impl<'a> Decoder<'a> for NodeBit {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let bit = term.decode()?;
        if bit < u64::BITS {
            Ok(NodeBit(bit))
        } else {
            Err(Error::BadArg)
        }
    }
}

/// The variants of an enum as atoms, both ways.
macro_rules! atom_enum {
    ($(#[$meta:meta])* $name:ident($core:ty) { $($atom:ident => $variant:path,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub struct $name(pub $core);

        impl<'a> rustler::Decoder<'a> for $name {
            fn decode(term: rustler::Term<'a>) -> rustler::NifResult<Self> {
                $(if $crate::atoms::$atom() == term {
                    return Ok($name($variant));
                })*
                Err(rustler::Error::BadArg)
            }
        }

        impl rustler::Encoder for $name {
            fn encode<'a>(&self, env: rustler::Env<'a>) -> rustler::Term<'a> {
                match self.0 {
                    $($variant => $crate::atoms::$atom().encode(env),)*
                }
            }
        }
    };
}
pub(crate) use atom_enum;
