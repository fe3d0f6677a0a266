//! The members of a group by user, at places that stay.

use super::member::Member;
use super::users::User;
use hashbrown::HashTable;

/// Members moved at most when the list grows.
const CHUNK: usize = 1_024;
/// A larger index is cut into segments, so that growing it never moves all of it.
const ONE_SEGMENT: usize = 4_096;
const SEGMENTS: usize = 64;

/// Members at places, and where each user is.
#[derive(Debug)]
pub(super) struct MemberTable<H> {
    chunks: Vec<Vec<Option<Member<H>>>>,
    free: Vec<u32>,
    len: usize,
    index: Vec<HashTable<u32>>,
}

impl<H> Default for MemberTable<H> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            len: 0,
            index: vec![HashTable::new()],
        }
    }
}

fn place(at: u32) -> (usize, usize) {
    (at as usize / CHUNK, at as usize % CHUNK)
}

// Not the bits that a table uses, which are the lowest and the topmost.
fn segment(hash: u64, segments: usize) -> usize {
    (hash >> 40) as usize & (segments - 1)
}

fn user_at<H>(chunks: &[Vec<Option<Member<H>>>], at: u32) -> Option<&User<H>> {
    let (chunk, offset) = place(at);
    let member = chunks.get(chunk)?.get(offset)?.as_ref()?;
    Some(&member.user)
}

fn split(index: &mut Vec<HashTable<u32>>, rehash: impl Fn(&u32) -> u64) {
    let mut segments: Vec<HashTable<u32>> = (0..SEGMENTS).map(|_| HashTable::new()).collect();
    for at in index.iter().flatten() {
        let hash = rehash(at);
        if let Some(segment) = segments.get_mut(segment(hash, SEGMENTS)) {
            segment.insert_unique(hash, *at, &rehash);
        }
    }
    *index = segments;
}

impl<H> MemberTable<H> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One more than the last place that was ever taken.
    pub(super) fn end(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        full + self.chunks.last().map_or(0, Vec::len)
    }

    pub(super) fn get(&self, at: u32) -> Option<&Member<H>> {
        let (chunk, offset) = place(at);
        self.chunks.get(chunk)?.get(offset)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Member<H>> {
        let (chunk, offset) = place(at);
        self.chunks.get_mut(chunk)?.get_mut(offset)?.as_mut()
    }

    pub(super) fn find(&self, user: &[u8], hash: u64) -> Option<u32> {
        let is_user = |at: &u32| {
            self.get(*at)
                .is_some_and(|member| member.user.bytes() == user)
        };
        let segment = self.index.get(segment(hash, self.index.len()))?;
        segment.find(hash, is_user).copied()
    }

    /// Adds a user who is not there.
    pub(super) fn insert(
        &mut self,
        user: User<H>,
        hash: u64,
        hasher: impl Fn(&[u8]) -> u64,
    ) -> u32 {
        let member = Some(Member::new(user));
        let at = match self.free.pop() {
            Some(at) => {
                let (chunk, offset) = place(at);
                if let Some(place) = self.chunks.get_mut(chunk).and_then(|c| c.get_mut(offset)) {
                    *place = member;
                }
                at
            }
            None => self.push(member),
        };
        self.len += 1;
        let Self { chunks, index, .. } = self;
        let rehash = |at: &u32| user_at(chunks, *at).map_or(0, |user| hasher(user.bytes()));
        if index.len() == 1 && self.len > ONE_SEGMENT {
            split(index, rehash);
        }
        let segments = index.len();
        if let Some(segment) = index.get_mut(segment(hash, segments)) {
            segment.insert_unique(hash, at, rehash);
        }
        at
    }

    fn push(&mut self, member: Option<Member<H>>) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::new());
        }
        if let Some(chunk) = self.chunks.last_mut() {
            if chunk.len() == chunk.capacity() {
                let room = CHUNK - chunk.len();
                chunk.reserve_exact((chunk.len() / 8).clamp(1, room));
            }
            chunk.push(member);
        }
        u32::try_from(self.end().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    pub(super) fn remove(&mut self, at: u32, hash: u64) -> Option<Member<H>> {
        let (chunk, offset) = place(at);
        let member = self.chunks.get_mut(chunk)?.get_mut(offset)?.take()?;
        let segments = self.index.len();
        if let Some(segment) = self.index.get_mut(segment(hash, segments)) {
            if let Ok(entry) = segment.find_entry(hash, |other| *other == at) {
                entry.remove();
            }
        }
        self.len = self.len.saturating_sub(1);
        self.free.push(at);
        if self.len == 0 {
            *self = Self::default();
        }
        Some(member)
    }

    /// The members at places from `start` on, of at most `count` places.
    pub(super) fn slice(&self, start: usize, count: usize) -> impl Iterator<Item = &Member<H>> {
        let end = self.end().min(start.saturating_add(count));
        (start..end).filter_map(|at| self.get(u32::try_from(at).unwrap_or(u32::MAX)))
    }

    /// Roughly the bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        let members: usize = self.chunks.iter().map(Vec::capacity).sum();
        let index: usize = self.index.iter().map(HashTable::allocation_size).sum();
        members * size_of::<Option<Member<H>>>() + self.free.capacity() * 4 + index
    }
}
