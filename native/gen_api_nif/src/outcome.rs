//! The outcome of a check as terms: `{code, path, a, b}` for a problem.

use crate::atoms;
use crate::schema::KeptTerms;
use crate::value::{big_term, Arg};
use gen_api_core::schema::datetime::ParseError;
use gen_api_core::schema::{Bound, Failure, Problem, Segment, TypeName};
use rustler::types::atom;
use rustler::{Atom, Encoder, Env, Term};

/// Encodes what is wrong; Elixir words it where somebody reads it.
pub fn failure<'a>(env: Env<'a>, failure: &Failure<'_, Arg<'a>>, kept: &KeptTerms) -> Term<'a> {
    let none = atom::nil().encode(env);
    let number = |n: &u32| n.encode(env);
    let (code, a, b) = match &failure.problem {
        Problem::Extra(keys) => (atoms::extra(), terms(env, keys), none),
        Problem::Missing => (atoms::missing(), none, none),
        Problem::WrongType(name, v) => (atoms::wrong_type(), type_name(*name).encode(env), v.0),
        Problem::NotJson(v) => (atoms::not_json(), v.0, none),
        Problem::TooLong(n) => (atoms::too_long(), number(n), none),
        Problem::TooShort(n) => (atoms::too_short(), number(n), none),
        Problem::TooManyBytes(n) => (atoms::too_many_bytes(), number(n), none),
        Problem::NotUtf8 => (atoms::not_utf8(), none, none),
        Problem::Format => (atoms::format(), none, none),
        Problem::BelowMin(bound) => (atoms::below_min(), self::bound(env, bound), none),
        Problem::AboveMax(bound) => (atoms::above_max(), self::bound(env, bound), none),
        Problem::NotMember(listed) => (atoms::not_member(), kept.term(env, *listed), none),
        Problem::NotUuid => (atoms::not_uuid(), none, none),
        Problem::TooManyItems(n) => (atoms::too_many_items(), number(n), none),
        Problem::TooFewItems(n) => (atoms::too_few_items(), number(n), none),
        Problem::UnsupportedItem(v, taken) => (
            atoms::unsupported_item(),
            v.0,
            type_name(*taken).encode(env),
        ),
        Problem::NestedMap => (atoms::nested_map(), none, none),
        Problem::NestedList => (atoms::nested_list(), none, none),
        Problem::UnsupportedNil => (atoms::unsupported_nil(), none, none),
        Problem::ItemTooLong(n) => (atoms::item_too_long(), number(n), none),
        Problem::EntryTooLong(key, n) => (atoms::entry_too_long(), key.0, number(n)),
        Problem::EntryTooMany(key, n) => (atoms::entry_too_many(), key.0, number(n)),
        Problem::UnsupportedEntry(v, key) => (atoms::unsupported_entry(), v.0, key.0),
        Problem::MissingKeys(keys) => (atoms::missing_keys(), keys.encode(env), none),
        Problem::RejectedKeys(keys) => (atoms::rejected_keys(), terms(env, keys), none),
        Problem::NotDate(name, v, error) => {
            let detail = (type_name(*name), parse_error(*error)).encode(env);
            (atoms::not_date(), detail, v.0)
        }
        Problem::TooDeep(n) => (atoms::too_deep(), number(n), none),
        Problem::TooManyNodes(n) => (atoms::too_many_nodes(), number(n), none),
    };
    (code, path(env, &failure.path), a, b).encode(env)
}

fn path<'a>(env: Env<'a>, path: &[Segment]) -> Term<'a> {
    let segments: Vec<Term> = path
        .iter()
        .map(|segment| match segment {
            Segment::Name(name) => (**name).encode(env),
            Segment::Index(index) => index.encode(env),
        })
        .collect();
    segments.encode(env)
}

fn terms<'a>(env: Env<'a>, values: &[Arg<'a>]) -> Term<'a> {
    let terms: Vec<Term> = values.iter().map(|value| value.0).collect();
    terms.encode(env)
}

fn bound<'a>(env: Env<'a>, bound: &Bound) -> Term<'a> {
    match bound {
        Bound::Int(n) => n.encode(env),
        Bound::Big(n) => big_term(env, n),
        Bound::Float(n) => n.encode(env),
    }
}

fn parse_error(error: ParseError) -> Atom {
    match error {
        ParseError::InvalidFormat => atoms::invalid_format(),
        ParseError::InvalidDate => atoms::invalid_date(),
        ParseError::InvalidTime => atoms::invalid_time(),
        ParseError::MissingOffset => atoms::missing_offset(),
    }
}

fn type_name(name: TypeName) -> Atom {
    match name {
        TypeName::Str => atoms::string(),
        TypeName::Num => atoms::num(),
        TypeName::Integer => atoms::integer(),
        TypeName::Float => atoms::float(),
        TypeName::Boolean => atoms::boolean(),
        TypeName::Uuid => atoms::uuid(),
        TypeName::DateTime => atoms::utc(),
        TypeName::NaiveDateTime => atoms::naive(),
        TypeName::Date => atoms::calendar_date(),
        TypeName::Time => atoms::time_of_day(),
        TypeName::List => atoms::list(),
        TypeName::StrList => atoms::list_string(),
        TypeName::NumList => atoms::list_num(),
        TypeName::UuidList => atoms::list_uuid(),
        TypeName::MapList => atoms::list_map(),
        TypeName::Map => atoms::map(),
    }
}
