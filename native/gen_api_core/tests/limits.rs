//! The limits in force: which of them a request is charged to, and what becomes of the counts
//! when they change.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use gen_api_core::clock::Nanos;
use gen_api_core::limiter::Caps;
use gen_api_core::limits::{
    Denial, Group, Key, Limits, OnMissing, Scope, ScopeName, Spec, Verdict,
};

const CAPS: Caps = Caps {
    shards: 4,
    max_keys: 1_000,
    max_entries: 10_000,
};

fn limits(specs: Vec<Spec>) -> Limits {
    let limits = Limits::new(CAPS);
    limits.configure(true, specs);
    limits
}

fn spec(key: Key, max_requests: u32, window_ms: u64) -> Spec {
    Spec {
        scope: None,
        key,
        max_requests,
        window_ms,
        on_missing: OnMissing::Skip,
    }
}

fn user(max_requests: u32, window_ms: u64) -> Spec {
    spec(Key::UserId, max_requests, window_ms)
}

fn buying(spec: Spec) -> Spec {
    Spec {
        scope: buy(),
        ..spec
    }
}

fn missing(on_missing: OnMissing, spec: Spec) -> Spec {
    Spec { on_missing, ..spec }
}

fn buy() -> ScopeName {
    Some(("books".into(), "buy".into()))
}

fn argument(name: &str) -> Key {
    Key::Argument(name.into())
}

