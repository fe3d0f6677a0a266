//! NIFs of `PhoenixGenApi.JsonEncoding`.

use crate::atoms;
use gen_api_core::json::text_size;
use rustler::{Binary, Encoder, Env, Term};

/// Bytes that a normal scheduler may walk at once: some 100 us.
const SHORT: usize = 262_144;

/// The bytes of a text in JSON; `nil` if it is not UTF-8. `:out_of_budget` for a long one.
#[rustler::nif]
fn json_encoding_text_size<'a>(env: Env<'a>, text: Binary<'a>) -> Term<'a> {
    if text.len() > SHORT {
        return atoms::out_of_budget().encode(env);
    }
    text_size(&text).encode(env)
}

/// The same for a text of any length.
#[rustler::nif(schedule = "DirtyCpu")]
fn json_encoding_text_size_dirty(text: Binary<'_>) -> Option<usize> {
    text_size(&text)
}
