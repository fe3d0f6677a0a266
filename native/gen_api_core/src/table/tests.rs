use super::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

fn entry(service: &str, request_type: &str, version: &str, payload: u32) -> Entry<u32> {
    Entry {
        service: service.into(),
        request_type: request_type.into(),
        version: version.into(),
        origin: Origin::Direct,
        disabled: false,
        payload,
    }
}

fn get(table: &Table<u32>, service: &str, kind: &str, version: Option<&str>) -> Result<u32, bool> {
    table.lookup(
        service.as_bytes(),
        kind.as_bytes(),
        version.map(str::as_bytes),
        |lookup| match lookup {
            Lookup::Found(payload) => Ok(*payload),
            Lookup::Disabled => Err(true),
            Lookup::NotFound => Err(false),
        },
    )
}

/// How many configs of the service `s` give way, where the gateway has added none of the keys.
fn removed(table: &Table<u32>, entries: Vec<Entry<u32>>, keep: Vec<Key>) -> usize {
    let replaced = table.replace_service("s", entries, keep, true, vec![]);
    assert_eq!(replaced.taken, vec![]);
    replaced.removed
}

#[test]
fn a_request_without_a_version_gets_the_unversioned_config_or_the_highest_enabled_one() {
    let table = Table::new();
    assert_eq!(get(&table, "s", "t", None), Err(false));
    table.store(vec![
        entry("s", "t", "1.0.0", 1),
        entry("s", "t", "10.0.0", 10),
        entry("s", "t", "9.0.0", 9),
    ]);
    assert_eq!(get(&table, "s", "t", None), Ok(10));
    assert_eq!(get(&table, "s", "t", Some("0.0.0")), Ok(10));
    assert_eq!(get(&table, "s", "t", Some("9.0.0")), Ok(9));
    assert_eq!(get(&table, "s", "t", Some("2.0.0")), Err(false));
    table.switch("s", "t", "10.0.0", false);
    assert_eq!(get(&table, "s", "t", None), Ok(9));
    table.store(vec![entry("s", "t", UNVERSIONED, 0)]);
    assert_eq!(get(&table, "s", "t", None), Ok(0));
    table.switch("s", "t", UNVERSIONED, false);
    assert_eq!(get(&table, "s", "t", None), Ok(9));
    assert_eq!(get(&table, "s", "t", Some(UNVERSIONED)), Err(true));
    for version in ["1.0.0", "9.0.0"] {
        table.switch("s", "t", version, false);
    }
    assert_eq!(get(&table, "s", "t", None), Err(true));
}

#[test]
fn keys_that_read_alike_when_joined_are_apart() {
    let table = Table::new();
    table.store(vec![
        entry("ab", "c", "1.0.0", 1),
        entry("a", "bc", "1.0.0", 2),
    ]);
    assert_eq!(get(&table, "ab", "c", None), Ok(1));
    assert_eq!(get(&table, "a", "bc", None), Ok(2));
    assert_eq!(get(&table, "abc", "", None), Err(false));
}

#[test]
fn an_operators_mark_survives_storing_and_pruning_and_ends_with_enable_or_delete() {
    let table = Table::new();
    let pulled = |payload| Entry {
        origin: Origin::Pull,
        ..entry("s", "t", "1.0.0", payload)
    };
    assert_eq!(table.switch("s", "t", "1.0.0", false), Switched::NotFound);
    table.replace_service("s", vec![pulled(1)], vec![], false, vec![]);
    assert_eq!(table.switch("s", "t", "1.0.0", false), Switched::Changed);
    assert_eq!(table.switch("s", "t", "1.0.0", false), Switched::Unchanged);
    table.replace_service("s", vec![pulled(2)], vec![], false, vec![]);
    assert_eq!(get(&table, "s", "t", None), Err(true));
    assert_eq!(removed(&table, vec![], vec![]), 1);
    assert_eq!(get(&table, "s", "t", None), Err(false));
    table.replace_service("s", vec![pulled(3)], vec![], false, vec![]);
    assert_eq!(get(&table, "s", "t", None), Err(true));
    assert_eq!(table.switch("s", "t", "1.0.0", true), Switched::Changed);
    assert_eq!(get(&table, "s", "t", None), Ok(3));
    table.switch("s", "t", "1.0.0", false);
    assert!(table.delete("s", "t", "1.0.0"));
    assert!(!table.delete("s", "t", "1.0.0"));
    table.store(vec![pulled(4)]);
    assert_eq!(get(&table, "s", "t", None), Ok(4));
}

