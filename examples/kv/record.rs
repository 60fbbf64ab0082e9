//! Values that say what they are, so that every read can be checked without knowing what was written last.

use std::collections::HashMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thiserror::Error;

use crate::dataset::Item;

/// `magic | crc32 of the rest | writer | version | key length | key | filling`, all little-endian.
const MAGIC: [u8; 8] = *b"kvrecord";
const CRC_AT: usize = MAGIC.len();
const WRITER_AT: usize = CRC_AT + size_of::<u32>();
const VERSION_AT: usize = WRITER_AT + size_of::<u32>();
const KEY_LEN_AT: usize = VERSION_AT + size_of::<u64>();
const KEY_AT: usize = KEY_LEN_AT + size_of::<u32>();

/// Who wrote a value, and which of their writes it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) writer: u32,
    pub(crate) version: u64,
}

/// How a value that was read is not what it has to be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Mismatch {
    #[error("the key is gone")]
    Gone,
    #[error("neither the file nor an update of it: {0} bytes")]
    Alien(usize),
    #[error("the checksum is wrong")]
    Checksum,
    #[error("it belongs to another key")]
    WrongKey,
    #[error("the file's bytes, after an update of it was seen")]
    FileAgain,
    #[error("version {version} of writer {writer}, after what came later was seen")]
    OutOfDate { writer: u32, version: u64 },
    #[error("a deleted key still has a value")]
    NotGone,
    #[error("a scan that is not in the order of the keys")]
    OutOfOrder,
}

/// Writes the value of an update into `out`: `len` bytes, or what the head needs if that is more.
pub(crate) fn write(out: &mut Vec<u8>, key: &[u8], stamp: Stamp, len: usize) {
    out.clear();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; size_of::<u32>()]);
    out.extend_from_slice(&stamp.writer.to_le_bytes());
    out.extend_from_slice(&stamp.version.to_le_bytes());
    out.extend_from_slice(&u32::try_from(key.len()).expect("a key is short").to_le_bytes());
    out.extend_from_slice(key);
    let head = out.len();
    if len > head {
        out.resize(len, 0);
        let seed = stamp.version ^ (u64::from(stamp.writer) << 40);
        SmallRng::seed_from_u64(seed).fill_bytes(&mut out[head..]);
    }
    let crc = crc32fast::hash(&out[WRITER_AT..]);
    out[CRC_AT..WRITER_AT].copy_from_slice(&crc.to_le_bytes());
}

/// Whose value this is, of `key`: what a value says of itself, whatever brought it here.
pub(crate) fn read(value: &[u8], key: &[u8]) -> Result<Stamp, Mismatch> {
    if value.len() < KEY_AT || value[..CRC_AT] != MAGIC {
        return Err(Mismatch::Alien(value.len()));
    }
    let field = |at: usize| u32::from_le_bytes(value[at..at + size_of::<u32>()].try_into().expect("four bytes"));
    if crc32fast::hash(&value[WRITER_AT..]) != field(CRC_AT) {
        return Err(Mismatch::Checksum);
    }
    if field(KEY_LEN_AT) as usize != key.len() || !value[KEY_AT..].starts_with(key) {
        return Err(Mismatch::WrongKey);
    }
    let version = value[VERSION_AT..KEY_LEN_AT].try_into().expect("eight bytes");
    Ok(Stamp { writer: field(WRITER_AT), version: u64::from_le_bytes(version) })
}

/// What one client has seen: enough to tell a value that is out of date, and so an update that was lost.
///
/// The store has one copy of each value, and each write has a stamp of its own. So once a client has seen one write of an
/// item and then another, its own included, the first cannot come back, nor can what the same writer wrote before it.
#[derive(Default)]
pub(crate) struct History {
    /// The latest version seen, by item and writer.
    seen: HashMap<(usize, u32), u64>,
    /// What was seen last of the items of which any update was seen.
    last: HashMap<usize, Stamp>,
}

impl History {
    /// Remembers a write: this client's own, or one that it read.
    pub(crate) fn saw(&mut self, index: usize, stamp: Stamp) {
        self.seen.insert((index, stamp.writer), stamp.version);
        self.last.insert(index, stamp);
    }

    /// Checks what was read of item `index`.
    pub(crate) fn check(&mut self, index: usize, item: &Item, value: Option<&[u8]>) -> Result<(), Mismatch> {
        match value {
            Some(value) if value == item.value => match self.last.contains_key(&index) {
                true => Err(Mismatch::FileAgain),
                false => Ok(()),
            },
            value => self.check_record(index, &item.key, value),
        }
    }

    /// Checks what was read of item `index`, which is a record of `key`.
    pub(crate) fn check_record(&mut self, index: usize, key: &[u8], value: Option<&[u8]>) -> Result<(), Mismatch> {
        let stamp = read(value.ok_or(Mismatch::Gone)?, key)?;
        let Stamp { writer, version } = stamp;
        let came_before = self.seen.get(&(index, writer)).is_some_and(|seen| version <= *seen);
        if came_before && self.last.get(&index) != Some(&stamp) {
            return Err(Mismatch::OutOfDate { writer, version });
        }
        self.saw(index, stamp);
        Ok(())
    }
}
