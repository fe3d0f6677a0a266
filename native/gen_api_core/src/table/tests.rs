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
        with(Origin::Offer, "offered", "s"),
        with(Origin::Push, "pushed", "other"),
    ]);
    let new = vec![with(Origin::Offer, "new", "s")];
    assert_eq!(removed(&table, new, vec![]), 3);
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

fn keys(versions: &[&str]) -> Vec<Key> {
    let key = |version: &&str| ("t".into(), (*version).into());
    versions.iter().map(key).collect()
}

#[test]
fn a_request_without_a_version_gets_an_eligible_one_if_any_of_them_is_enabled() {
    let all = [UNVERSIONED, "1.0.0", "2.0.0"];
    // Which versions are disabled, which are ineligible, and what is found.
    let cases: [(&[&str], &[&str], Option<usize>); 12] = [
        (&[], &[], Some(0)),
        (&[], &[UNVERSIONED], Some(2)),
        (&[], &[UNVERSIONED, "2.0.0"], Some(1)),
        (&[], &["1.0.0", "2.0.0"], Some(0)),
        (&[], &[UNVERSIONED, "1.0.0", "2.0.0"], Some(0)),
        (&[], &["3.0.0"], Some(0)),
        (&["1.0.0"], &[UNVERSIONED, "2.0.0"], Some(0)),
        (&[UNVERSIONED], &["2.0.0"], Some(1)),
        (&[UNVERSIONED], &["1.0.0", "2.0.0"], Some(2)),
        (&[UNVERSIONED, "2.0.0"], &["1.0.0"], Some(1)),
        (&["2.0.0"], &[UNVERSIONED, "1.0.0"], Some(0)),
        (&[UNVERSIONED, "1.0.0", "2.0.0"], &["1.0.0"], None),
    ];
    for (disabled, ineligible, found) in cases {
        let expected = found.map(|index| index as u32).ok_or(true);
        let table = Table::new();
        let stored = |index: usize, version: &str| entry("s", "t", version, index as u32);
        table.store((0..).zip(all).map(|(i, v)| stored(i, v)).collect());
        for version in disabled {
            table.switch("s", "t", version, false);
        }
        table.set_ineligible("s", keys(ineligible));
        assert_eq!(
            get(&table, "s", "t", None),
            expected,
            "{disabled:?} {ineligible:?}"
        );
        // Those that name a version get it.
        for (index, version) in (0..).zip(&all[1..]) {
            let named = if disabled.contains(version) {
                Err(true)
            } else {
                Ok(index + 1)
            };
            assert_eq!(get(&table, "s", "t", Some(version)), named);
        }
    }
}

#[test]
fn what_is_ineligible_changes_at_once_for_the_whole_service_and_for_no_other() {
    let table = Table::new();
    for service in ["s", "other"] {
        for request_type in ["t", "u"] {
            table.store(vec![
                entry(service, request_type, "1.0.0", 1),
                entry(service, request_type, "2.0.0", 2),
            ]);
        }
    }
    let found = || {
        [("s", "t"), ("s", "u"), ("other", "t")]
            .map(|(service, request_type)| get(&table, service, request_type, None).unwrap_or(0))
    };
    assert!(table.set_ineligible("s", keys(&["2.0.0"])));
    assert_eq!(found(), [1, 2, 2]);
    let before = table.snapshot().clone();
    assert!(!table.set_ineligible("s", keys(&["2.0.0", "3.0.0"])));
    assert!(
        Arc::ptr_eq(&before, &table.snapshot()),
        "no change is published"
    );
    assert!(table.set_ineligible("s", vec![("u".into(), "2.0.0".into())]));
    assert_eq!(found(), [2, 1, 2]);
    // One that is stored anew is eligible until somebody says so again.
    table.store(vec![entry("s", "u", "2.0.0", 3)]);
    assert_eq!(found(), [2, 3, 2]);
    assert!(!table.set_ineligible("s", vec![]));
    assert!(!table.set_ineligible("nobody", keys(&["1.0.0"])));
}

