//! Argument schemas without a BEAM: plain values checked by plain cargo.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod json;
mod oracle;
mod problems;
mod stack;

use gen_api_core::schema::{
    Bound, Field, Fields, KeptValue, Kind, Member, Members, Outcome, Problem, Range, Schema,
    Segment, Shape, Size, StrRule, TreeLimits, Type, MAX_LEVELS,
};
use json::{Json, Maker};
use proptest::prelude::*;

const LIMITS: TreeLimits = limits(100_000);

const fn limits(max_nodes: u32) -> TreeLimits {
    match TreeLimits::new(MAX_LEVELS, max_nodes) {
        Some(limits) => limits,
        None => unreachable!(),
    }
}

fn typed(kind: Kind) -> Type {
    Type {
        kind,
        allow_nil: false,
        default: None,
    }
}

fn string(max_length: u32) -> Kind {
    Kind::Str(StrRule {
        max_length,
        min_length: 0,
        max_bytes: None,
        format: None,
    })
}

fn size(max: u32) -> Size {
    Size { max, min: 0 }
}

fn field(name: &str, kind: Kind) -> Field {
    Field {
        name: name.into(),
        r#type: typed(kind),
    }
}

fn schema(fields: Vec<Field>) -> Schema {
    Schema::new(fields, Shape::List, LIMITS)
}

/// The list of call arguments, or the path and a name of the problem.
fn check(schema: &Schema, args: &Json) -> Result<Json, (String, String)> {
    match schema.check(args, &Maker, u64::MAX) {
        Outcome::Valid(list) => Ok(list.clone()),
        Outcome::Invalid(failure) => {
            let path = failure.path.iter().map(|segment| match segment {
                Segment::Name(name) => format!(".{name}"),
                Segment::Index(index) => format!("[{index}]"),
            });
            let name = format!("{:?}", failure.problem);
            let name = name.split(['(', ' ']).next().unwrap_or_default().to_owned();
            Err((path.collect(), name))
        }
        Outcome::OutOfBudget => panic!("no budget was set"),
    }
}

fn problem(schema: &Schema, args: &Json) -> (String, String) {
    check(schema, args).expect_err("a problem")
}

#[test]
fn arguments_come_out_in_declared_order_and_unchanged() {
    let schema = schema(vec![field("z", string(9)), field("a", Kind::Boolean)]);
    let args = Json::map([("a", Json::Bool(true)), ("z", Json::str("x"))]);
    let expected = Json::List(vec![Json::str("x"), Json::Bool(true)]);
    assert_eq!(check(&schema, &args), Ok(expected));
}

#[test]
fn a_problem_has_the_path_to_the_value() {
    let line = Fields::new(vec![field(
        "qty",
        Kind::Integer(Range {
            min: None,
            max: Some(Bound::Int(9)),
        }),
    )]);
    let lines = Kind::List {
        size: size(10),
        item: Box::new(typed(Kind::Record(line))),
    };
    let order = Fields::new(vec![field("lines", lines)]);
    let schema = schema(vec![field("order", Kind::Record(order))]);
    let qty = |n| Json::map([("qty", Json::Int(n))]);
    let args = |last| {
        let lines = Json::List(vec![qty(1), qty(9), qty(last)]);
        Json::map([("order", Json::map([("lines", lines)]))])
    };
    assert!(check(&schema, &args(9)).is_ok());
    let expected = (".order.lines[2].qty".into(), "AboveMax".into());
    assert_eq!(problem(&schema, &args(10)), expected);
}

#[test]
fn the_size_of_a_list_comes_before_its_items() {
    let schema = schema(vec![field(
        "l",
        Kind::StrList {
            size: Size { max: 2, min: 2 },
            max_length: 3,
            max_bytes: None,
        },
    )]);
    let list = |items: Vec<Json>| Json::map([("l", Json::List(items))]);
    let (good, long, bad) = (Json::str("abc"), Json::str("abcd"), Json::Int(1));
    assert!(check(&schema, &list(vec![good.clone(), good.clone()])).is_ok());
    for (items, path, name) in [
        (
            vec![bad.clone(), good.clone(), good.clone()],
            ".l",
            "TooManyItems",
        ),
        (
            vec![good.clone(), good.clone(), good.clone()],
            ".l",
            "TooManyItems",
        ),
        (vec![bad.clone()], ".l", "TooFewItems"),
        (vec![good.clone()], ".l", "TooFewItems"),
        (vec![good.clone(), bad], ".l[1]", "UnsupportedItem"),
        (vec![good, long], ".l[1]", "TooLong"),
    ] {
        assert_eq!(problem(&schema, &list(items)), (path.into(), name.into()));
    }
}

