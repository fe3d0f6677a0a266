use std::sync::Arc;

use gen_api_core::table::{Entry, Lookup, Origin, Table};

use super::{explore, race};

type Numbers = Table<u32>;

fn entry(request_type: &str, payload: u32) -> Entry<u32> {
    Entry {
        service: "shop".into(),
        request_type: request_type.into(),
        version: "1.0.0".into(),
        origin: Origin::Pull,
        disabled: false,
        payload,
    }
}

fn find(table: &Numbers, request_type: &str) -> Option<u32> {
    table.lookup(
        b"shop",
        request_type.as_bytes(),
        None,
        |found| match found {
            Lookup::Found(payload) => Some(*payload),
            _ => None,
        },
    )
}

#[test]
fn of_writers_at_once_none_undoes_what_another_did() {
    explore(|| {
        let table = Arc::new(Numbers::new());
        race(
            &table,
            [
                |table: &Numbers| table.store(vec![entry("buy", 1)]),
                |table| table.store(vec![entry("sell", 2)]),
                |table| table.store(vec![entry("buy", 1), entry("rent", 3)]),
            ],
        );
        let found = ["buy", "sell", "rent"].map(|name| find(&table, name));
        assert_eq!(found, [Some(1), Some(2), Some(3)]);
        assert_eq!(table.snapshot().len(), 3);
    });
}

#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    explore(|| {
        let table = Arc::new(Numbers::new());
        table.store(vec![entry("buy", 1), entry("sell", 1)]);
        race(
            &table,
            [
                |table: &Numbers| {
                    let entries = vec![entry("buy", 2), entry("rent", 2)];
                    table.replace_service("shop", entries, vec![], true, vec![]);
                },
                |table| {
                    let snapshot = table.snapshot();
                    let mut seen: Vec<_> = snapshot.functions().map(|f| f.request_type()).collect();
                    seen.sort_unstable();
                    assert!(
                        seen == ["buy", "sell"] || seen == ["buy", "rent"],
                        "{seen:?}"
                    );
                    // One look after another never goes back.
                    if find(table, "buy") == Some(2) {
                        assert_eq!(find(table, "sell"), None);
                        assert_eq!(find(table, "rent"), Some(2));
                    }
                },
            ],
        );
    });
}

#[test]
fn a_service_never_replaces_what_the_gateway_adds_at_the_same_moment() {
    explore(|| {
        let table = Arc::new(Numbers::new());
        race(
            &table,
            [
                |table: &Numbers| {
                    table.store(vec![Entry {
                        origin: Origin::Direct,
                        ..entry("buy", 1)
                    }]);
                },
                |table| {
                    let entries = vec![entry("buy", 2), entry("rent", 2)];
                    table.replace_service("shop", entries, vec![], true, vec![]);
                },
            ],
        );
        assert_eq!(find(&table, "buy"), Some(1));
    });
}
