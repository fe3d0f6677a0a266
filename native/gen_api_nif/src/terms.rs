//! Terms kept beyond a call.

use parking_lot::Mutex;
use rustler::env::SavedTerm;
use rustler::types::tuple::get_tuple;
use rustler::{Binary, Env, MapIterator, OwnedEnv, Term, TermType};

/// Words that a normal scheduler may copy at once: some 50 us.
pub const SMALL: u32 = 10_000;

/// Copies of terms, kept in environments of their own.
///
/// Reading copies a term into the caller's heap under a lock: an environment is no process
/// and must not be used by two threads at once. Large terms have another one, or a small term
/// would wait for the copy of a large one.
pub struct Terms {
    // Most schemas keep no term, and an environment takes a kilobyte.
    small: Option<Mutex<Store>>,
    large: Option<Mutex<Store>>,
    /// By number: the place in its store, and the words.
    kept: Vec<(usize, u32)>,
}

type Store = (OwnedEnv, Vec<SavedTerm>);

// Reading changes nothing.
impl std::panic::RefUnwindSafe for Terms {}

impl Terms {
    /// No terms.
    pub fn new() -> Self {
        Terms {
            small: None,
            large: None,
            kept: Vec::new(),
        }
    }

    /// Keeps a copy and returns its number.
    pub fn save(&mut self, term: Term<'_>) -> u32 {
        let words = words(term, SMALL + 1, external_words);
        let store = if words > SMALL {
            &mut self.large
        } else {
            &mut self.small
        };
        let store = store.get_or_insert_with(|| Mutex::new((OwnedEnv::new(), Vec::new())));
        let (env, terms) = store.get_mut();
        terms.push(env.save(term));
        self.kept.push((terms.len() - 1, words));
        u32::try_from(self.kept.len() - 1).unwrap_or(u32::MAX)
    }

    /// How many words a copy takes, none if more than [`SMALL`].
    pub fn words(&self, id: u32) -> Option<u32> {
        let (_, words) = self.kept.get(id as usize)?;
        (*words <= SMALL).then_some(*words)
    }

    /// A copy for the caller.
    pub fn load<'a>(&self, env: Env<'a>, id: u32) -> Option<Term<'a>> {
        let (place, words) = self.kept.get(id as usize)?;
        let store = if *words > SMALL {
            &self.large
        } else {
            &self.small
        };
        let store = store.as_ref()?.lock();
        let saved = store.1.get(*place)?;
        Some(store.0.run(|own| saved.load(own).in_env(env)))
    }
}

/// Whether a normal scheduler may copy the term. Looks at no more of it than may be copied, so not at what a
/// function holds.
pub fn is_small(term: Term<'_>) -> bool {
    words(term, SMALL + 1, |_fun| SMALL + 1) <= SMALL
}

fn external_words(term: Term<'_>) -> u32 {
    count(term.to_binary().len() / 2)
}

/// Roughly the words that a copy of a term takes on a heap; `most` if there are as many or more.
fn words(term: Term<'_>, most: u32, of_fun: fn(Term<'_>) -> u32) -> u32 {
    let (mut words, mut open) = (0u32, vec![term]);
    while let Some(term) = open.pop() {
        words = words.saturating_add(match term.get_type() {
            TermType::List => list(term, most - words, &mut open),
            TermType::Tuple => {
                let items = get_tuple(term).unwrap_or_default();
                let own = items.len() + 1;
                open.extend(items);
                count(own)
            }
            TermType::Map => map(term, most - words, &mut open),
            // A longer binary is not copied.
            TermType::Binary => {
                Binary::from_term(term).map_or(8, |b| count(b.len().min(64) / 8 + 3))
            }
            TermType::Integer if term.decode::<i64>().is_ok_and(is_immediate) => 0,
            TermType::Integer => external_words(term),
            TermType::Fun => of_fun(term),
            TermType::Atom => 0,
            _ => 4,
        });
        if words >= most {
            return most;
        }
    }
    words
}

/// Whether an integer is part of the word that refers to it.
fn is_immediate(n: i64) -> bool {
    n >> 59 == 0 || n >> 59 == -1
}

fn list<'a>(term: Term<'a>, most: u32, open: &mut Vec<Term<'a>>) -> u32 {
    let (mut words, mut rest) = (0, term);
    while let Ok((head, tail)) = rest.list_get_cell() {
        words += 2;
        if words >= most {
            return most;
        }
        open.push(head);
        rest = tail;
    }
    if !rest.is_empty_list() {
        open.push(rest);
    }
    words
}

fn map<'a>(term: Term<'a>, most: u32, open: &mut Vec<Term<'a>>) -> u32 {
    let own = count(term.map_size().unwrap_or(0)).saturating_mul(2);
    if own < most {
        for (key, value) in MapIterator::new(term).into_iter().flatten() {
            open.extend([key, value]);
        }
    }
    own.saturating_add(3)
}

fn count(words: usize) -> u32 {
    u32::try_from(words).unwrap_or(u32::MAX)
}
