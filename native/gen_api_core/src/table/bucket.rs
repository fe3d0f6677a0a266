//! A small open-addressing hash table of functions.

use super::Function;
use std::sync::Arc;

/// Linear probing over slots that hold the whole hash, so that a probe that misses touches
/// no function: one cache line covers four slots.
#[derive(Clone, Debug)]
pub(super) struct Bucket<P> {
    slots: Vec<Option<(u64, Arc<Function<P>>)>>,
    len: usize,
}

impl<P> Bucket<P> {
    pub(super) fn empty() -> Self {
        Bucket {
            slots: Vec::new(),
            len: 0,
        }
    }

    #[inline]
    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    #[inline]
    fn position(&self, hash: u64, service: &[u8], request_type: &[u8]) -> Option<usize> {
        #[allow(clippy::cast_possible_truncation)]
        let mut at = hash as usize & self.mask();
        // An empty bucket has no slot; any other has a free one that ends the search.
        while let Some((found, function)) = self.slots.get(at)? {
            if *found == hash && function.is(service, request_type) {
                return Some(at);
            }
            at = (at + 1) & self.mask();
        }
        None
    }

    #[inline]
    pub(super) fn find(
        &self,
        hash: u64,
        service: &[u8],
        request_type: &[u8],
    ) -> Option<&Function<P>> {
        let at = self.position(hash, service, request_type)?;
        self.slots
            .get(at)?
            .as_ref()
            .map(|(_, function)| &**function)
    }

    pub(super) fn functions(&self) -> impl Iterator<Item = &Function<P>> {
        self.slots.iter().flatten().map(|(_, function)| &**function)
    }

    pub(super) fn bytes(&self) -> usize {
        std::mem::size_of::<Self>()
            + self.slots.capacity() * std::mem::size_of::<Option<(u64, Arc<Function<P>>)>>()
    }
}

impl<P: Clone> Bucket<P> {
    /// The function, made when it is not there.
    pub(super) fn entry(
        &mut self,
        hash: u64,
        service: &str,
        request_type: &str,
    ) -> Option<&mut Function<P>> {
        let (service_key, type_key) = (service.as_bytes(), request_type.as_bytes());
        let at = match self.position(hash, service_key, type_key) {
            Some(at) => at,
            None => {
                let function = Arc::new(Function::new(service, request_type));
                // Kept at most half full: probes stay within a cache line or two.
                if (self.len + 1) * 2 > self.slots.len() {
                    self.rebuild((self.slots.len() * 2).max(4));
                }
                self.insert(hash, function);
                self.position(hash, service_key, type_key)?
            }
        };
        let (_, function) = self.slots.get_mut(at)?.as_mut()?;
        Some(Arc::make_mut(function))
    }

    pub(super) fn remove(&mut self, hash: u64, service: &str, request_type: &str) {
        let Some(at) = self.position(hash, service.as_bytes(), request_type.as_bytes()) else {
            return;
        };
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = None;
            self.len -= 1;
        }
        // Those behind it may have been displaced by it: put all back in their places.
        let capacity = (self.len * 2 + 2).next_power_of_two();
        self.rebuild(capacity.max(4));
    }

    fn rebuild(&mut self, capacity: usize) {
        let old = std::mem::take(&mut self.slots);
        self.slots.resize_with(capacity, || None);
        self.len = 0;
        for (hash, function) in old.into_iter().flatten() {
            self.insert(hash, function);
        }
    }

    fn insert(&mut self, hash: u64, function: Arc<Function<P>>) {
        let mask = self.mask();
        #[allow(clippy::cast_possible_truncation)]
        let mut at = hash as usize & mask;
        while let Some(slot) = self.slots.get_mut(at) {
            if slot.is_none() {
                *slot = Some((hash, function));
                self.len += 1;
                return;
            }
            at = (at + 1) & mask;
        }
    }
}