/// A request to buy at `ms`, with these values.
fn send(limits: &Limits, values: &[(Key, &'static str)], ms: u64) -> Verdict {
    limits.check("books", "buy", Nanos::from_millis(ms), |key| {
        let (_, value) = values.iter().find(|(name, _)| name == key)?;
        Some(Cow::Borrowed(value.as_bytes()))
    })
}

fn ann(limits: &Limits, ms: u64) -> Verdict {
    send(limits, &[(Key::UserId, "ann")], ms)
}

#[track_caller]
fn admitted(verdict: Verdict) {
    assert!(matches!(verdict, Verdict::Admitted), "{verdict:?}");
}

#[track_caller]
fn denied(verdict: Verdict) -> Denial {
    match verdict {
        Verdict::Denied(denial) => *denial,
        other => panic!("{other:?}"),
    }
}

fn current(limits: &Limits, scope: &ScopeName, key: &Key, value: &str, ms: u64) -> Vec<u32> {
    limits
        .status(scope, key, value.as_bytes(), Nanos::from_millis(ms))
        .into_iter()
        .map(|(_, status)| status.current)
        .collect()
}

#[test]
fn without_limits_everything_is_admitted_and_nothing_counted() {
    let limits = Limits::new(CAPS);
    for _ in 0..100 {
        admitted(ann(&limits, 0));
    }
    assert_eq!(limits.limiter().stats().windows, 0);
    assert!(current(&limits, &None, &Key::UserId, "ann", 0).is_empty());
}

#[test]
fn a_request_is_charged_to_the_global_limits_and_those_of_its_function_only() {
    let limits = limits(vec![user(10, 1_000), buying(user(2, 1_000))]);
    admitted(ann(&limits, 0));
    let other = |service, request_type| {
        limits.check(service, request_type, Nanos::ZERO, |_| {
            Some(Cow::Borrowed(b"ann"))
        })
    };
    admitted(other("books", "find"));
    admitted(other("films", "buy"));
    assert_eq!(current(&limits, &None, &Key::UserId, "ann", 0), [3]);
    assert_eq!(current(&limits, &buy(), &Key::UserId, "ann", 0), [1]);
    admitted(ann(&limits, 0));
    let denial = denied(ann(&limits, 0));
    assert_eq!(denial.spec.scope, buy());
    assert_eq!((denial.current, denial.retry_after_ms), (2, 1_000));
    // What its own limit denied cost nothing of the global one.
    assert_eq!(current(&limits, &None, &Key::UserId, "ann", 0), [4]);
    admitted(other("books", "find"));
}

#[test]
fn names_that_read_the_same_when_joined_are_different_scopes() {
    let scoped = |service: &str, request_type: &str, key| Spec {
        scope: Some((service.into(), request_type.into())),
        ..spec(key, 1, 1_000)
    };
    let limits = limits(vec![
        scoped("a", "bc", Key::UserId),
        scoped("ab", "c", Key::UserId),
        scoped("a", "bc", argument("user_id")),
    ]);
    let check = |service, request_type| {
        limits.check(service, request_type, Nanos::ZERO, |key| match key {
            Key::UserId => Some(Cow::Borrowed(b"x")),
            _ => None,
        })
    };
    admitted(check("a", "bc"));
    admitted(check("ab", "c"));
    denied(check("a", "bc"));
    let of_argument = limits.check("a", "bc", Nanos::ZERO, |key| {
        (*key == argument("user_id")).then_some(Cow::Borrowed(b"x".as_slice()))
    });
    admitted(of_argument);
}

#[test]
fn each_key_counts_its_own_values() {
    let keys = [
        Key::UserId,
        Key::DeviceId,
        Key::IpAddress,
        argument("a"),
        argument("b"),
    ];
    let limits = limits(keys.iter().map(|key| spec(key.clone(), 1, 1_000)).collect());
    for key in &keys {
        admitted(send(&limits, &[(key.clone(), "x")], 0));
    }
    for key in keys {
        let denial = denied(send(&limits, &[(key.clone(), "x")], 0));
        assert_eq!(denial.spec.key, key);
    }
}

#[test]
fn a_request_without_a_value_is_skipped_denied_or_counted_with_its_like() {
    for value in [&[][..], &[(Key::UserId, "")][..]] {
        let skipping = limits(vec![user(0, 1_000)]);
        admitted(send(&skipping, value, 0));

        let denying = limits(vec![missing(OnMissing::Deny, user(5, 1_500))]);
        let denial = denied(send(&denying, value, 0));
        assert!(denial.missing);
        assert_eq!((denial.current, denial.retry_after_ms), (0, 1_500));
        assert_eq!(denying.limiter().stats().windows, 0);
        admitted(ann(&denying, 0));

        let sharing = limits(vec![missing(OnMissing::Shared, user(1, 1_000))]);
        admitted(send(&sharing, value, 0));
        let denial = denied(send(&sharing, &[], 0));
        assert!(denial.missing);
        assert_eq!((denial.current, denial.retry_after_ms), (1, 1_000));
        // The common window is nobody's own.
        admitted(ann(&sharing, 0));
        assert!(!denied(ann(&sharing, 0)).missing);
    }
}

#[test]
fn a_missing_value_that_denies_consumes_nothing_of_other_limits() {
    let limits = limits(vec![
        spec(Key::DeviceId, 3, 1_000),
        missing(OnMissing::Deny, user(3, 1_000)),
    ]);
    let device = (Key::DeviceId, "d");
    denied(send(&limits, std::slice::from_ref(&device), 0));
    assert_eq!(current(&limits, &None, &Key::DeviceId, "d", 0), [0]);
    admitted(send(&limits, &[device, (Key::UserId, "ann")], 0));
    assert_eq!(current(&limits, &None, &Key::DeviceId, "d", 0), [1]);
}

#[test]
fn of_several_denials_the_longest_is_reported() {
    let full = |more: Vec<Spec>| {
        let mut specs = vec![spec(Key::DeviceId, 1, 5_000)];
        specs.extend(more);
        let limits = limits(specs);
        let device = [(Key::DeviceId, "d"), (Key::IpAddress, "i")];
        let with_user = [device[0].clone(), device[1].clone(), (Key::UserId, "u")];
        admitted(send(&limits, &with_user, 0));
        denied(send(&limits, &device, 1_000))
    };
    let address = |window| spec(Key::IpAddress, 1, window);
    let user = |window| missing(OnMissing::Deny, user(9, window));

    let denial = full(vec![address(2_000)]);
    assert_eq!(denial.spec.key, Key::DeviceId);
    assert_eq!(denial.retry_after_ms, 4_000);

    let denial = full(vec![address(9_000), user(3_000)]);
    assert_eq!(denial.spec.key, Key::IpAddress);
    assert_eq!(denial.retry_after_ms, 8_000);

    let denial = full(vec![address(2_000), user(3_000)]);
    assert_eq!(denial.spec.key, Key::DeviceId);
    assert_eq!(denial.current, 1);

    let denial = full(vec![user(3_000), user(7_000), address(2_000)]);
    assert!(denial.missing);
    assert_eq!(denial.retry_after_ms, 7_000);
}

#[test]
fn retry_after_is_rounded_up_to_a_millisecond_at_which_a_retry_passes() {
    let limits = limits(vec![user(1, 10)]);
    let check = |ns| limits.check_value(&None, &Key::UserId, Some(b"ann"), Nanos(ns));
    admitted(check(0));
    for (ns, ms) in [
        (1, 10),
        (1_000_000, 9),
        (1_000_001, 9),
        (8_999_999, 2),
        (9_000_001, 1),
        (9_999_999, 1),
    ] {
        assert_eq!(denied(check(ns)).retry_after_ms, ms, "{ns}");
    }
    admitted(check(10_000_000));
}

#[test]
fn a_maximum_of_zero_denies_for_the_whole_window() {
    let limits = limits(vec![user(0, 1_234)]);
    let denial = denied(ann(&limits, 0));
    assert_eq!((denial.current, denial.retry_after_ms), (0, 1_234));
    assert_eq!(limits.limiter().stats().windows, 0);
}

#[test]
fn burst_and_sustained_limits_on_one_key_are_both_enforced() {
    let limits = limits(vec![user(2, 1_000), user(3, 10_000)]);
    admitted(ann(&limits, 0));
    admitted(ann(&limits, 0));
    assert_eq!(denied(ann(&limits, 500)).spec.window_ms, 1_000);
    admitted(ann(&limits, 1_000));
    let denial = denied(ann(&limits, 2_000));
    assert_eq!(
        (denial.spec.window_ms, denial.retry_after_ms),
        (10_000, 8_000)
    );
    admitted(ann(&limits, 10_000));
}

#[test]
fn of_limits_with_one_window_the_strictest_decides_and_a_request_counts_once() {
    for maxima in [[3, 5], [5, 3], [3, 3]] {
        let limits = limits(maxima.iter().map(|max| user(*max, 1_000)).collect());
        for sent in 1..=3 {
            admitted(ann(&limits, 0));
            assert_eq!(
                current(&limits, &None, &Key::UserId, "ann", 0),
                [sent, sent]
            );
        }
        let denial = denied(ann(&limits, 0));
        assert_eq!((denial.spec.max_requests, denial.current), (3, 3));
        let by_value = limits.check_value(&None, &Key::UserId, Some(b"ann"), Nanos::ZERO);
        assert_eq!(denied(by_value).spec.max_requests, 3);
        let by_value = limits.check_value(&None, &Key::UserId, Some(b"bob"), Nanos::ZERO);
        admitted(by_value);
        assert_eq!(current(&limits, &None, &Key::UserId, "bob", 0), [1, 1]);
    }
}

#[test]
fn a_value_is_charged_to_the_limits_of_its_scope_and_key_only() {
    let limits = limits(vec![
        user(5, 1_000),
        spec(Key::DeviceId, 5, 1_000),
        buying(user(1, 1_000)),
        buying(missing(OnMissing::Deny, spec(argument("isbn"), 1, 1_000))),
    ]);
    let check = |scope: &ScopeName, key: Key, value: &'static [u8]| {
        let value = Some(value).filter(|value| !value.is_empty());
        limits.check_value(scope, &key, value, Nanos::ZERO)
    };
    admitted(check(&buy(), Key::UserId, b"ann"));
    denied(check(&buy(), Key::UserId, b"ann"));
    assert_eq!(current(&limits, &None, &Key::UserId, "ann", 0), [0]);
    admitted(check(&None, Key::UserId, b"ann"));
    assert_eq!(current(&limits, &None, &Key::UserId, "ann", 0), [1]);
    assert_eq!(current(&limits, &None, &Key::DeviceId, "ann", 0), [0]);
    assert!(denied(check(&buy(), argument("isbn"), b"")).missing);
    for _ in 0..10 {
        admitted(check(&None, argument("isbn"), b"x"));
        admitted(check(&Some(("no".into(), "no".into())), Key::UserId, b"x"));
    }
}

#[test]
fn a_reset_forgets_one_value_under_one_scope_and_key() {
    let limits = limits(vec![user(1, 1_000), user(9, 2_000), buying(user(9, 1_000))]);
    admitted(ann(&limits, 0));
    admitted(send(&limits, &[(Key::UserId, "bob")], 0));
    limits.reset(&None, &Key::UserId, b"ann");
    assert_eq!(current(&limits, &None, &Key::UserId, "ann", 0), [0, 0]);
    assert_eq!(current(&limits, &None, &Key::UserId, "bob", 0), [1, 1]);
    assert_eq!(current(&limits, &buy(), &Key::UserId, "ann", 0), [1]);
    admitted(ann(&limits, 0));
}

#[test]
fn a_limit_that_keeps_scope_key_and_window_keeps_its_counts() {
    let limits = limits(vec![user(2, 1_000), buying(user(9, 1_000))]);
    admitted(ann(&limits, 0));
    admitted(ann(&limits, 0));
    limits.configure(true, vec![user(3, 1_000)]);
    admitted(ann(&limits, 0));
    let denial = denied(ann(&limits, 0));
    assert_eq!((denial.spec.max_requests, denial.current), (3, 3));
    // Below what was admitted: the surplus has to leave the window first.
    limits.configure(true, vec![user(1, 1_000)]);
    assert_eq!(denied(ann(&limits, 999)).current, 3);
    admitted(ann(&limits, 1_000));
    // Another window, or a limit that was gone meanwhile, starts anew.
    limits.configure(true, vec![user(1, 2_000), buying(user(1, 1_000))]);
    assert_eq!(current(&limits, &None, &Key::UserId, "ann", 1_000), [0]);
    assert_eq!(current(&limits, &buy(), &Key::UserId, "ann", 0), [0]);
}

#[test]
fn disabled_limits_admit_everything_and_keep_their_counts() {
    let limits = limits(vec![user(1, 1_000)]);
    admitted(ann(&limits, 0));
    limits.configure(false, vec![user(1, 1_000)]);
    for _ in 0..10 {
        admitted(ann(&limits, 0));
        admitted(limits.check_value(&None, &Key::UserId, Some(b"ann"), Nanos::ZERO));
    }
    assert_eq!(current(&limits, &None, &Key::UserId, "ann", 0), [1]);
    limits.configure(true, vec![user(1, 1_000)]);
    denied(ann(&limits, 0));
}

#[test]
fn a_window_of_no_length_is_left_out() {
    let limits = limits(vec![user(0, 0), user(1, 1_000)]);
    admitted(ann(&limits, 0));
    assert_eq!(denied(ann(&limits, 0)).spec.window_ms, 1_000);
}

#[test]
fn what_finds_no_room_is_an_overflow_that_consumes_nothing() {
    let limits = Limits::new(Caps {
        max_keys: 1,
        ..CAPS
    });
    limits.configure(true, vec![spec(Key::DeviceId, 9, 1_000), user(9, 1_000)]);
    let send = |device, user| {
        let values = [(Key::DeviceId, device), (Key::UserId, user)];
        send(&limits, &values, 0)
    };
    admitted(send("d", "u"));
    for user in ["v", "w"] {
        let verdict = send("d", user);
        assert!(matches!(verdict, Verdict::Overflow), "{verdict:?}");
    }
    assert_eq!(current(&limits, &None, &Key::DeviceId, "d", 0), [1]);
    assert_eq!(limits.limiter().stats().overflowed, 2);
    admitted(send("d", "u"));
}

#[test]
fn a_scope_says_whether_a_check_could_do_anything() {
    let limits = Limits::new(CAPS);
    let buying_scope = limits.scope("books", "buy");
    let finding_scope = limits.scope("books", "find");
    let flags = || [buying_scope.is_limited(), finding_scope.is_limited()];
    assert_eq!(flags(), [false, false]);
    limits.configure(true, vec![buying(user(1, 1_000))]);
    assert_eq!(flags(), [true, false]);
    limits.configure(true, vec![user(1, 1_000)]);
    assert_eq!(flags(), [true, true]);
    limits.configure(false, vec![user(1, 1_000), buying(user(1, 1_000))]);
    assert_eq!(flags(), [false, false]);
    limits.configure(true, vec![user(1, 1_000), buying(user(1, 1_000))]);
    assert_eq!(flags(), [true, true]);
    // One that is made while limits are in force knows of them, and of later changes.
    let late = limits.scope("films", "buy");
    assert!(late.is_limited());
    limits.configure(true, vec![]);
    assert_eq!(flags(), [false, false]);
    assert!(!late.is_limited());
}

#[test]
fn a_scope_that_was_forgotten_is_made_anew() {
    let limits = limits(vec![]);
    drop(limits.scope("books", "buy"));
    limits.configure(true, vec![buying(user(1, 1_000))]);
    let scope = limits.scope("books", "buy");
    assert!(scope.is_limited());
    limits.configure(true, vec![]);
    assert!(!scope.is_limited());
}

/// A function is flagged before a limit is in force and until after: whoever finds no flag finds
/// nothing that would have denied either.
#[test]
fn a_scope_is_flagged_for_at_least_as_long_as_limits_are_in_force() {
    let limits = Limits::new(CAPS);
    let scope = limits.scope("books", "buy");
    let done = AtomicBool::new(false);
    let step = AtomicUsize::new(0);
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !done.load(SeqCst) {
                    watch(&limits, &scope, &step);
                }
            });
        }
        let next = || step.fetch_add(1, SeqCst);
        for round in 0..2_000 {
            let deny_all = match round % 2 {
                0 => user(0, 1_000),
                _ => buying(user(0, 1_000)),
            };
            next();
            limits.configure(true, vec![deny_all]);
            next();
            denied(ann(&limits, 0));
            next();
            limits.configure(round % 3 == 0, vec![]);
            next();
        }
        done.store(true, SeqCst);
    });
}

