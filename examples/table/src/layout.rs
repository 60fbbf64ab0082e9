//! How a table lies in memory, and what its readers are told.

use thiserror::Error;
use trespass_core::{BadWindow, RemoteSlice, RemoteWindow};

use crate::entry;
use crate::hash::Secret;

/// What a bucket begins with: how many of its keys are elsewhere, as a little-endian word.
pub(crate) const BUCKET_HEAD: usize = size_of::<u64>();

/// How many buckets there are, of how many entries, of how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    buckets: usize,
    ways: usize,
    entry: usize,
    bytes: usize,
}

/// A layout that will not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadLayout {
    /// There has to be something of everything.
    #[error("a table without buckets, or buckets without entries")]
    Empty,
    /// Entries are of whole words, and keep something beside their head.
    #[error(
        "entries of {entry} bytes: a multiple of 8 from {} to {} is needed",
        Layout::LEAST_ENTRY,
        Layout::MOST_ENTRY
    )]
    Entry {
        /// As it was asked for.
        entry: usize,
    },
    /// More buckets, entries or bytes than can be named.
    #[error("{buckets} buckets of {ways} entries of {entry} bytes are more than there may be")]
    TooLarge {
        /// As it was asked for.
        buckets: usize,
        /// As it was asked for.
        ways: usize,
        /// As it was asked for.
        entry: usize,
    },
}

impl Layout {
    /// The shortest entry, in bytes.
    pub const LEAST_ENTRY: usize = entry::HEAD + 16;
    /// The longest entry, in bytes.
    pub const MOST_ENTRY: usize = 1 << 20;
    /// The longest bucket, in bytes: what one READ fetches, and each one under way has memory for.
    pub const MOST_BUCKET: usize = 16 << 20;

    /// A table of so many `buckets`, with `ways` entries each, of `entry` bytes.
    ///
    /// Of an entry [`longest`](Self::longest) bytes are key and value. With four ways and half as many keys as entries about
    /// one key in 25 finds its bucket full; with eight, one in 120.
    ///
    /// # Errors
    /// What is out of range.
    pub fn new(buckets: usize, ways: usize, entry: usize) -> Result<Self, BadLayout> {
        if buckets == 0 || ways == 0 {
            return Err(BadLayout::Empty);
        }
        if entry % 8 != 0 || !(Self::LEAST_ENTRY..=Self::MOST_ENTRY).contains(&entry) {
            return Err(BadLayout::Entry { entry });
        }
        let bucket = ways.checked_mul(entry).and_then(|bytes| bytes.checked_add(BUCKET_HEAD));
        let bucket = bucket.filter(|bucket| *bucket <= Self::MOST_BUCKET && u32::try_from(buckets).is_ok());
        match bucket.and_then(|bucket| bucket.checked_mul(buckets)) {
            // What any machine can address, and an offset that is no negative number anywhere.
            Some(bytes) if isize::try_from(bytes).is_ok() => Ok(Self { buckets, ways, entry, bytes }),
            _ => Err(BadLayout::TooLarge { buckets, ways, entry }),
        }
    }

    /// How many buckets there are.
    pub fn buckets(&self) -> usize {
        self.buckets
    }

    /// How many entries a bucket has.
    pub fn ways(&self) -> usize {
        self.ways
    }

    /// How many bytes an entry has, its head included.
    pub fn entry_bytes(&self) -> usize {
        self.entry
    }

    /// How many bytes a bucket has: the length of each READ.
    pub fn bucket_bytes(&self) -> usize {
        BUCKET_HEAD + self.ways * self.entry
    }

    /// How many bytes the table has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many bytes a key and its value may have together to be in the table.
    pub fn longest(&self) -> usize {
        self.entry - entry::HEAD
    }

    /// Whether such a key and value fit an entry.
    pub(crate) fn fits(&self, key: usize, value: usize) -> bool {
        key <= entry::MOST_KEY && key.checked_add(value).is_some_and(|len| len <= self.longest())
    }

    /// Where entry `way` lies in its bucket.
    pub(crate) fn entry_at(&self, way: usize) -> usize {
        BUCKET_HEAD + way * self.entry
    }

    /// Where a bucket lies in the table.
    pub(crate) fn bucket_at(&self, bucket: usize) -> usize {
        bucket * self.bucket_bytes()
    }

    /// The number of an entry among all: part of its checksum.
    pub(crate) fn place(&self, bucket: usize, way: usize) -> u64 {
        (bucket * self.ways + way) as u64
    }
}

/// What a reader has to know of a table: where it is, how it lies there, and its secret. It travels as bytes, in a message.
///
/// Who has it can read all of the table until the window is revoked: as with any message, whoever listens in can too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory {
    layout: Layout,
    secret: Secret,
    window: RemoteWindow,
}

