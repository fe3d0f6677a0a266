//! What a type accepts, said a second time and as plainly as can be.

use crate::json::Json;
use gen_api_core::schema::{Bound, Field, Fields, Kind, Range, Size, StrRule, Type};
use proptest::prelude::*;

/// A type to be drawn at random.
#[derive(Clone, Debug)]
pub enum Model {
    Str(u32, u32),
    Num(Option<i64>, Option<i64>),
    Integer(Option<i64>, Option<i64>),
    Boolean,
    Any,
    NumList(u32, u32),
    StrList(u32, u32, u32),
    List(u32, u32, Box<Model>),
    Record(Vec<(String, Model)>),
}

fn typed(kind: Kind, allow_nil: bool) -> Type {
    Type {
        kind,
        allow_nil,
        default: None,
    }
}

/// The type as the core takes it; `allow_nil` holds for items and fields.
pub fn compile(model: &Model, allow_nil: bool) -> Kind {
    let range = |min: &Option<i64>, max: &Option<i64>| Range {
        min: min.map(Bound::Int),
        max: max.map(Bound::Int),
    };
    match model {
        Model::Str(min, max) => Kind::Str(StrRule {
            max_length: *max,
            min_length: *min,
            max_bytes: None,
            format: None,
        }),
        Model::Num(min, max) => Kind::Num(range(min, max)),
        Model::Integer(min, max) => Kind::Integer(range(min, max)),
        Model::Boolean => Kind::Boolean,
        Model::Any => Kind::Any,
        Model::NumList(min, max) => Kind::NumList(Size {
            max: *max,
            min: *min,
        }),
        Model::StrList(min, max, length) => Kind::StrList {
            size: Size {
                max: *max,
                min: *min,
            },
            max_length: *length,
            max_bytes: None,
        },
        Model::List(min, max, item) => Kind::List {
            size: Size {
                max: *max,
                min: *min,
            },
            item: Box::new(typed(compile(item, allow_nil), allow_nil)),
        },
        Model::Record(fields) => Kind::Record(Fields::new(
            fields
                .iter()
                .map(|(name, model)| Field {
                    name: name.as_str().into(),
                    r#type: typed(compile(model, allow_nil), allow_nil),
                })
                .collect(),
        )),
    }
}

fn text(bytes: &[u8], min: u32, max: u32) -> bool {
    String::from_utf8(bytes.to_vec()).is_ok_and(|text| {
        let length = text.chars().count() as u32;
        (min..=max).contains(&length)
    })
}

fn number(value: &Json, min: &Option<i64>, max: &Option<i64>) -> bool {
    let value = match value {
        Json::Int(n) => *n as f64,
        Json::Float(n) => *n,
        _ => return false,
    };
    min.is_none_or(|min| value >= min as f64) && max.is_none_or(|max| value <= max as f64)
}

fn is_json(value: &Json) -> bool {
    match value {
        Json::Str(bytes) => std::str::from_utf8(bytes).is_ok(),
        Json::List(items) => items.iter().all(is_json),
        Json::Map(entries) => entries.iter().all(|(_, value)| is_json(value)),
        Json::Improper(_) | Json::Other => false,
        _ => true,
    }
}

/// Whether the type accepts the value; nil is one only below the top.
pub fn accepts(model: &Model, allow_nil: bool, value: &Json) -> bool {
    let inner = |model: &Model, value: &Json| {
        (allow_nil && *value == Json::Nil) || accepts(model, allow_nil, value)
    };
    let sized = |items: &[Json], min: u32, max: u32| (min..=max).contains(&(items.len() as u32));
    match (model, value) {
        (_, Json::Nil) => false,
        (Model::Str(min, max), Json::Str(bytes)) => text(bytes, *min, *max),
        (Model::Num(min, max), value) => number(value, min, max),
        (Model::Integer(min, max), Json::Int(_)) => number(value, min, max),
        (Model::Boolean, value) => matches!(value, Json::Bool(_)),
        (Model::Any, value) => is_json(value),
        (Model::NumList(min, max), Json::List(items)) => {
            sized(items, *min, *max) && items.iter().all(|item| number(item, &None, &None))
        }
        (Model::StrList(min, max, length), Json::List(items)) => {
            sized(items, *min, *max)
                && items
                    .iter()
                    .all(|item| matches!(item, Json::Str(bytes) if text(bytes, 0, *length)))
        }
        (Model::List(min, max, item), Json::List(items)) => {
            sized(items, *min, *max) && items.iter().all(|value| inner(item, value))
        }
        (Model::Record(fields), Json::Map(entries)) => {
            let sent = |name: &str| entries.iter().find(|(key, _)| *key == Json::str(name));
            entries
                .iter()
                .all(|(key, _)| fields.iter().any(|(name, _)| *key == Json::str(name)))
                && fields.iter().all(|(name, model)| match sent(name) {
                    Some((_, value)) => inner(model, value),
                    None => allow_nil,
                })
        }
        _ => false,
    }
}

