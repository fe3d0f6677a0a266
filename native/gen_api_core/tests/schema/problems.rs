//! Every problem of arguments, not only the first.

use super::json::{self, Json, Maker};
use super::{check, field, limits, oracle, schema, size, string, typed};
use gen_api_core::schema::{Bound, Fields, FlatMap, Kind, Outcome, Range, Schema, Segment, Shape};
use proptest::prelude::*;

/// Path and name of every problem.
fn every(schema: &Schema, args: &Json, max: usize) -> Vec<String> {
    let found = schema.problems(args, &Maker, u64::MAX, max);
    let found = found.expect("no budget was set");
    let described = found.iter().map(|failure| {
        let path: String = failure.path.iter().map(segment).collect();
        let name = format!("{:?}", failure.problem);
        let name = name.split(['(', ' ']).next().unwrap_or_default();
        format!("{path} {name}")
    });
    described.collect()
}

fn segment(segment: &Segment) -> String {
    match segment {
        Segment::Name(name) => format!(".{name}"),
        Segment::Index(index) => format!("[{index}]"),
    }
}

fn order() -> Schema {
    let at_most_9 = Range {
        min: None,
        max: Some(Bound::Int(9)),
    };
    let line = Fields::new(vec![
        field("sku", string(3)),
        field("qty", Kind::Integer(at_most_9)),
    ]);
    let lines = Kind::List {
        size: size(30),
        item: Box::new(typed(Kind::Record(line))),
    };
    schema(vec![
        field("note", string(5)),
        field("lines", lines),
        field("gift", Kind::Boolean),
    ])
}

fn line(sku: &str, qty: i64) -> Json {
    Json::map([("sku", Json::str(sku)), ("qty", Json::Int(qty))])
}

#[test]
fn every_problem_is_told_in_order() {
    let args = Json::map([
        ("gift", Json::Int(1)),
        (
            "lines",
            Json::List(vec![
                line("abc", 9),
                line("abcd", 10),
                Json::Nil,
                Json::map([("sku", Json::str("a")), ("x", Json::Nil)]),
            ]),
        ),
        ("unknown", Json::Nil),
    ]);
    let expected = [
        " Extra",
        ".note Missing",
        ".lines[1].qty AboveMax",
        ".lines[1].sku TooLong",
        ".lines[2] Missing",
        ".lines[3] Extra",
        ".lines[3].qty Missing",
        ".gift WrongType",
    ];
    assert_eq!(every(&order(), &args, 20), expected);
    for max in 1..expected.len() {
        assert_eq!(every(&order(), &args, max), expected[..max]);
    }
}

#[test]
fn valid_arguments_have_no_problems() {
    let args = Json::map([
        ("gift", Json::Bool(true)),
        ("lines", Json::List(vec![line("abc", 9)])),
        ("note", Json::str("short")),
    ]);
    assert!(every(&order(), &args, 20).is_empty());
}

#[test]
fn the_size_of_a_list_is_its_only_problem() {
    let lines = Json::List(vec![line("abcd", 10); 31]);
    let args = Json::map([("gift", Json::Int(1)), ("lines", lines)]);
    let expected = [".note Missing", ".lines TooManyItems", ".gift WrongType"];
    assert_eq!(every(&order(), &args, 20), expected);
}

#[test]
fn no_more_problems_than_asked_for_are_looked_for() {
    let lines = Json::List(vec![line("abcd", 10); 30]);
    let args = Json::map([
        ("gift", Json::Bool(true)),
        ("lines", lines),
        ("note", Json::str("x")),
    ]);
    let found = every(&order(), &args, 20);
    assert_eq!(found.len(), 20);
    assert_eq!(
        found.last().map(String::as_str),
        Some(".lines[9].sku TooLong")
    );
}

#[test]
fn a_tree_limit_is_the_only_problem() {
    let small = Schema::new(vec![field("a", Kind::Boolean)], Shape::List, limits(2));
    let args = Json::map([("b", Json::List(vec![Json::Int(1); 3]))]);
    assert_eq!(every(&small, &args, 20), [" TooManyNodes"]);
}

#[test]
fn problems_of_flat_maps_and_lists_are_all_told_and_the_first_of_any_content() {
    let flat = FlatMap {
        max_items: 10,
        required: vec!["id".into()],
        accept: Some(["id", "a", "b", "c"].into_iter().map(Box::from).collect()),
        nested: false,
        max_length: 3,
        max_list: 2,
    };
    let schema = schema(vec![
        field("flat", Kind::FlatMap(flat)),
        field("any", Kind::Any),
        field("nums", Kind::NumList(size(9))),
    ]);
    let args = Json::map([
        (
            "any",
            Json::List(vec![Json::Other, Json::Int(1), Json::Str(vec![255])]),
        ),
        (
            "flat",
            Json::map([
                ("z", Json::Int(1)),
                ("c", Json::str("long")),
                ("a", Json::List(vec![Json::Nil, Json::Other])),
                ("b", Json::map([])),
            ]),
        ),
        (
            "nums",
            Json::List(vec![Json::str("1"), Json::Int(1), Json::Nil]),
        ),
    ]);
    let expected = [
        ".flat MissingKeys",
        ".flat RejectedKeys",
        ".flat.a[0] UnsupportedNil",
        ".flat.a[1] NotJson",
        ".flat.b NestedMap",
        ".flat EntryTooLong",
        ".any[0] NotJson",
        ".nums[0] UnsupportedItem",
        ".nums[2] UnsupportedItem",
    ];
    assert_eq!(every(&schema, &args, 20), expected);
}

#[test]
fn looking_for_problems_stops_when_the_budget_is_used_up() {
    let schema = schema(vec![field("a", Kind::NumList(size(2_000)))]);
    let args = Json::map([("a", Json::List(vec![Json::str("x"); 1_000]))]);
    assert!(schema.problems(&args, &Maker, 500, 20).is_none());
    assert!(schema.problems(&args, &Maker, 10_000, 20).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// There are problems exactly where the check finds one, and that is the first; whatever the
    /// number asked for, they are the same ones.
    #[test]
    fn the_first_problem_is_that_of_the_check(
        (kind, value) in (oracle::kinds(), json::values()),
        mode in 0..4u8,
        max in 1..20usize,
    ) {
        let schema = schema(vec![field("a", oracle::compile(&kind, mode == 3))]);
        let args = Json::map([("a", value)]);
        let all = every(&schema, &args, 1_000);
        match check(&schema, &args) {
            Ok(_) => prop_assert!(all.is_empty()),
            Err((path, name)) => prop_assert_eq!(&all[0], &format!("{path} {name}")),
        }
        let few = every(&schema, &args, max);
        prop_assert_eq!(&few, &all[..few.len()]);
        prop_assert_eq!(few.len(), all.len().min(max));
        prop_assert!(matches!(schema.check(&args, &Maker, u64::MAX), Outcome::Valid(_)) == all.is_empty());
    }
}
