//! A small open-addressing hash table of functions.

use super::Function;
use std::sync::Arc;

type Slot<P> = Option<(u64, Arc<Function<P>>)>;

/// Linear probing over slots that hold the whole hash, so that a probe that misses touches
/// no function: one cache line covers four slots. Cloning shares the slots; the first change
/// copies them.
#[derive(Clone, Debug)]
pub(super) struct Bucket<P> {
    slots: Arc<[Slot<P>]>,
}

impl<P> Bucket<P> {
    pub(super) fn empty() -> Self {
        Bucket {
            slots: Arc::new([]),
        }
    }

    #[inline]
    fn position(&self, hash: u64, service: &[u8], request_type: &[u8]) -> Option<usize> {
        let mask = mask(&self.slots);
        #[allow(clippy::cast_possible_truncation)]
        let mut at = hash as usize & mask;
        // An empty bucket has no slot; any other has a free one that ends the search.
        while let Some((found, function)) = self.slots.get(at)? {
            if *found == hash && function.is(service, request_type) {
                return Some(at);
            }
            at = (at + 1) & mask;
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
        std::mem::size_of::<Self>() + std::mem::size_of_val(&*self.slots)
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
                let len = self.functions().count() + 1;
                // Kept at most half full: probes stay within a cache line or two.
                if len * 2 > self.slots.len() {
                    self.rebuild(len * 2);
                }
                let function = Arc::new(Function::new(service, request_type));
                insert(Arc::make_mut(&mut self.slots), hash, function);
                self.position(hash, service_key, type_key)?
            }
        };
        let (_, function) = Arc::make_mut(&mut self.slots).get_mut(at)?.as_mut()?;
        Some(Arc::make_mut(function))
    }

    pub(super) fn remove(&mut self, hash: u64, service: &str, request_type: &str) {
        let Some(at) = self.position(hash, service.as_bytes(), request_type.as_bytes()) else {
            return;
        };
        if let Some(slot) = Arc::make_mut(&mut self.slots).get_mut(at) {
            *slot = None;
        }
        // Those behind it may have been displaced by it: put all back in their places.
        self.rebuild(self.functions().count() * 2);
    }

    fn rebuild(&mut self, room: usize) {
        let capacity = room.next_power_of_two().max(4);
        let mut slots: Vec<Slot<P>> = vec![None; capacity];
        for (hash, function) in self.slots.iter().flatten() {
            insert(&mut slots, *hash, Arc::clone(function));
        }
        self.slots = slots.into();
    }
}

fn mask<T>(slots: &[T]) -> usize {
    slots.len().wrapping_sub(1)
}

fn insert<P>(slots: &mut [Slot<P>], hash: u64, function: Arc<Function<P>>) {
    let mask = mask(slots);
    #[allow(clippy::cast_possible_truncation)]
    let mut at = hash as usize & mask;
    while let Some(slot) = slots.get_mut(at) {
        if slot.is_none() {
            *slot = Some((hash, function));
            return;
        }
        at = (at + 1) & mask;
    }
}
