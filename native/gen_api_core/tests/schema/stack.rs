//! What schemas and arguments of any shape take of the stack that they are compiled and checked on.
//!
//! The smallest stack of a scheduler that the VM accepts has 160 KB; a dirty one has 320 KB unless
//! told otherwise. A tenth of that has to do, because other targets have larger frames.

use super::json::{Json, Maker};
use super::{field, limits, schema, size, string, typed};
use gen_api_core::schema::{
    Fields, Flags, FlatMap, Format, KeptValue, Kind, Outcome, Schema, StrRule, Type, MAX_LEVELS,
};
use std::thread;

// Without optimisation nothing is inlined and every value has a place of its own.
const STACK: usize = if cfg!(debug_assertions) { 192 } else { 32 } * 1024;

fn on_small_stack<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK);
        thread.spawn_scoped(scope, run).unwrap().join().unwrap()
    })
}

fn is_valid(schema: &Schema, args: &Json) -> bool {
    let valid = matches!(schema.check(args, &Maker, u64::MAX), Outcome::Valid(_));
    let problems = schema.problems(args, &Maker, u64::MAX, 20);
    assert_eq!(problems.is_some_and(|all| all.is_empty()), valid);
    valid
}

const LEVELS: usize = MAX_LEVELS as usize;

fn record(name: &str, inner: Kind) -> Kind {
    let others = (0..9).map(|n| field(&format!("other{n}"), Kind::Boolean));
    let mut fields: Vec<_> = others.collect();
    for other in &mut fields {
        other.r#type.allow_nil = true;
    }
    fields.push(field(name, inner));
    Kind::Record(Fields::new(fields))
}

/// A type within as many others as there may be.
fn nested(around: fn(Kind) -> Kind, innermost: Kind) -> Schema {
    let kind = (1..LEVELS).fold(innermost, |inner, _| around(inner));
    schema(vec![field("a", kind)])
}

fn wrapped(around: fn(Json) -> Json, levels: usize, innermost: Json) -> Json {
    let value = (1..levels).fold(innermost, |inner, _| around(inner));
    Json::map([("a", value)])
}

fn list_of(item: Kind) -> Kind {
    Kind::List {
        size: size(10),
        item: Box::new(typed(item)),
    }
}

fn in_map(inner: Json) -> Json {
    Json::map([("a", inner)])
}

fn in_list(inner: Json) -> Json {
    Json::List(vec![Json::Nil, inner])
}

fn in_list_alone(inner: Json) -> Json {
    Json::List(vec![inner])
}

#[test]
fn types_within_types_are_checked() {
    let records = nested(|inner| record("a", inner), Kind::Float(Default::default()));
    let lists = nested(list_of, string(3));
    on_small_stack(|| {
        for (innermost, valid) in [(Json::Int(1), true), (Json::Other, false)] {
            let args = wrapped(in_map, LEVELS, innermost);
            assert_eq!(is_valid(&records, &args), valid);
        }
        for (innermost, valid) in [(Json::str("abc"), true), (Json::str("abcd"), false)] {
            let args = wrapped(in_list_alone, LEVELS, innermost);
            assert_eq!(is_valid(&lists, &args), valid);
        }
        for deeper in [LEVELS + 1, 1_000] {
            let args = wrapped(in_map, deeper, Json::Int(1));
            assert!(!is_valid(&records, &args));
            std::mem::forget(args);
        }
        drop((records, lists));
    });
}

#[test]
fn values_within_values_are_checked() {
    let any = schema(vec![field("a", Kind::Any)]);
    let flat = schema(vec![field(
        "a",
        Kind::FlatMap(FlatMap {
            max_items: 10,
            required: Vec::new(),
            accept: None,
            nested: true,
            max_length: 10,
            max_list: 10,
        }),
    )]);
    // What was typed may end in what is not.
    let both = nested(|inner| record("a", inner), Kind::AnyMap(10));
    on_small_stack(|| {
        for around in [in_map, in_list] {
            for levels in [LEVELS, LEVELS + 1, LEVELS + 2, 1_000] {
                for innermost in [Json::Int(1), Json::Other, Json::Str(vec![255])] {
                    let args = wrapped(around, levels, innermost);
                    for schema in [&any, &flat, &both] {
                        let _ = is_valid(schema, &args);
                    }
                    // Not ours to drop: the test's own values recurse.
                    std::mem::forget(args);
                }
            }
        }
    });
}

#[test]
fn defaults_are_converted() {
    let record = nested(|inner| record("a", inner), Kind::Float(Default::default()));
    let kind = (1..LEVELS).fold(Kind::Float(Default::default()), |inner, _| list_of(inner));
    let value = (1..LEVELS).fold(Json::Int(1), |inner, _| in_list_alone(inner));
    let r#type = Type {
        kind,
        allow_nil: false,
        default: Some(KeptValue { id: 0, units: 1 }),
    };
    on_small_stack(|| {
        assert!(r#type.convert(&value, &Maker, limits(1_000)).is_ok());
        drop((record, r#type));
    });
}

#[test]
fn formats_are_compiled_and_matched() {
    let nested = |before: &str, after: &str, levels| {
        let pattern = format!("{}b{}", before.repeat(levels), after.repeat(levels));
        on_small_stack(move || {
            let format = Format::new(&pattern, Flags::default())?;
            Ok::<_, gen_api_core::schema::FormatError>(format.matches(b"aaab"))
        })
    };
    for (before, after) in [
        ("(a|", ")"),
        ("(a", ")"),
        ("(?:", ")*"),
        ("(?:a|(?:c", ")*)"),
        ("(?i:", "){1,2}"),
    ] {
        assert_eq!(nested(before, after, 0), Ok(true));
        assert!(nested(before, after, 8).is_ok());
        for levels in [50, 124, 250, 1_000] {
            let _ = nested(before, after, levels);
        }
    }
    let reason = nested("(a|", ")", 1_000).unwrap_err().0;
    assert!(reason.contains("nested"), "{reason}");
}

#[test]
fn a_format_is_matched_within_types() {
    let rule = || StrRule {
        max_length: 1_000,
        min_length: 0,
        max_bytes: None,
        format: Some(Format::new(r"(?i)\b(\w+\W*){1,20}$", Flags::default()).unwrap()),
    };
    let deep = nested(|inner| record("a", inner), Kind::Str(rule()));
    let text = Json::str(&"word ".repeat(30));
    let args = wrapped(in_map, LEVELS, text);
    on_small_stack(|| {
        // The first match makes what all others use.
        assert!(is_valid(&deep, &args));
    });
}
