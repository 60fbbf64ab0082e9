//! What the bytes of a bucket say of a key: without IO, and without trust.

use std::ops::Range;

use crate::entry::{Claim, HEAD, Kind};
use crate::hash::Secret;
use crate::layout::{BUCKET_HEAD, Layout};

/// What the bytes of a bucket say of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen<V> {
    /// It has this value.
    Found {
        /// Of the write that made it so: a later write of the same key has a greater one.
        version: u64,
        /// The value, where it was read.
        value: V,
    },
    /// There is no such key.
    Absent,
    /// It may exist, and is not in the table: its value is too long, or its bucket was full.
    Elsewhere,
    /// The bytes are not all of one write: nothing is known of the key.
    Torn,
}

/// Looks for `key` in the bytes of its bucket, which may be anything: of bytes that the owner did not write as they are
/// nothing is believed. Costs the checksum of one entry where the key is there, and of all where it is not.
///
/// ```
/// use trespass_example_table::bucket::{Seen, find};
/// use trespass_example_table::{Layout, Secret};
///
/// let layout = Layout::new(1, 2, 64)?;
/// assert_eq!(find(&[0; 136], layout, Secret::from_seed(1), b"key"), Seen::Torn);
/// # Ok::<_, trespass_example_table::BadLayout>(())
/// ```
pub fn find<'a>(bytes: &'a [u8], layout: Layout, secret: Secret, key: &[u8]) -> Seen<&'a [u8]> {
    match locate(bytes, layout, secret, key) {
        Seen::Found { version, value } => match bytes.get(value) {
            Some(value) => Seen::Found { version, value },
            None => Seen::Torn,
        },
        Seen::Absent => Seen::Absent,
        Seen::Elsewhere => Seen::Elsewhere,
        Seen::Torn => Seen::Torn,
    }
}

/// The same, with the value as its place in `bytes`.
pub(crate) fn locate(bytes: &[u8], layout: Layout, secret: Secret, key: &[u8]) -> Seen<Range<usize>> {
    if bytes.len() != layout.bucket_bytes() {
        return Seen::Torn;
    }
    let Some((head, entries)) = bytes.split_first_chunk::<BUCKET_HEAD>() else { return Seen::Torn };
    let bucket = secret.bucket(key, layout.buckets());
    let claims = || (0..).zip(entries.chunks_exact(layout.entry_bytes()).map(Claim::parse));
    let is_whole = |way, claim: &Claim<'_>| claim.is_whole(secret, layout.place(bucket, way));
    for (way, claim) in claims() {
        let Some(claim) = claim.filter(|claim| claim.kind != Kind::Free && claim.key == key) else { continue };
        return match (is_whole(way, &claim), claim.kind) {
            (false, _) => Seen::Torn,
            (true, Kind::Value) => {
                let start = layout.entry_at(way) + HEAD + key.len();
                Seen::Found { version: claim.version, value: start..start + claim.value.len() }
            }
            (true, _) => Seen::Elsewhere,
        };
    }
    // The key may be in whichever entry is torn.
    let all_whole = claims().all(|(way, claim)| claim.is_some_and(|claim| is_whole(way, &claim)));
    match (all_whole, u64::from_le_bytes(*head)) {
        (false, _) => Seen::Torn,
        (true, 0) => Seen::Absent,
        (true, _) => Seen::Elsewhere,
    }
}