#[test]
fn replacing_a_service_says_what_is_ineligible_in_the_same_step() {
    let table = Table::new();
    let offered = |version: &str, payload| Entry {
        origin: Origin::Offer,
        ..entry("s", "t", version, payload)
    };
    let offers = || vec![offered("1.0.0", 1), offered("2.0.0", 2)];
    table.replace_service("s", offers(), vec![], false, keys(&["2.0.0"]));
    assert_eq!(get(&table, "s", "t", None), Ok(1));
    table.replace_service(
        "s",
        vec![],
        keys(&["1.0.0", "2.0.0"]),
        false,
        keys(&["1.0.0"]),
    );
    assert_eq!(get(&table, "s", "t", None), Ok(2));
    table.replace_service("s", offers(), vec![], false, vec![]);
    assert_eq!(get(&table, "s", "t", None), Ok(2));
    // Nothing at all happens where strictness forbids the rest.
    table.store(vec![entry("s", "t", "1.0.0", 3)]);
    table.replace_service("s", offers(), vec![], true, keys(&["2.0.0"]));
    assert_eq!(get(&table, "s", "t", None), Ok(2));
}

#[cfg(not(loom))]
mod eligibility {
    use super::*;
    use proptest::prelude::*;

    const VERSIONS: [&str; 4] = [UNVERSIONED, "1.0.0", "1.10.0", "1.9.0"];
    /// Where each stands among them.
    const RANK: [u8; 4] = [0, 1, 3, 2];

    #[derive(Clone, Debug)]
    enum Step {
        Store(usize),
        Offer([bool; 4], [bool; 4]),
        SetIneligible([bool; 4]),
        Switch(usize, bool),
        Delete(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..4usize).prop_map(Step::Store),
            any::<([bool; 4], [bool; 4])>().prop_map(|(a, b)| Step::Offer(a, b)),
            any::<[bool; 4]>().prop_map(Step::SetIneligible),
            (0..4usize, any::<bool>()).prop_map(|(i, on)| Step::Switch(i, on)),
            (0..4usize).prop_map(Step::Delete),
        ]
    }

    #[derive(Clone, Copy, Default)]
    struct Known {
        /// Whether the gateway has added it, where it is there.
        direct: Option<bool>,
        marked: bool,
        ineligible: bool,
    }

    fn chosen(flags: [bool; 4]) -> Vec<Key> {
        let chosen = (0..4).filter(|&i| flags[i]).map(|i| VERSIONS[i]);
        keys(&chosen.collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn agrees_with_the_rule_read_aloud(steps in prop::collection::vec(step(), 0..40)) {
            let table = Table::new();
            let mut known = [Known::default(); 4];
            for step in steps {
                match step {
                    Step::Store(i) => {
                        table.store(vec![entry("s", "t", VERSIONS[i], i as u32)]);
                        known[i] = Known { direct: Some(true), ineligible: false, ..known[i] };
                    }
                    Step::Offer(offered, ineligible) => {
                        let offers = (0..4).filter(|&i| offered[i]).map(|i| Entry {
                            origin: Origin::Offer,
                            ..entry("s", "t", VERSIONS[i], i as u32)
                        });
                        table.replace_service(
                            "s", offers.collect(), vec![], false, chosen(ineligible));
                        for i in 0..4 {
                            if known[i].direct != Some(true) {
                                known[i].direct = offered[i].then_some(false);
                            }
                            known[i].ineligible = ineligible[i];
                        }
                    }
                    Step::SetIneligible(flags) => {
                        let differs = |i: usize| {
                            known[i].direct.is_some() && known[i].ineligible != flags[i]
                        };
                        let changed = (0..4).any(differs);
                        prop_assert_eq!(table.set_ineligible("s", chosen(flags)), changed);
                        for i in 0..4 {
                            known[i].ineligible = flags[i];
                        }
                    }
                    Step::Switch(i, on) => {
                        let switched = table.switch("s", "t", VERSIONS[i], on);
                        if switched != Switched::NotFound {
                            known[i].marked = !on;
                        }
                    }
                    Step::Delete(i) => {
                        table.delete("s", "t", VERSIONS[i]);
                        known[i] = Known::default();
                    }
                }
                let there = || (0..4).filter(|&i| known[i].direct.is_some());
                let enabled = || there().filter(|&i| !known[i].marked);
                let eligible: Vec<usize> = enabled().filter(|&i| !known[i].ineligible).collect();
                let among = if eligible.is_empty() { enabled().collect() } else { eligible };
                let expected = if among.contains(&0) {
                    Ok(0)
                } else {
                    let highest = among.into_iter().max_by_key(|&i| RANK[i]);
                    highest.map(|i| i as u32).ok_or(there().next().is_some())
                };
                prop_assert_eq!(get(&table, "s", "t", None), expected);
            }
        }
    }
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
    table.replace_service(
        "s",
        vec![entry("s", "u", "1.0.0", 3)],
        vec![],
        false,
        vec![],
    );
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
