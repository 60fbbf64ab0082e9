//! One entry, as bytes: `checksum | version | key length | kind | 0 | value length | key | value`, little-endian.

use crate::hash::Secret;

const VERSION_AT: usize = 8;
const KEY_LEN_AT: usize = 16;
const KIND_AT: usize = 18;
const VALUE_LEN_AT: usize = 20;
/// What an entry has before its key.
pub(crate) const HEAD: usize = 24;

/// The longest key that its length has room for.
pub(crate) const MOST_KEY: usize = u16::MAX as usize;

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Free,
    /// A key and its value.
    Value,
    /// A key whose value does not fit.
    Elsewhere,
}

/// What an entry claims, before its checksum was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim<'a> {
    pub(crate) kind: Kind,
    pub(crate) version: u64,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    checksum: u64,
    /// What the checksum is of.
    covered: &'a [u8],
}

impl<'a> Claim<'a> {
    /// What the bytes of an entry claim; `None` where they make no sense, as when they are torn.
    #[inline]
    pub(crate) fn parse(entry: &'a [u8]) -> Option<Self> {
        let (head, rest) = entry.split_first_chunk::<HEAD>()?;
        let kind = match head[KIND_AT..VALUE_LEN_AT] {
            [0, 0] => Kind::Free,
            [1, 0] => Kind::Value,
            [2, 0] => Kind::Elsewhere,
            _ => return None,
        };
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        let key_len = usize::from(u16::from_le_bytes([head[KEY_LEN_AT], head[KEY_LEN_AT + 1]]));
        let value_len = u32::from_le_bytes(std::array::from_fn(|i| head[VALUE_LEN_AT + i]));
        let (key, rest) = rest.split_at_checked(key_len)?;
        let value = rest.get(..usize::try_from(value_len).ok()?)?;
        let covered = &entry[VERSION_AT..HEAD + key.len() + value.len()];
        Some(Self { kind, version: word(VERSION_AT), key, value, checksum: word(0), covered })
    }

    /// Whether all of it is of one write, to the entry at `place`.
    #[inline]
    pub(crate) fn is_whole(&self, secret: Secret, place: u64) -> bool {
        self.checksum == secret.checksum(place, self.covered)
    }
}

/// Makes the bytes of an entry in `out`. Key and value fit, as [`Layout::fits`](crate::Layout) says.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    secret: Secret,
    place: u64,
    kind: Kind,
    version: u64,
    (key, value): (&[u8], &[u8]),
) {
    out.clear();
    out.extend_from_slice(&[0; VERSION_AT]);
    out.extend_from_slice(&version.to_le_bytes());
    // Both fit, or nobody could read it: the lengths are covered.
    out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&[kind as u8, 0]);
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    let checksum = secret.checksum(place, &out[VERSION_AT..]);
    out[..VERSION_AT].copy_from_slice(&checksum.to_le_bytes());
}
