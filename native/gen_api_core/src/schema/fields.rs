//! Named types: the arguments of a function or the fields of a record.

use super::Type;

/// A name and its type.
#[derive(Debug)]
pub struct Field {
    /// The name that the caller sends.
    pub name: Box<str>,
    /// What may be sent under it.
    pub r#type: Type,
}

/// Fields in declared order, with a way to find one by its name.
///
/// A map of up to 32 keys hands its keys over in ascending order on the BEAM, so the search
/// first tries the field after the one found last: one comparison per key, no hashing.
#[derive(Debug)]
pub struct Fields {
    declared: Vec<Field>,
    by_name: Vec<u32>,
}

impl Fields {
    /// Indexes the fields; names are distinct.
    pub fn new(declared: Vec<Field>) -> Self {
        let mut indexed: Vec<(u32, &Field)> = (0u32..).zip(&declared).collect();
        indexed.sort_by(|(_, a), (_, b)| a.name.as_bytes().cmp(b.name.as_bytes()));
        let by_name = indexed.into_iter().map(|(index, _)| index).collect();
        Fields { declared, by_name }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.declared.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.declared.is_empty()
    }

    /// In declared order.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.declared.iter()
    }

    /// The field at that place in the order of problems: that of the names, or the declared
    /// one; with its place in the declared order.
    pub(super) fn nth(&self, n: usize, by_name: bool) -> Option<(usize, &Field)> {
        let place = if by_name {
            *self.by_name.get(n)? as usize
        } else {
            n
        };
        Some((place, self.declared.get(place)?))
    }

    /// The field of that name and its place in the declared order. `cursor` starts at 0 and
    /// is carried from one call to the next.
    #[inline]
    pub(super) fn find(&self, name: &[u8], cursor: &mut usize) -> Option<(usize, &Field)> {
        if let Some((place, field)) = self.nth(*cursor, true) {
            if field.name.as_bytes() == name {
                *cursor += 1;
                return Some((place, field));
            }
        }
        let found = self
            .by_name
            .binary_search_by(|place| self.name(*place).cmp(name))
            .ok()?;
        *cursor = found + 1;
        self.nth(found, true)
    }

    fn name(&self, place: u32) -> &[u8] {
        self.declared
            .get(place as usize)
            .map_or(&[], |field| field.name.as_bytes())
    }

    /// A rough count of the bytes held.
    pub fn bytes(&self) -> usize {
        self.declared
            .iter()
            .map(|field| std::mem::size_of::<Field>() + field.name.len() + 4 + field.r#type.bytes())
            .sum()
    }
}
