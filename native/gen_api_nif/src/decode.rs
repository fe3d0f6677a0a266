//! What NIFs take. A term of another kind is `badarg`, whatever is wrong with it and however deep.
//!
//! rustler's own decoders for lists, enums and maps panic or raise texts that show the argument.

use rustler::{Decoder, Error, NifResult, Term};

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