#[test]
fn a_mark_made_ahead_holds_when_the_config_comes_and_is_no_config() {
    let table = Table::new();
    assert_eq!(
        table.switch_ahead("s", "t", "1.0.0", false),
        Switched::NotFound
    );
    assert_eq!(get(&table, "s", "t", None), Err(false));
    assert_eq!(table.snapshot().len(), 0);
    table.store(vec![
        entry("s", "t", "1.0.0", 1),
        entry("s", "t", "2.0.0", 2),
    ]);
    assert_eq!(get(&table, "s", "t", Some("1.0.0")), Err(true));
    assert_eq!(get(&table, "s", "t", Some("2.0.0")), Ok(2));
    // And one that is taken back ahead holds no more.
    assert_eq!(
        table.switch_ahead("s", "u", "1.0.0", false),
        Switched::NotFound
    );
    assert_eq!(
        table.switch_ahead("s", "u", "1.0.0", true),
        Switched::NotFound
    );
    table.store(vec![entry("s", "u", "1.0.0", 3)]);
    assert_eq!(get(&table, "s", "u", None), Ok(3));
}

#[test]
fn a_config_that_says_disabled_can_be_enabled_until_it_is_stored_again() {
    let table = Table::new();
    let stored = || Entry {
        disabled: true,
        ..entry("s", "t", "1.0.0", 1)
    };
    table.store(vec![stored()]);
    assert_eq!(get(&table, "s", "t", None), Err(true));
    table.switch("s", "t", "1.0.0", true);
    assert_eq!(get(&table, "s", "t", None), Ok(1));
    table.store(vec![stored()]);
    assert_eq!(get(&table, "s", "t", None), Err(true));
}

#[test]
fn replacing_a_service_spares_direct_entries_and_other_services() {
    let table = Table::new();
    let with = |origin, request_type: &str, service: &str| Entry {
        origin,
        ..entry(service, request_type, "1.0.0", 7)
    };
    table.store(vec![
        with(Origin::Direct, "direct", "s"),
        with(Origin::Pull, "pulled", "s"),
        with(Origin::Push, "pushed", "s"),
        with(Origin::Push, "pushed", "other"),
    ]);
    let new = vec![with(Origin::Push, "new", "s")];
    assert_eq!(removed(&table, new, vec![]), 2);
    assert_eq!(table.snapshot().len(), 3);
    assert_eq!(get(&table, "s", "direct", None), Ok(7));
    assert_eq!(get(&table, "s", "new", None), Ok(7));
    assert_eq!(get(&table, "other", "pushed", None), Ok(7));
    let kept = vec![("new".into(), "1.0.0".into())];
    assert_eq!(removed(&table, vec![], kept), 0);
    assert_eq!(get(&table, "s", "new", None), Ok(7));
    assert_eq!(table.clear(), 3);
    assert!(table.snapshot().is_empty());
}

