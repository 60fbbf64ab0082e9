//! What is sent: a head and a body, numbered and checksummed.

use std::sync::LazyLock;

use crc32fast::Hasher;

/// The bytes of a head.
pub(crate) const HEAD: usize = 24;

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What is to arrive.
    Data,
    /// It has arrived, and so has all before it.
    Ack,
    /// How far the desk is, on a new connection.
    Welcome,
}

/// A record, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
    /// Of everything that was taken up to this one, where it is an answer.
    pub(crate) digest: u32,
    pub(crate) body: &'a [u8],
    /// The checksum of head and body.
    pub(crate) sum: u32,
}

/// Writes a record over what is in `into`.
pub(crate) fn write(into: &mut Vec<u8>, kind: Kind, number: u64, digest: u32, body: &[u8]) -> u32 {
    into.clear();
    into.extend_from_slice(&u32::try_from(body.len()).expect("a short body").to_le_bytes());
    into.extend_from_slice(&[kind as u8, 0, 0, 0]);
    into.extend_from_slice(&number.to_le_bytes());
    into.extend_from_slice(&digest.to_le_bytes());
    let mut hasher = Hasher::new();
    hasher.update(into);
    hasher.update(body);
    let sum = hasher.finalize();
    into.extend_from_slice(&sum.to_le_bytes());
    into.extend_from_slice(body);
    sum
}

/// How long the body is, of a record that begins with `head`.
pub(crate) fn body_len(head: &[u8]) -> usize {
    head.first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize)
}

/// The record that `bytes` are.
pub(crate) fn read(bytes: &[u8]) -> Result<Record<'_>, String> {
    let (head, body) = bytes.split_at_checked(HEAD).ok_or_else(|| format!("{} bytes are no record", bytes.len()))?;
    if body.len() != body_len(head) {
        return Err(format!("a body of {} bytes that is to be of {}", body.len(), body_len(head)));
    }
    let word = |at: usize| u32::from_le_bytes(*head[at..].first_chunk().expect("inside the head"));
    let (digest, sum) = (word(16), word(20));
    let number = u64::from(word(8)) | u64::from(word(12)) << 32;
    let mut hasher = Hasher::new();
    hasher.update(&head[..20]);
    hasher.update(body);
    if hasher.finalize() != sum {
        return Err(format!("the checksum of record {number} of {} bytes is wrong", body.len()));
    }
    let kind = [Kind::Data, Kind::Ack, Kind::Welcome].into_iter().find(|kind| *kind as u8 == head[4]);
    let kind = kind.ok_or_else(|| format!("a record of kind {}", head[4]))?;
    Ok(Record { kind, number, digest, body, sum })
}

/// The digest of all records up to one, from that of all before it.
pub(crate) fn digest(before: u32, sum: u32) -> u32 {
    let mut hasher = Hasher::new_with_initial(before);
    hasher.update(&sum.to_le_bytes());
    hasher.finalize()
}

/// How long the `number`-th body of a lane is: both ends know. From nothing to `longest`, mostly short.
pub(crate) fn len_of(lane: u64, number: u64, longest: usize) -> usize {
    let dice = mixed(lane << 56 ^ number);
    let most = match dice % 16 {
        0 => 0,
        1..=9 => 300,
        10..=13 => 20_000,
        14 => longest / 8,
        _ => longest,
    };
    (dice >> 8) as usize % (most.min(longest) + 1)
}

/// The bytes of that body.
pub(crate) fn body_of(lane: u64, number: u64, len: usize) -> &'static [u8] {
    let at = mixed(!(lane << 56 ^ number)) as usize % (NOISE.len() - len);
    &NOISE[at..at + len]
}

/// Longer than any body.
static NOISE: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..1_u64 << 19).flat_map(|number| mixed(number).to_le_bytes()).collect());

/// A number that shows nothing of `number` (splitmix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