#[test]
fn an_improper_list_is_no_list() {
    for kind in [
        Kind::NumList(size(5)),
        Kind::List {
            size: size(5),
            item: Box::new(typed(Kind::Any)),
        },
        Kind::StrList {
            size: size(5),
            max_length: 5,
            max_bytes: None,
        },
    ] {
        let schema = schema(vec![field("l", kind)]);
        let args = Json::map([("l", Json::Improper(vec![Json::Int(1)]))]);
        assert_eq!(problem(&schema, &args), (".l".into(), "WrongType".into()));
    }
}

#[test]
fn the_tree_limits_come_first_and_hold_at_their_edge() {
    let nested = |levels: usize| (0..levels).fold(Json::Int(1), |inner, _| Json::List(vec![inner]));
    let schema = schema(vec![field("a", Kind::Any), field("b", Kind::Boolean)]);
    let args = |a| Json::map([("a", a), ("b", Json::Int(1))]);
    assert_eq!(
        problem(&schema, &args(nested(32))),
        (".b".into(), "WrongType".into())
    );
    assert_eq!(
        problem(&schema, &args(nested(33))),
        (String::new(), "TooDeep".into())
    );
    let small = Schema::new(vec![field("a", Kind::Any)], Shape::List, limits(10));
    let wide = |n: usize| Json::map([("a", Json::List(vec![Json::Int(1); n]))]);
    assert!(check(&small, &wide(9)).is_ok());
    assert_eq!(
        problem(&small, &wide(10)),
        (String::new(), "TooManyNodes".into())
    );
}

#[test]
fn a_copy_of_what_is_kept_outside_counts_as_work() {
    let large = KeptValue {
        id: 0,
        units: 1_000,
    };
    let mut with_default = field("a", Kind::Boolean);
    with_default.r#type.default = Some(large);
    let listed = Kind::Enum(Members::new(vec![Member::Int(1)], large));
    let schema = schema(vec![with_default, field("b", listed)]);
    let absent = Json::map([("b", Json::Int(1))]);
    let no_member = Json::map([("a", Json::Bool(true)), ("b", Json::Int(2))]);
    for args in [&absent, &no_member] {
        let outcome = |units| schema.check(args, &Maker, units);
        assert!(matches!(outcome(500), Outcome::OutOfBudget));
        assert!(!matches!(outcome(5_000), Outcome::OutOfBudget));
    }
    let both = Json::map([("a", Json::Bool(true)), ("b", Json::Int(1))]);
    assert!(matches!(
        schema.check(&both, &Maker, 500),
        Outcome::Valid(_)
    ));
}

#[test]
fn a_check_stops_when_its_budget_is_used_up() {
    let schema = schema(vec![field("a", Kind::Any)]);
    let args = Json::map([("a", Json::List(vec![Json::str("x"); 1_000]))]);
    let maker = Maker;
    assert!(matches!(
        schema.check(&args, &maker, 500),
        Outcome::OutOfBudget
    ));
    assert!(matches!(
        schema.check(&args, &maker, 5_000),
        Outcome::Valid(_)
    ));
}

#[test]
fn undeclared_arguments_are_all_named() {
    let schema = schema(vec![field("a", Kind::Any)]);
    let args = Json::map([
        ("a", Json::Int(1)),
        ("b", Json::Int(1)),
        ("c", Json::Int(1)),
    ]);
    match schema.check(&args, &Maker, u64::MAX) {
        Outcome::Invalid(failure) => match failure.problem {
            Problem::Extra(keys) => assert_eq!(keys, [&Json::str("b"), &Json::str("c")]),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the value and the type: the oracle's verdict, and never a panic.
    #[test]
    fn the_verdict_is_that_of_the_oracle(
        (kind, value) in (oracle::kinds(), json::values()),
        mode in 0..4u8,
    ) {
        let schema = schema(vec![field("a", oracle::compile(&kind, mode == 3))]);
        let args = Json::map([("a", value.clone())]);
        prop_assert_eq!(check(&schema, &args).is_ok(), oracle::accepts(&kind, mode == 3, &value));
    }

    /// A value made to fit is accepted, and with any budget the answer is the same or none.
    #[test]
    fn a_fitting_value_is_accepted(
        (kind, value) in oracle::fitting(),
        units in 0..200u64,
    ) {
        let schema = schema(vec![field("a", oracle::compile(&kind, false))]);
        let args = Json::map([("a", value)]);
        prop_assert!(check(&schema, &args).is_ok());
        let outcome = schema.check(&args, &Maker, units);
        prop_assert!(matches!(outcome, Outcome::Valid(_) | Outcome::OutOfBudget));
    }
}