/// The steps are: no limits, limits come, limits, limits go.
fn watch(limits: &Limits, scope: &Scope, step: &AtomicUsize) {
    let before = step.load(SeqCst);
    let (first, verdict, last) = (scope.is_limited(), ann(limits, 0), scope.is_limited());
    if step.load(SeqCst) != before {
        return;
    }
    let is_denied = matches!(verdict, Verdict::Denied(_));
    match before % 4 {
        0 => assert!(!first && !is_denied && !last),
        1 => assert!(last || !is_denied, "in force before the flag"),
        2 => assert!(first && is_denied && last),
        _ => assert!(first || !is_denied, "in force after the flag"),
    }
}

#[test]
fn changes_while_threads_send_never_admit_more_than_the_larger_maximum() {
    const LARGER: u32 = 500;
    const SMALLER: u32 = 300;
    let limits = limits(vec![user(SMALLER, 1_000)]);
    let admitted = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        let senders: Vec<_> = (0..4)
            .map(|_| {
                threads.spawn(|| {
                    for _ in 0..5_000 {
                        if matches!(ann(&limits, 0), Verdict::Admitted) {
                            admitted.fetch_add(1, SeqCst);
                        }
                    }
                })
            })
            .collect();
        let changer = threads.spawn(|| {
            let mut larger = true;
            while !done.load(SeqCst) {
                // A neighbour that comes and goes does not touch the counts of the others.
                let mut specs = vec![user(if larger { LARGER } else { SMALLER }, 1_000)];
                if larger {
                    specs.push(spec(Key::DeviceId, 1, 1_000));
                }
                limits.configure(true, specs);
                larger = !larger;
            }
        });
        for sender in senders {
            sender.join().unwrap();
        }
        done.store(true, SeqCst);
        changer.join().unwrap();
    });
    let sent = admitted.load(SeqCst) as u32;
    assert!((SMALLER..=LARGER).contains(&sent), "{sent}");
    assert_eq!(current(&limits, &None, &Key::UserId, "ann", 0), [sent]);
    limits.configure(true, vec![user(sent, 1_000)]);
    denied(ann(&limits, 0));
}