fn bounds() -> impl Strategy<Value = (Option<i64>, Option<i64>)> {
    (prop::option::of(-9..5i64), prop::option::of(-4..9i64))
}

/// Types, a few levels deep.
pub fn kinds() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        (0..3u32, 0..6u32).prop_map(|(min, max)| Model::Str(min, max)),
        bounds().prop_map(|(min, max)| Model::Num(min, max)),
        bounds().prop_map(|(min, max)| Model::Integer(min, max)),
        Just(Model::Boolean),
        Just(Model::Any),
        (0..2u32, 1..4u32).prop_map(|(min, max)| Model::NumList(min, max)),
        (0..2u32, 1..4u32, 0..5u32).prop_map(|(min, max, n)| Model::StrList(min, max, n)),
    ];
    leaf.prop_recursive(2, 12, 3, |inner| {
        prop_oneof![
            (0..2u32, 1..4u32, inner.clone()).prop_map(|(min, max, item)| Model::List(
                min,
                max,
                Box::new(item)
            )),
            proptest::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|fields| Model::Record(fields.into_iter().collect())),
        ]
    })
}

/// A value that the type accepts.
fn fit(model: &Model) -> BoxedStrategy<Json> {
    let range = |min: &Option<i64>, max: &Option<i64>| {
        let low = min.unwrap_or(-100);
        low..=max.unwrap_or(100).max(low)
    };
    match model {
        Model::Str(min, max) => {
            proptest::collection::vec("[aé😀]", *min as usize..=(*max).max(*min) as usize)
                .prop_map(|parts| Json::str(&parts.concat()))
                .boxed()
        }
        Model::Num(min, max) | Model::Integer(min, max) => {
            range(min, max).prop_map(Json::Int).boxed()
        }
        Model::Boolean => any::<bool>().prop_map(Json::Bool).boxed(),
        Model::Any => Just(Json::List(vec![Json::Nil, Json::str("é")])).boxed(),
        Model::NumList(min, max) => proptest::collection::vec(
            any::<i64>().prop_map(Json::Int),
            *min as usize..=*max as usize,
        )
        .prop_map(Json::List)
        .boxed(),
        Model::StrList(min, max, length) => {
            let item = proptest::collection::vec("[aé]", 0..=*length as usize)
                .prop_map(|parts| Json::str(&parts.concat()));
            proptest::collection::vec(item, *min as usize..=*max as usize)
                .prop_map(Json::List)
                .boxed()
        }
        Model::List(min, max, item) => {
            proptest::collection::vec(fit(item), *min as usize..=*max as usize)
                .prop_map(Json::List)
                .boxed()
        }
        Model::Record(fields) => {
            let values: Vec<BoxedStrategy<Json>> =
                fields.iter().map(|(_, model)| fit(model)).collect();
            let names: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
            values
                .prop_map(move |values| {
                    let keys = names.iter().map(|name| Json::str(name));
                    Json::Map(keys.zip(values).collect())
                })
                .boxed()
        }
    }
}

/// Types whose bounds can be met, each with a value that meets them.
pub fn fitting() -> impl Strategy<Value = (Model, Json)> {
    kinds()
        .prop_filter("bounds that can be met", satisfiable)
        .prop_flat_map(|model| fit(&model).prop_map(move |value| (model.clone(), value)))
}

fn satisfiable(model: &Model) -> bool {
    match model {
        Model::Str(min, max) => min <= max,
        Model::Num(Some(min), Some(max)) | Model::Integer(Some(min), Some(max)) => min <= max,
        Model::List(_, _, item) => satisfiable(item),
        Model::Record(fields) => fields.iter().all(|(_, model)| satisfiable(model)),
        _ => true,
    }
}