/// Bytes that are no directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadDirectory {
    /// Not as long as one is, or of another version.
    #[error("these bytes are no directory of this version")]
    Form,
    /// A layout that will not do.
    #[error(transparent)]
    Layout(#[from] BadLayout),
    /// No window.
    #[error(transparent)]
    Window(#[from] BadWindow),
    /// The table does not lie in its window.
    #[error("a table of {table} bytes in a window of {window}")]
    TooSmall {
        /// How long the table is.
        table: usize,
        /// How long its window is.
        window: u64,
    },
}

const VERSION: u8 = 1;
const LAYOUT_AT: usize = 8;
const SECRET_AT: usize = LAYOUT_AT + 3 * size_of::<u32>();
const WINDOW_AT: usize = SECRET_AT + size_of::<u64>();

impl Directory {
    /// How many bytes [`encode`](Self::encode) makes.
    pub const ENCODED: usize = WINDOW_AT + RemoteWindow::ENCODED;

    /// The table with this layout and secret, from the begin of `window` on.
    ///
    /// # Errors
    /// [`BadDirectory::TooSmall`].
    pub fn new(layout: Layout, secret: Secret, window: RemoteWindow) -> Result<Self, BadDirectory> {
        match layout.bytes() as u64 <= window.len() {
            true => Ok(Self { layout, secret, window }),
            false => Err(BadDirectory::TooSmall { table: layout.bytes(), window: window.len() }),
        }
    }

    /// The bytes by which a peer is told: version, seven zeros, then buckets, ways and length of an entry as 32 bits each,
    /// the secret, and the window; little-endian.
    pub fn encode(&self) -> [u8; Self::ENCODED] {
        let mut bytes = [0; Self::ENCODED];
        bytes[0] = VERSION;
        let numbers = [self.layout.buckets, self.layout.ways, self.layout.entry];
        for (place, number) in bytes[LAYOUT_AT..SECRET_AT].chunks_exact_mut(size_of::<u32>()).zip(numbers) {
            // The layout keeps each of them below.
            place.copy_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
        }
        bytes[SECRET_AT..WINDOW_AT].copy_from_slice(&self.secret.word().to_le_bytes());
        bytes[WINDOW_AT..].copy_from_slice(&self.window.encode());
        bytes
    }

    /// The directory that a peer tells of. Whatever it says, a READ stays within the window, and takes memory for a bucket
    /// of at most [`Layout::MOST_BUCKET`].
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadDirectory> {
        let bytes: &[u8; Self::ENCODED] = bytes.try_into().map_err(|_| BadDirectory::Form)?;
        if bytes[..LAYOUT_AT] != [VERSION, 0, 0, 0, 0, 0, 0, 0] {
            return Err(BadDirectory::Form);
        }
        let number = |index: usize| {
            let at = LAYOUT_AT + index * size_of::<u32>();
            // 32 bits fit where there is a device; elsewhere the layout is too large, whatever it is.
            usize::try_from(u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))).unwrap_or(usize::MAX)
        };
        let layout = Layout::new(number(0), number(1), number(2))?;
        let secret = Secret::from_seed(u64::from_le_bytes(std::array::from_fn(|i| bytes[SECRET_AT + i])));
        Self::new(layout, secret, RemoteWindow::decode(&bytes[WINDOW_AT..])?)
    }

    /// How the table lies there.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What its hashes are made of.
    pub fn secret(&self) -> Secret {
        self.secret
    }

    /// Where it is.
    pub fn window(&self) -> RemoteWindow {
        self.window
    }

    /// What a READ of `bucket` fetches.
    pub(crate) fn slice(&self, bucket: usize) -> RemoteSlice {
        let slice = self.window.slice(self.layout.bucket_at(bucket) as u64, self.layout.bucket_bytes());
        slice.expect("a directory is made only where all buckets lie in the window")
    }
}

#[cfg(test)]
mod tests {
    use trespass_core::Access;

    use super::*;

    fn directory() -> Directory {
        let layout = Layout::new(10, 4, 64).unwrap();
        let window = RemoteWindow::new(4096, layout.bytes() as u64, 7, Access::ReadOnly).unwrap();
        Directory::new(layout, Secret::from_seed(u64::MAX - 1), window).unwrap()
    }

    #[test]
    fn a_directory_survives_its_bytes() {
        assert_eq!(Directory::decode(&directory().encode()), Ok(directory()));
        // The last bucket lies inside.
        assert_eq!(directory().slice(9).len(), 8 + 4 * 64);
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let good = directory().encode();
        assert_eq!(Directory::decode(&good[1..]), Err(BadDirectory::Form));
        for at in 0..8 {
            let mut bad = good;
            bad[at] ^= 2;
            assert_eq!(Directory::decode(&bad), Err(BadDirectory::Form), "byte {at}");
        }
        let with = |index: usize, number: u32| {
            let mut bad = good;
            bad[LAYOUT_AT + 4 * index..][..4].copy_from_slice(&number.to_le_bytes());
            Directory::decode(&bad).map(|_| ())
        };
        assert_eq!(with(0, 0), Err(BadLayout::Empty.into()));
        assert_eq!(with(1, 0), Err(BadLayout::Empty.into()));
        assert_eq!(with(2, 65), Err(BadLayout::Entry { entry: 65 }.into()));
        assert_eq!(with(0, 11), Err(BadDirectory::TooSmall { table: 11 * 264, window: 2640 }));
        assert!(matches!(with(1, u32::MAX), Err(BadDirectory::Layout(BadLayout::TooLarge { .. }))));
        let mut bad = good;
        bad[WINDOW_AT] = 9;
        assert_eq!(Directory::decode(&bad), Err(BadDirectory::Window(BadWindow::Form)));
    }

    #[test]
    fn layouts_have_limits() {
        assert_eq!(Layout::new(1, 1, 32), Err(BadLayout::Entry { entry: 32 }));
        assert_eq!(Layout::new(1, 1, 2 << 20), Err(BadLayout::Entry { entry: 2 << 20 }));
        assert!(matches!(Layout::new(usize::MAX, 1, 64), Err(BadLayout::TooLarge { .. })));
        assert!(matches!(Layout::new(1, usize::MAX, 64), Err(BadLayout::TooLarge { .. })));
        assert!(matches!(Layout::new(1, (16 << 20) / 64, 64), Err(BadLayout::TooLarge { .. })));
        let layout = Layout::new(3, 2, 64).unwrap();
        assert_eq!((layout.bucket_bytes(), layout.bytes(), layout.longest()), (136, 408, 40));
        assert!(layout.fits(40, 0) && layout.fits(0, 40) && !layout.fits(1, 40) && !layout.fits(1, usize::MAX));
    }
}