#[test]
fn a_service_cannot_replace_what_the_gateway_has_added() {
    let table = Table::new();
    let pushed = |request_type: &str, version: &str| Entry {
        origin: Origin::Push,
        ..entry("s", request_type, version, 2)
    };
    table.store(vec![entry("s", "t", "1.0.0", 1), pushed("old", "1.0.0")]);
    let entries = || {
        vec![
            pushed("t", "1.0.0"),
            pushed("t", "2.0.0"),
            pushed("new", "1.0.0"),
        ]
    };
    let taken = || vec![("t".into(), "1.0.0".into())];

    let replaced = table.replace_service("s", entries(), vec![], true, vec![]);
    assert_eq!((replaced.removed, replaced.taken), (0, taken()));
    assert_eq!(table.snapshot().len(), 2);
    assert_eq!(get(&table, "s", "new", None), Err(false));

    let replaced = table.replace_service("s", entries(), vec![], false, vec![]);
    assert_eq!((replaced.removed, replaced.taken), (1, taken()));
    assert_eq!(get(&table, "s", "t", Some("1.0.0")), Ok(1));
    assert_eq!(get(&table, "s", "t", Some("2.0.0")), Ok(2));
    assert_eq!(get(&table, "s", "new", None), Ok(2));
    assert_eq!(get(&table, "s", "old", None), Err(false));

    assert!(table.delete("s", "t", "1.0.0"));
    assert_eq!(removed(&table, entries(), vec![]), 0);
    assert_eq!(get(&table, "s", "t", Some("1.0.0")), Ok(2));
}

#[test]
fn a_count_of_bytes_stops_at_the_largest_number() {
    let table = Table::new();
    table.store(vec![
        entry("s", "t", "1.0.0", 1),
        entry("s", "t", "2.0.0", 2),
        entry("s", "u", "1.0.0", 3),
    ]);
    let counted = table.snapshot().bytes(|_| 10);
    assert!(counted > 30 && counted < 1_000_000);
    assert_eq!(table.snapshot().bytes(|_| usize::MAX), usize::MAX);
}

#[test]
fn it_agrees_with_a_plain_map_over_many_random_operations() {
    let table = Table::new();
    let mut model: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    for step in 0..20_000u32 {
        let key = format!("t{}", next(400));
        let version = format!("{}.0.0", 1 + next(3));
        if next(3) == 0 {
            let removed = model.remove(&(key.clone(), version.clone())).is_some();
            assert_eq!(table.delete("s", &key, &version), removed);
        } else {
            table.store(vec![entry("s", &key, &version, step)]);
            model.insert((key.clone(), version.clone()), step);
        }
        let expected = model
            .range((key.clone(), String::new())..=(key.clone(), "9".into()))
            .next_back()
            .map(|(_, payload)| *payload)
            .ok_or(false);
        assert_eq!(get(&table, "s", &key, None), expected);
        assert_eq!(table.snapshot().len(), model.len());
    }
}

#[test]
fn readers_see_a_batch_whole_or_not_at_all() {
    let table = Table::new();
    let keys: Vec<String> = (0..64).map(|i| format!("t{i}")).collect();
    let batch = |n| keys.iter().map(|k| entry("s", k, "1.0.0", n)).collect();
    table.store(batch(0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let snapshot = table.snapshot();
                    let mut seen: Vec<u32> = snapshot
                        .functions()
                        .flat_map(|f| f.versions().iter().map(|v| *v.payload()))
                        .collect();
                    seen.dedup();
                    assert_eq!(seen.len(), 1, "a mix of two batches: {seen:?}");
                }
            });
        }
        for n in 1..2_000 {
            table.store(batch(n));
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn every_change_makes_another_state_and_a_look_makes_none() {
    let table = Table::new();
    let mut seen = vec![table.snapshot().state()];
    let mut changed = |table: &Table<u32>| {
        let state = table.snapshot().state();
        assert!(!seen.contains(&state), "state {state} again");
        seen.push(state);
    };
    table.store(vec![entry("s", "t", "1.0.0", 1)]);
    changed(&table);
    table.store(vec![entry("s", "t", "1.0.0", 2)]);
    changed(&table);
    table.switch("s", "t", "1.0.0", false);
    changed(&table);
    table.replace_service("s", vec![entry("s", "u", "1.0.0", 3)], vec![], false);
    changed(&table);
    table.delete("s", "u", "1.0.0");
    changed(&table);
    table.clear();
    changed(&table);
    table.clear();
    changed(&table);

    let state = table.snapshot().state();
    assert_eq!(get(&table, "s", "t", None), Err(false));
    table.delete("s", "t", "1.0.0");
    assert_eq!(table.snapshot().state(), state);
}
