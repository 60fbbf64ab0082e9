//! Entries with names that are never used twice: an event for something that is gone finds nothing.

/// Entries by token.
pub(crate) struct Slab<T> {
    cells: Vec<Cell<T>>,
    free: Vec<u32>,
}

struct Cell<T> {
    generation: u32,
    entry: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { cells: Vec::new(), free: Vec::new() }
    }

    /// A token that nothing else had, for an entry to come. It fits in 63 bits: completion queues add one of their own.
    pub(crate) fn reserve(&mut self) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.cells.push(Cell { generation: 0, entry: None });
            self.cells.len() as u32 - 1
        });
        let generation = self.cells[index as usize].generation;
        (u64::from(generation) << 32) | u64::from(index)
    }

    /// Puts the entry at a reserved or emptied token.
    pub(crate) fn put(&mut self, token: u64, entry: T) {
        if let Some(cell) = self.cell(token) {
            cell.entry = Some(entry);
        }
    }

    pub(crate) fn get_mut(&mut self, token: u64) -> Option<&mut T> {
        self.cell(token)?.entry.as_mut()
    }

    /// Takes the entry out, and keeps its token for another [`put`](Slab::put).
    pub(crate) fn take(&mut self, token: u64) -> Option<T> {
        self.cell(token)?.entry.take()
    }

    /// Takes the entry out, and retires the token.
    pub(crate) fn remove(&mut self, token: u64) -> Option<T> {
        let cell = self.cell(token)?;
        let entry = cell.entry.take();
        cell.generation = cell.generation.wrapping_add(1) & 0x3fff_ffff;
        self.free.push(token as u32);
        entry
    }

    /// How many tokens are taken.
    pub(crate) fn len(&self) -> usize {
        self.cells.len() - self.free.len()
    }

    /// All entries, each with its token.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        self.cells.iter_mut().enumerate().filter_map(|(index, cell)| {
            let token = (u64::from(cell.generation) << 32) | index as u64;
            Some((token, cell.entry.as_mut()?))
        })
    }

    /// Takes everything out.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        self.free.clear();
        self.cells.drain(..).filter_map(|cell| cell.entry).collect()
    }

    fn cell(&mut self, token: u64) -> Option<&mut Cell<T>> {
        self.cells.get_mut(token as u32 as usize).filter(|cell| u64::from(cell.generation) == token >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_one_life() {
        let mut slab = Slab::new();
        let first = slab.reserve();
        slab.put(first, 'a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.reserve();
        slab.put(second, 'b');
        assert_ne!(first, second);
        assert_eq!(slab.get_mut(first), None);
        slab.put(first, 'c');
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut 'b'));
        assert_eq!(slab.take(second), Some('b'));
        slab.put(second, 'd');
        assert_eq!(slab.remove(second), Some('d'));
    }
}
