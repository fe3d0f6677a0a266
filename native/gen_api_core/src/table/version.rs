//! The order of versions.

use std::cmp::Ordering;

/// Orders versions: semantic ones by semantic precedence, equal ones of them (they differ in
/// build metadata only) and all others by natural order; those that are not semantic come
/// before all that are.
pub fn compare(a: &str, b: &str) -> Ordering {
    match (Semantic::parse(a), Semantic::parse(b)) {
        (Some(x), Some(y)) => x.precedence(&y).then_with(|| natural(a, b)),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => natural(a, b),
    }
}

/// A semantic version (semver.org 2.0.0); numbers are kept as digits, so that none is too
/// large.
struct Semantic<'a> {
    core: [&'a str; 3],
    pre: Option<&'a str>,
}

impl<'a> Semantic<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (text, build) = match text.split_once('+') {
            Some((text, build)) => (text, Some(build)),
            None => (text, None),
        };
        let (core, pre) = match text.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (text, None),
        };
        let mut numbers = core.split('.');
        let core = [numbers.next()?, numbers.next()?, numbers.next()?];
        let well_formed = numbers.next().is_none()
            && core.iter().all(|number| is_number(number))
            && pre.is_none_or(|pre| {
                pre.split('.')
                    .all(|id| is_identifier(id) && (!is_digits(id) || is_number(id)))
            })
            && build.is_none_or(|build| build.split('.').all(is_identifier));
        well_formed.then_some(Semantic { core, pre })
    }

    fn precedence(&self, other: &Self) -> Ordering {
        self.core
            .iter()
            .zip(&other.core)
            .map(|(a, b)| by_value(a, b))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
            .then_with(|| match (self.pre, other.pre) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(a), Some(b)) => pre_release(a, b),
            })
    }
}

fn pre_release(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(x), Some(y)) => match (is_digits(x), is_digits(y)) {
                (true, true) => by_value(x, y),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => x.cmp(y),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_number(text: &str) -> bool {
    is_digits(text) && (text == "0" || !text.starts_with('0'))
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Digits as the number they write; leading zeros do not count.
fn by_value(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Runs of digits compare as numbers, everything else byte by byte; texts that differ only
/// in leading zeros are ordered by their bytes, so that no two texts are equal.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a, b);
    loop {
        let order = match (x.bytes().next(), y.bytes().next()) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(p), Some(q)) if p.is_ascii_digit() && q.is_ascii_digit() => {
                let (m, n);
                (m, x) = digit_run(x);
                (n, y) = digit_run(y);
                by_value(m, n)
            }
            (Some(_), Some(_)) => {
                let (mut p, mut q) = (x.chars(), y.chars());
                let order = p.next().cmp(&q.next());
                (x, y) = (p.as_str(), q.as_str());
                order
            }
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn digit_run(text: &str) -> (&str, &str) {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_the_semantic_version_standard_and_the_contract_say() {
        let ascending = [
            "",
            "a2",
            "a10",
            "v1",
            "v1.10",
            "0.0.0-alpha",
            "0.0.0",
            "1.0.0-1",
            "1.0.0-2",
            "1.0.0-10",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.0+2",
            "1.0.0+10",
            "1.0.1",
            "1.2.0",
            "1.10.0",
            "2.0.0",
            "99999999999999999999.0.0",
            "100000000000000000000.0.0",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} {b}");
            }
        }
    }

    #[test]
    fn what_is_not_semantic_sorts_below() {
        for text in [
            "1",
            "1.0",
            "1.0.0.0",
            "01.0.0",
            "1.0.0-",
            "1.0.0-01",
            "1.0.0+",
            "1.0.0-a_b",
        ] {
            assert_eq!(compare(text, "0.0.0-0"), Ordering::Less, "{text}");
        }
    }
}
