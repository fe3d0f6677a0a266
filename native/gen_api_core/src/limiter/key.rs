/// The longest key kept in place: a UUID as text fits.
const INLINE: usize = 38;

/// The bytes of a value, copied.
#[derive(Debug)]
pub(super) enum Key {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

impl Key {
    pub(super) fn new(value: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        match bytes.get_mut(..value.len()) {
            Some(place) => {
                place.copy_from_slice(value);
                Self::Inline {
                    len: value.len() as u8,
                    bytes,
                }
            }
            None => Self::Heap(value.into()),
        }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Heap(bytes) => bytes,
        }
    }

    /// Memory held outside of the value itself.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Heap(bytes) => bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn a_key_of_any_length_reads_as_it_was() {
        for len in 0..100u8 {
            let value: Vec<u8> = (0..len).collect();
            assert_eq!(Key::new(&value).as_bytes(), value);
        }
    }
}
