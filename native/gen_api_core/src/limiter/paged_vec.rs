use std::mem::size_of;

/// PagedVec of a page.
const PAGE: usize = 32;

/// A dense list in pages: it grows and shrinks without being moved or holding much more than it needs.
#[derive(Debug)]
pub(super) struct PagedVec<T> {
    pages: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for PagedVec<T> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
        }
    }
}

impl<T> PagedVec<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / PAGE)?.get(index % PAGE)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pages.get_mut(index / PAGE)?.get_mut(index % PAGE)
    }

    pub(super) fn push(&mut self, item: T) {
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGE => page.push(item),
            None => self.pages.push(vec![item]),
            Some(_) => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(item);
                self.pages.push(page);
            }
        }
        self.len += 1;
    }

    /// Takes one out; the last one takes its place.
    pub(super) fn swap_remove(&mut self, index: usize) -> Option<T> {
        if index >= self.len {
            return None;
        }
        let page = self.pages.last_mut()?;
        let last = page.pop()?;
        if page.is_empty() {
            self.pages.pop();
            if self.pages.capacity() / 4 > self.pages.len() {
                self.pages.shrink_to(self.pages.len() * 2);
            }
        }
        self.len -= 1;
        match self.get_mut(index) {
            Some(place) => Some(std::mem::replace(place, last)),
            None => Some(last),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten()
    }

    /// Memory held, without what the items hold elsewhere.
    pub(super) fn bytes(&self) -> usize {
        // Only the last page may be smaller than the others.
        let last = self.pages.last().map_or(0, Vec::capacity);
        let items = self.pages.len().saturating_sub(1) * PAGE + last;
        items * size_of::<T>() + self.pages.capacity() * size_of::<Vec<T>>()
    }
}

#[cfg(test)]
mod tests {
    use super::PagedVec;

    #[test]
    fn slots_stay_dense_whatever_is_taken_out() {
        let mut slots = PagedVec::default();
        let mut model = Vec::new();
        for round in 0..5_000usize {
            if round % 7 < 4 || model.is_empty() {
                slots.push(round);
                model.push(round);
            } else {
                let index = round * 31 % model.len();
                assert_eq!(slots.swap_remove(index), Some(model.swap_remove(index)));
            }
            assert_eq!(slots.swap_remove(model.len()), None);
            assert_eq!(slots.len(), model.len());
        }
        assert!(slots.iter().eq(&model));
        while slots.swap_remove(0).is_some() {}
        assert!(slots.bytes() < 256);
    }
}
