//! What the loops see of a track or carrier: numbered messages of one size, out and in.

use std::task::{Context, Poll};

use trespass_core::{Drive, TransportError};

use super::error::PerfError;

/// The first bytes of a message: its number, and whether it is the one that ends a test.
///
/// A message shorter than 8 bytes has as many of the number's low bits as there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    number: u64,
    last: bool,
}

impl Word {
    /// What memory that is read begins with.
    pub(crate) const MARK: Self = Self { number: 0x5472_6573_7061_7373, last: false };

    pub(crate) fn number(number: u64) -> Self {
        Self { number, last: false }
    }

    /// The one that ends a test, after `count` others.
    pub(crate) fn last(count: u64) -> Self {
        Self { number: count, last: true }
    }

    pub(crate) fn is_last(self) -> bool {
        self.last
    }

    pub(crate) fn to_number(self) -> u64 {
        self.number
    }

    #[inline]
    pub(crate) fn put(self, message: &mut [u8]) {
        let last = u64::from(self.last) << 63;
        match message.first_chunk_mut() {
            Some(word) => *word = (self.number & Self::mask(8) | last).to_le_bytes(),
            None => self.put_short(message),
        }
    }

    fn put_short(self, message: &mut [u8]) {
        let bits = 8 * message.len();
        let Some(last) = bits.checked_sub(1).map(|top| u64::from(self.last) << top) else { return };
        let word = (self.number & Self::mask(message.len()) | last).to_le_bytes();
        message.iter_mut().zip(word).for_each(|(to, byte)| *to = byte);
    }

    #[inline]
    pub(crate) fn take(message: &[u8]) -> Self {
        match message.first_chunk() {
            Some(word) => Self::unpack(u64::from_le_bytes(*word), 63),
            None => Self::take_short(message),
        }
    }

    fn take_short(message: &[u8]) -> Self {
        let mut word = [0; 8];
        word.iter_mut().zip(message).for_each(|(to, byte)| *to = *byte);
        Self::unpack(u64::from_le_bytes(word), (8 * message.len()).saturating_sub(1))
    }

    #[inline]
    fn unpack(word: u64, top: usize) -> Self {
        Self { number: word & ((1 << top) - 1), last: word >> top != 0 }
    }

    /// What of a number a message of `size` bytes tells.
    #[inline]
    pub(crate) fn mask(size: usize) -> u64 {
        (1 << (8 * size.min(8)).saturating_sub(1)) - 1
    }

    /// Whether this, of a message of `size` bytes, is that of `other`.
    #[inline]
    pub(crate) fn is(self, other: Self, size: usize) -> bool {
        (self.number ^ other.number) & Self::mask(size) == 0 && self.last == other.last && self != STRANGE
    }
}

/// One end of what is measured. `cx` is that of a task that is to be woken; without one a call only looks.
pub(crate) trait Link {
    type Error: TransportError;

    /// Queues the message that begins with `word` once there is room. Where it was not ready the same message is asked for again.
    fn send(&mut self, word: Word, cx: Option<&mut Context<'_>>) -> Poll<Result<(), Self::Error>>;

    /// Sends what was queued.
    fn flush(&mut self) -> Result<(), Self::Error>;

    /// The word of the next message. One of another length than was agreed has the number of none: [`STRANGE`].
    fn recv(&mut self, cx: Option<&mut Context<'_>>) -> Poll<Result<Word, Self::Error>>;

    /// A message is longer than [`send`](Self::send) takes: [`send_long`](Self::send_long) does.
    fn is_long(&self) -> bool {
        false
    }

    /// Sends a message of any length, in as many pieces as it takes.
    async fn send_long(&mut self, word: Word) -> Result<(), Self::Error> {
        std::future::poll_fn(|cx| self.send(word, Some(cx))).await
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;
}

/// The word of a message that is none of ours: no message that is expected has it.
pub(crate) const STRANGE: Word = Word { number: u64::MAX, last: true };

/// The word of a message that should have `size` bytes.
#[inline]
pub(crate) fn word_of(message: &[u8], size: usize) -> Word {
    if message.len() == size { Word::take(message) } else { STRANGE }
}

/// Ends a link as well as it can be. The other end may be the first to go, which is a failure that means nothing.
pub(crate) fn close<L: Link, D: Drive>(link: &mut L, driver: &mut D) {
    let _ = trespass_core::block_on(driver, std::future::poll_fn(|cx| link.poll_close(cx)));
}

/// A failure of a link, for whoever does not know its type.
#[cold]
pub(crate) fn failed(error: &impl TransportError) -> PerfError {
    PerfError::transport("measuring", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_messages_of_every_length() {
        for size in 0..20 {
            for number in [0, 1, 127, 128, 255, 1 << 20, u64::MAX >> 1] {
                for word in [Word::number(number), Word::last(number)] {
                    let mut message = vec![0xaa; size];
                    word.put(&mut message);
                    let taken = Word::take(&message);
                    assert!(size == 0 || word.is(taken, size), "{word:?} came as {taken:?} in {size} bytes");
                    assert!(message.iter().skip(8).all(|byte| *byte == 0xaa));
                }
            }
        }
    }

    #[test]
    fn another_message_is_told_apart() {
        for size in [1, 4, 8, 64] {
            assert!(!Word::number(1).is(Word::number(2), size));
            assert!(!Word::number(1).is(Word::last(1), size));
        }
        assert_eq!(word_of(&[0; 9], 8), STRANGE);
        assert!(!STRANGE.is(Word::last(127), 1));
    }
}
