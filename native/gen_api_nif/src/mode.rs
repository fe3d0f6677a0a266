//! How a node is chosen, and by what value, as Elixir says it.
//!
//! An atom or `{mode, key | weights}`. A custom strategy is `:custom` and is never asked here.

use crate::atoms;
use rustler::{Atom, Decoder, Error, NifResult, Term};
use std::collections::HashMap;

/// The `choose_node_mode` of a function.
pub enum ModeSpec {
    Random,
    Hash(KeySource),
    Sticky(KeySource),
    RoundRobin,
    LeastBusy,
    Weighted(HashMap<String, u32>),
}

/// Where the value comes from that the hash and sticky modes route by.
pub enum KeySource {
    RequestId,
    /// The argument of that name, or else the field of the request.
    Named {
        name: Box<str>,
        field: Option<Atom>,
    },
}

impl<'a> Decoder<'a> for ModeSpec {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if let Ok((kind, parameter)) = term.decode::<(Atom, Term)>() {
            if kind == atoms::hash() {
                Ok(ModeSpec::Hash(parameter.decode()?))
            } else if kind == atoms::sticky() {
                Ok(ModeSpec::Sticky(parameter.decode()?))
            } else if kind == atoms::weighted() {
                Ok(ModeSpec::Weighted(parameter.decode()?))
            } else {
                Err(Error::BadArg)
            }
        } else if atoms::random() == term || atoms::custom() == term {
            Ok(ModeSpec::Random)
        } else if atoms::hash() == term {
            Ok(ModeSpec::Hash(KeySource::RequestId))
        } else if atoms::round_robin() == term {
            Ok(ModeSpec::RoundRobin)
        } else if atoms::least_busy() == term {
            Ok(ModeSpec::LeastBusy)
        } else {
            Err(Error::BadArg)
        }
    }
}

impl<'a> Decoder<'a> for KeySource {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let name: String = term.decode()?;
        let fields = [
            atoms::user_id(),
            atoms::device_id(),
            atoms::request_id(),
            atoms::request_type(),
            atoms::service(),
            atoms::version(),
            atoms::ip_address(),
        ];
        let is_named = |field: &Atom| {
            let text = field.to_term(term.get_env()).atom_to_string();
            text.is_ok_and(|text| text == name)
        };
        let field = fields.into_iter().find(is_named);
        let name = name.into_boxed_str();
        Ok(KeySource::Named { name, field })
    }
}
