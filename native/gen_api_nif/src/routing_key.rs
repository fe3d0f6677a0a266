//! The bytes of a request that the hash and sticky modes route by.

use crate::atoms;
use crate::decode::Map;
use crate::mode::KeySource;
use crate::value::Arg;
use gen_api_core::value::{Value, View};
use rustler::types::atom;
use rustler::{Encoder, Env, NewBinary, Term};

/// Bytes to route by that a normal scheduler hashes, at 1 ns each.
const LONGEST: usize = 16_384;

/// Hands them to `then`. Otherwise `:key_not_found`, `:invalid_key`, or `{:convert, value}` for one whose text
/// Elixir must make, or which is too long for a normal scheduler.
pub fn with<'a>(
    source: &KeySource,
    env: Env<'a>,
    request: Map<'a>,
    then: impl FnOnce(&[u8]) -> Term<'a>,
) -> Term<'a> {
    let value = match source {
        KeySource::RequestId => request.0.map_get(atoms::request_id()).ok(),
        KeySource::Named { name, field } => {
            argument(env, request, name).or_else(|| request.0.map_get((*field)?).ok())
        }
    };
    let Some(value) = value else {
        return atoms::key_not_found().encode(env);
    };
    match Arg(value).view() {
        View::Nil | View::Str(&[]) => atoms::key_not_found().encode(env),
        View::Str(bytes) if bytes.len() > LONGEST => (atoms::convert(), value).encode(env),
        View::Str(bytes) => then(bytes),
        View::Int(n) => then(n.to_string().as_bytes()),
        View::Bool(true) => then(b"true"),
        View::Bool(false) => then(b"false"),
        View::Atom => match value.atom_to_string() {
            Ok(name) => then(name.as_bytes()),
            Err(_) => atoms::invalid_key().encode(env),
        },
        // Their text is Elixir's to make.
        View::BigInt | View::Float(_) => (atoms::convert(), value).encode(env),
        View::List | View::Map | View::Other => atoms::invalid_key().encode(env),
    }
}

fn argument<'a>(env: Env<'a>, request: Map<'a>, name: &str) -> Option<Term<'a>> {
    let arguments = request.0.map_get(atoms::args()).ok()?;
    let key: Term = NewBinary::from_slice(env, name.as_bytes()).into();
    let value = arguments.map_get(key).ok()?;
    (atom::nil() != value).then_some(value)
}
