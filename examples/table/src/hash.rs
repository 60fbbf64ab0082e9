//! Where a key lies, and the checksum of an entry: polynomials over the field of 2⁶¹ − 1 elements.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

const PRIME: u64 = (1 << 61) - 1;

/// Seven bytes at a time: each is an element of the field, and different bytes are different elements.
const STEP: usize = 7;
const STEP_MASK: u64 = (1 << (8 * STEP)) - 1;

/// What a table's hashes are made of: drawn at random for each table, and told to its readers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(u64);

impl Secret {
    /// One that nobody knows beforehand.
    pub fn random() -> Self {
        Self(RandomState::new().hash_one(0))
    }

    /// The same for the same `seed`: for runs that are to be repeated.
    pub const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// The checksum of `bytes` in the entry at `place`.
    pub(crate) fn checksum(self, place: u64, bytes: &[u8]) -> u64 {
        evaluate(point(self.0), place, bytes)
    }

    /// Which of `buckets` is that of `key`.
    #[allow(clippy::cast_possible_truncation, reason = "the quotient is less than `buckets`")]
    pub(crate) fn bucket(self, key: &[u8], buckets: usize) -> usize {
        let hash = scatter(evaluate(point(!self.0), 0, key));
        ((u128::from(hash) * buckets as u128) >> 64) as usize
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Where the polynomial is evaluated: neither 0 nor 1.
fn point(secret: u64) -> u64 {
    2 + scatter(secret) % (PRIME - 2)
}

/// The polynomial whose coefficients are the length, `place` and the bytes. Two that differ agree in as many points as they
/// have coefficients, at most.
fn evaluate(point: u64, place: u64, bytes: &[u8]) -> u64 {
    let mut sum = multiply(reduce(bytes.len() as u64 + 1), point);
    sum = multiply(reduce(sum + reduce(place)), point);
    let mut rest = bytes;
    while let Some(word) = rest.first_chunk() {
        sum = multiply(sum + (u64::from_le_bytes(*word) & STEP_MASK), point);
        rest = &rest[STEP..];
    }
    if !rest.is_empty() {
        let mut word = [0; size_of::<u64>()];
        word[..rest.len()].copy_from_slice(rest);
        sum = multiply(sum + u64::from_le_bytes(word), point);
    }
    sum % PRIME
}

/// `a` times `b`, below 2⁶¹ + 4, for `a` below 2⁶² and `b` below 2⁶¹.
#[inline]
fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    // 2⁶¹ is 1 in this field. Below 2⁶¹, and below 2⁶².
    let (low, high) = (product as u64 & PRIME, (product >> 61) as u64);
    reduce(low + high)
}

/// The same element, below 2⁶¹ + 8.
#[inline]
fn reduce(word: u64) -> u64 {
    (word & PRIME) + (word >> 61)
}

/// The finalizer of SplitMix64: one to one, and every bit depends on all.
fn scatter(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by the book.
    fn slowly(point: u64, place: u64, bytes: &[u8]) -> u64 {
        let times = |sum: u64, coefficient: u64| {
            let sum = (u128::from(sum) + u128::from(coefficient)) % u128::from(PRIME);
            u64::try_from(sum * u128::from(point) % u128::from(PRIME)).unwrap()
        };
        let mut sum = times(0, bytes.len() as u64 + 1);
        sum = times(sum, place);
        let mut rest = bytes;
        while !rest.is_empty() {
            // A word is taken whole while there is one, and seven bytes of it count.
            let len = if rest.len() >= 8 { STEP } else { rest.len() };
            let mut word = [0; 8];
            word[..len].copy_from_slice(&rest[..len]);
            sum = times(sum, u64::from_le_bytes(word));
            rest = &rest[len..];
        }
        sum
    }

    #[test]
    fn it_is_the_polynomial() {
        for len in 0..100 {
            for fill in [0, 1, 0x5a, 0xff] {
                let bytes: Vec<u8> = (0..len).map(|at| (at as u8).wrapping_mul(fill)).chain([fill; 9]).collect();
                for (secret, place) in [(0, 0), (1, u64::MAX), (u64::MAX, 1), (77, PRIME), (78, PRIME - 1)] {
                    let point = point(secret);
                    assert_eq!(evaluate(point, place, &bytes), slowly(point, place, &bytes), "{len} {fill} {secret}");
                }
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let bytes = [0xff; 1000];
        for point in [2, PRIME / 2, PRIME - 1] {
            assert_eq!(evaluate(point, u64::MAX, &bytes), slowly(point, u64::MAX, &bytes));
        }
    }

    #[test]
    fn keys_are_spread() {
        let secret = Secret::from_seed(3);
        let mut counts = [0; 64];
        for key in 0..64_000_u32 {
            counts[secret.bucket(&key.to_le_bytes(), counts.len())] += 1;
        }
        // Of 1,000 on average with a deviation of 32.
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
