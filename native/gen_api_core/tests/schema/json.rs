//! A plain value and a maker of values.

use gen_api_core::schema::datetime::DateTime;
use gen_api_core::value::{Big, Build, DateStruct, Items, Value, View};
use proptest::prelude::*;

/// What a caller may send.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Vec<u8>),
    List(Vec<Json>),
    Improper(Vec<Json>),
    Map(Vec<(Json, Json)>),
    Other,
}

impl Json {
    pub fn str(text: &str) -> Json {
        Json::Str(text.as_bytes().to_vec())
    }

    pub fn map<const N: usize>(entries: [(&str, Json); N]) -> Json {
        Json::Map(Vec::from(entries.map(|(k, v)| (Json::str(k), v))))
    }
}

/// Items of a list.
pub struct Walk<'a>(std::slice::Iter<'a, Json>, bool);

impl<'a> Iterator for Walk<'a> {
    type Item = &'a Json;

    fn next(&mut self) -> Option<&'a Json> {
        self.0.next()
    }
}

impl Items for Walk<'_> {
    fn is_proper(&self) -> bool {
        self.1
    }
}

/// Entries of a map.
pub struct Entries<'a>(std::slice::Iter<'a, (Json, Json)>);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a Json, &'a Json);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(k, v)| (k, v))
    }
}

impl<'a> Value<'a> for &'a Json {
    type Items = Walk<'a>;
    type Entries = Entries<'a>;

    fn view(self) -> View<'a> {
        match self {
            Json::Nil => View::Nil,
            Json::Bool(b) => View::Bool(*b),
            Json::Int(n) => View::Int(*n),
            Json::Float(n) => View::Float(*n),
            Json::Str(bytes) => View::Str(bytes),
            Json::List(_) | Json::Improper(_) => View::List,
            Json::Map(_) => View::Map,
            Json::Other => View::Other,
        }
    }

    fn as_str(self) -> Option<&'a [u8]> {
        match self {
            Json::Str(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn as_int(self) -> Option<i64> {
        match self {
            Json::Int(n) => Some(*n),
            _ => None,
        }
    }

    fn as_float(self) -> Option<f64> {
        match self {
            Json::Float(n) => Some(*n),
            _ => None,
        }
    }

    fn as_bool(self) -> Option<bool> {
        match self {
            Json::Bool(b) => Some(*b),
            _ => None,
        }
    }

    fn items(self) -> Walk<'a> {
        match self {
            Json::List(items) => Walk(items.iter(), true),
            Json::Improper(items) => Walk(items.iter(), false),
            _ => Walk([].iter(), false),
        }
    }

    fn all_strs(self, mut each: impl FnMut(&'a [u8]) -> bool) -> bool {
        let mut items = self.items();
        items
            .by_ref()
            .all(|item| item.as_str().is_some_and(&mut each))
            && items.is_proper()
    }

    fn map_len(self) -> Option<usize> {
        match self {
            Json::Map(entries) => Some(entries.len()),
            _ => None,
        }
    }

    fn entries(self) -> Entries<'a> {
        match self {
            Json::Map(entries) => Entries(entries.iter()),
            _ => Entries([].iter()),
        }
    }

    fn is_struct(self) -> bool {
        false
    }

    fn date_struct(self) -> Option<DateStruct> {
        None
    }

    fn big(self) -> Option<Big> {
        None
    }
}

/// Keeps what it makes for as long as the test runs.
pub struct Maker;

impl Maker {
    fn keep<'a>(&self, value: Json) -> &'a Json {
        Box::leak(Box::new(value))
    }
}

impl<'a> Build<'a> for Maker {
    type V = &'a Json;

    fn nil(&self) -> &'a Json {
        &Json::Nil
    }

    fn float(&self, value: f64) -> &'a Json {
        self.keep(Json::Float(value))
    }

    fn default_value(&self, id: u32) -> &'a Json {
        self.keep(Json::Int(i64::from(id)))
    }

    fn member(&self, id: u32) -> &'a Json {
        self.keep(Json::Int(i64::from(id)))
    }

    fn is_member(&self, _id: u32, _value: &'a Json) -> bool {
        false
    }

    fn datetime(&self, value: &DateTime) -> &'a Json {
        self.keep(Json::str(&format!("{value:?}")))
    }

    fn naive_datetime(&self, value: &DateTime) -> &'a Json {
        self.datetime(value)
    }

    fn date(&self, value: &DateTime) -> &'a Json {
        self.datetime(value)
    }

    fn time(&self, value: &DateTime) -> &'a Json {
        self.datetime(value)
    }

    fn to_utc(&self, _value: &'a Json) -> Option<&'a Json> {
        None
    }

    fn string(&self, value: &str) -> &'a Json {
        self.keep(Json::str(value))
    }

    fn list(&self, items: &[&'a Json]) -> &'a Json {
        self.keep(Json::List(
            items.iter().map(|item| (*item).clone()).collect(),
        ))
    }

    fn map(&self, keys: &[&'a Json], values: &[&'a Json]) -> &'a Json {
        let entries = keys.iter().zip(values);
        self.keep(Json::Map(
            entries.map(|(k, v)| ((*k).clone(), (*v).clone())).collect(),
        ))
    }
}

fn leaf() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Nil),
        any::<bool>().prop_map(Json::Bool),
        (-20..20i64).prop_map(Json::Int),
        any::<i64>().prop_map(Json::Int),
        (-20.0..20.0f64).prop_map(Json::Float),
        "[a-cé😀]{0,6}".prop_map(|text| Json::str(&text)),
        proptest::collection::vec(any::<u8>(), 0..6).prop_map(Json::Str),
        Just(Json::Other),
    ]
}

/// Any value, a few levels deep.
pub fn values() -> impl Strategy<Value = Json> {
    leaf().prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Json::List),
            proptest::collection::vec(inner.clone(), 1..3).prop_map(Json::Improper),
            proptest::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| Json::Map(
                map.into_iter().map(|(k, v)| (Json::str(&k), v)).collect()
            )),
        ]
    })
}