#[test]
fn threads_that_race_for_one_value_are_admitted_exactly_as_often_as_all_limits_allow() {
    let limits = limits(vec![user(400, 1_000), spec(Key::DeviceId, 250, 1_000)]);
    let admitted = AtomicUsize::new(0);
    let values = [(Key::UserId, "ann"), (Key::DeviceId, "d")];
    thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for _ in 0..200 {
                    if matches!(send(&limits, &values, 0), Verdict::Admitted) {
                        admitted.fetch_add(1, SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.load(SeqCst), 250);
    assert_eq!(current(&limits, &None, &Key::UserId, "ann", 0), [250]);
}

#[test]
fn a_flood_under_one_limit_lifts_no_other() {
    let limits = Limits::new(Caps {
        shards: 1,
        max_keys: 3,
        max_entries: 1_000,
    });
    limits.set_fail_open(true);
    limits.configure(true, vec![user(5, 1_000), spec(Key::DeviceId, 5, 1_000)]);
    let mut admitted = 0;
    for device in 0..100 {
        let device = format!("device{device}");
        let verdict = limits.check("s", "t", Nanos(0), |key| {
            Some(match key {
                Key::UserId => Cow::Borrowed(&b"ann"[..]),
                _ => Cow::Owned(device.clone().into_bytes()),
            })
        });
        admitted += u32::from(!matches!(verdict, Verdict::Denied(_)));
    }
    assert_eq!(admitted, 5);
}

#[test]
fn a_stranger_cannot_use_up_what_only_a_claim_names() {
    let limits = limits(vec![
        user(5, 1_000),
        buying(spec(argument("account"), 3, 1_000)),
        spec(Key::DeviceId, 4, 1_000),
    ]);
    let charge = |group| {
        limits.check_group("books", "buy", group, Nanos::ZERO, |key| {
            Some(Cow::Borrowed(match key {
                Key::UserId => b"eve",
                Key::DeviceId => b"pad",
                _ => b"ann",
            }))
        })
    };
    let counts = || {
        [
            current(&limits, &None, &Key::UserId, "eve", 0),
            current(&limits, &None, &Key::DeviceId, "pad", 0),
            current(&limits, &buy(), &argument("account"), "ann", 0),
        ]
        .concat()
    };
    let (verdict, others) = charge(Group::Verified);
    admitted(verdict);
    assert!(others);
    assert_eq!(counts(), [1, 0, 0]);
    let (verdict, _) = charge(Group::VerifiedDevice);
    admitted(verdict);
    assert_eq!(counts(), [2, 1, 0]);
    let (verdict, _) = charge(Group::ClaimedDevice);
    admitted(verdict);
    assert_eq!(counts(), [2, 1, 1]);
    let (verdict, _) = charge(Group::Claimed);
    admitted(verdict);
    assert_eq!(counts(), [2, 2, 2]);
    let (verdict, others) = charge(Group::All);
    admitted(verdict);
    assert!(!others);
    assert_eq!(counts(), [3, 3, 3]);
    // All or nothing over both groups.
    denied(charge(Group::All).0);
    assert_eq!(counts(), [3, 3, 3]);
    // The first group is used by what the second denies.
    admitted(charge(Group::Verified).0);
    denied(charge(Group::Claimed).0);
    assert_eq!(counts(), [4, 3, 3]);
}

fn roomy(specs: Vec<Spec>) -> Limits {
    let limits = Limits::new(Caps::default());
    limits.configure(true, specs);
    limits
}

#[test]
fn values_of_any_size_take_the_room_of_a_short_one() {
    let limits = roomy(vec![buying(spec(argument("account"), 3, 1_000))]);
    let charge = |value: Vec<u8>| {
        limits.check("books", "buy", Nanos::ZERO, |_| {
            Some(Cow::Borrowed(value.as_slice()))
        })
    };
    let before = limits.limiter().stats().bytes;
    for n in 0..2_000 {
        let mut value = vec![b'x'; 200_000];
        value.extend_from_slice(n.to_string().as_bytes());
        admitted(charge(value));
    }
    let stats = limits.limiter().stats();
    assert_eq!(stats.windows, 2_000);
    let each = (stats.bytes - before) / 2_000;
    assert!(each < 400, "{each} bytes for each value");
    // They are told apart, and each is the same again.
    let again = || charge([vec![b'x'; 200_000], b"7".to_vec()].concat());
    admitted(again());
    admitted(again());
    denied(again());
}

#[test]
fn a_client_has_one_address_however_it_is_written() {
    let limits = roomy(vec![spec(Key::IpAddress, 10, 1_000)]);
    let send = |address: &str| {
        limits.check("s", "t", Nanos::ZERO, |_| {
            Some(Cow::Borrowed(address.as_bytes()))
        })
    };
    let passed = |addresses: &[String]| {
        let verdicts = addresses.iter().map(|address| send(address));
        verdicts.filter(|v| matches!(v, Verdict::Admitted)).count()
    };
    let of_one_prefix: Vec<_> = (0..1_000).map(|n| format!("2001:db8::{n:x}:1")).collect();
    assert_eq!(passed(&of_one_prefix), 10);
    let current = |address: &str| current(&limits, &None, &Key::IpAddress, address, 0);
    assert_eq!(current("2001:DB8::ffff"), [10]);
    let mixed: Vec<_> = ["1.2.3.4", "::ffff:1.2.3.4", "::FFFF:102:304"]
        .iter()
        .cycle()
        .take(30)
        .map(ToString::to_string)
        .collect();
    assert_eq!(passed(&mixed), 10);
    limits.reset(&None, &Key::IpAddress, b"::ffff:102:304");
    assert_eq!(current("1.2.3.4"), [0]);
    limits.set_ipv6_prefix(128);
    assert_eq!(passed(&of_one_prefix), 1_000);
}

#[test]
fn scopes_without_a_plan_do_not_pile_up() {
    let limits = limits(vec![buying(user(1, 1_000))]);
    let held = limits.scope("books", "buy");
    for n in 0..100_000 {
        limits.scope("gone", &format!("type-{n}"));
    }
    assert!(limits.scopes() <= 2_048, "{} scopes", limits.scopes());
    assert!(held.is_limited());
    limits.configure(true, vec![]);
    assert_eq!(limits.scopes(), 1);
    assert!(!held.is_limited());
}
