//! Text formats: patterns that run in time linear in the text.

use ahash::AHashMap;
use regex::bytes::{Regex, RegexBuilder};
use std::collections::hash_map::Entry;

/// The flags of a pattern, with the meaning they have in Elixir.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// `i`: letter case is ignored.
    pub case_insensitive: bool,
    /// `m`: `^` and `$` match at lines.
    pub multi_line: bool,
    /// `s`: `.` matches a line feed.
    pub dot_all: bool,
    /// `x`: white space in the pattern is ignored.
    pub extended: bool,
    /// `u`: the text is a sequence of code points rather than bytes.
    pub unicode: bool,
}

/// Why a pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError(pub String);

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Format {
    regex: Regex,
    units_per_byte: u32,
}

// Larger programs are refused: they are slow per byte even where they are linear.
const MAX_PROGRAM_BYTES: usize = 1 << 20;
const MAX_PATTERN_BYTES: usize = 10_000;

/// Groups, repetitions, classes and the like within each other.
const MAX_NESTING: u32 = 250;

/// The engine's compiler recurses once for each of them, at up to 2 KB on x86-64 and more on other
/// machines, and takes 40 KB for a start. No stack of a caller need have that.
const STACK: usize = 8 << 20;

impl Format {
    /// Compiles a pattern, in a thread that ends with it. Look-around and back-references have no
    /// linear-time algorithm and are refused.
    pub fn new(pattern: &str, flags: Flags) -> Result<Self, FormatError> {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(FormatError(format!(
                "pattern exceeds {MAX_PATTERN_BYTES} bytes"
            )));
        }
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, || Self::compile(pattern, flags))
                .map_err(|error| FormatError(format!("no thread to compile it in: {error}")))?
                .join()
                .unwrap_or_else(|_panic| Err(FormatError("the compiler failed".to_owned())))
        })
    }

    fn compile(pattern: &str, flags: Flags) -> Result<Self, FormatError> {
        let regex = RegexBuilder::new(pattern)
            .case_insensitive(flags.case_insensitive)
            .multi_line(flags.multi_line)
            .dot_matches_new_line(flags.dot_all)
            .ignore_whitespace(flags.extended)
            .unicode(flags.unicode)
            .size_limit(MAX_PROGRAM_BYTES)
            .nest_limit(MAX_NESTING)
            .build()
            .map_err(|error| FormatError(reason(&error)))?;
        Ok(Format {
            regex,
            units_per_byte: units_per_byte(pattern, flags),
        })
    }

    /// Whether the text matches somewhere.
    #[inline]
    pub fn matches(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// The work of matching one byte, in units of a list item.
    #[inline]
    pub fn units_per_byte(&self) -> u32 {
        self.units_per_byte
    }
}

/// Formats by pattern, each compiled once: many functions have the same few.
#[derive(Debug, Default)]
pub struct Formats(AHashMap<(Box<str>, Flags), Format>);

impl Formats {
    /// [`Format::new`], unless it is known.
    pub fn format(&mut self, pattern: &str, flags: Flags) -> Result<Format, FormatError> {
        match self.0.entry((pattern.into(), flags)) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(unknown) => {
                let format = Format::new(pattern, flags)?;
                Ok(unknown.insert(format).clone())
            }
        }
    }
}

/// An upper estimate of the automaton's size per byte: the literal length of the pattern
/// with its repetitions written out. It decides where a check runs, never its result.
fn units_per_byte(pattern: &str, flags: Flags) -> u32 {
    use regex_syntax::hir::{Hir, HirKind};

    fn states(hir: &Hir) -> u64 {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => 1,
            HirKind::Literal(literal) => literal.0.len() as u64,
            HirKind::Class(class) => match class {
                regex_syntax::hir::Class::Bytes(_) => 1,
                // A Unicode class is a small trie of byte ranges.
                regex_syntax::hir::Class::Unicode(class) => 1 + class.ranges().len() as u64 / 4,
            },
            HirKind::Repetition(repetition) => {
                let times = repetition.max.unwrap_or(repetition.min.saturating_add(1));
                states(&repetition.sub).saturating_mul(u64::from(times.max(1)))
            }
            HirKind::Capture(capture) => states(&capture.sub),
            HirKind::Concat(subs) | HirKind::Alternation(subs) => {
                subs.iter().map(states).fold(0, u64::saturating_add)
            }
        }
    }

    regex_syntax::ParserBuilder::new()
        .case_insensitive(flags.case_insensitive)
        .ignore_whitespace(flags.extended)
        .unicode(flags.unicode)
        .utf8(false)
        .build()
        .parse(pattern)
        .map_or(u32::MAX, |hir| {
            u32::try_from(states(&hir) / 8 + 1).unwrap_or(u32::MAX)
        })
}

/// The engine prints a parse error as a picture of several lines; the last one says why.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("compiled pattern exceeds {limit} bytes")
        }
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or("invalid pattern");
            last.trim().trim_start_matches("error: ").to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(pattern: &str, flags: Flags) -> Format {
        Format::new(pattern, flags).unwrap()
    }

    #[test]
    fn look_around_and_back_references_are_refused_with_a_reason() {
        for pattern in ["(?=a)b", "(?<!a)b", r"(a)\1"] {
            let FormatError(reason) = Format::new(pattern, Flags::default()).unwrap_err();
            assert!(reason.contains("not supported"), "{reason}");
            assert!(!reason.contains('\n'));
        }
    }

    #[test]
    fn a_pattern_that_would_be_huge_is_refused() {
        assert!(Format::new(r"(\w{1000}){1000}", Flags::default()).is_err());
        assert!(Format::new(&"a".repeat(10_001), Flags::default()).is_err());
    }

    #[test]
    fn each_flag_has_its_meaning() {
        let on = |f: fn(&mut Flags)| {
            let mut flags = Flags::default();
            f(&mut flags);
            flags
        };
        assert!(format("ab", on(|f| f.case_insensitive = true)).matches(b"xAB"));
        assert!(format("^b$", on(|f| f.multi_line = true)).matches(b"a\nb\nc"));
        assert!(format("a.b", on(|f| f.dot_all = true)).matches(b"a\nb"));
        assert!(!format("a.b", Flags::default()).matches(b"a\nb"));
        assert!(format("a b # c", on(|f| f.extended = true)).matches(b"ab"));
        assert!(format("^.$", on(|f| f.unicode = true)).matches("é".as_bytes()));
        assert!(!format("^.$", Flags::default()).matches("é".as_bytes()));
        assert!(format("^..$", Flags::default()).matches("é".as_bytes()));
    }

    #[test]
    fn the_same_pattern_with_other_flags_is_another_format() {
        let mut formats = Formats::default();
        let any_case = Flags {
            case_insensitive: true,
            ..Flags::default()
        };
        for _ in 0..2 {
            assert!(formats.format("^a$", any_case).unwrap().matches(b"A"));
            let exact = formats.format("^a$", Flags::default()).unwrap();
            assert!(!exact.matches(b"A"));
            assert!(formats.format("(?=a)", any_case).is_err());
        }
        assert_eq!(formats.0.len(), 2);
    }

    #[test]
    fn the_text_book_case_of_exponential_back_tracking_is_linear() {
        let format = format("^(a+)+$", Flags::default());
        let mut text = vec![b'a'; 100_000];
        text.push(b'b');
        assert!(!format.matches(&text));
    }
}
