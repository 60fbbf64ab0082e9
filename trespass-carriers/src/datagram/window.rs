//! Which messages are over, without IO: so that each is delivered once at most.

/// How many of the newest messages are remembered one by one.
pub(super) const SPAN: u32 = 1024;
const WORDS: usize = (SPAN / u64::BITS) as usize;

/// The newest [`SPAN`] numbers, and which of them are over: delivered, or given up.
///
/// Older ones are over by definition. A number that is up to `SPAN` ahead moves the window, and leaves room for all that were
/// skipped; one that is further ahead is believed when another one near it comes, so that one wrong number does not make all
/// that follow look old (RFC 3550, appendix A.1, does so for RTP).
#[derive(Debug)]
pub(super) struct Window {
    newest: u32,
    /// Bit `number % SPAN`: over.
    over: [u64; WORDS],
    /// The last one that was too far ahead.
    stray: Option<u32>,
    /// Messages that became old and never were over.
    missed: u64,
}

/// What is to be done with something of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fresh,
    /// It was delivered or given up before.
    Over,
    /// So old that nobody knows.
    Late,
    /// So far ahead that one alone is not believed.
    Stray,
}

impl Window {
    /// Before the message of number 0.
    pub(super) fn new() -> Self {
        Self { newest: u32::MAX, over: [u64::MAX; WORDS], stray: None, missed: 0 }
    }

    /// The newest number that was believed.
    #[cfg(test)]
    pub(super) fn newest(&self) -> u32 {
        self.newest
    }

    /// Looks at a number, and moves on to it where it is newer.
    #[inline]
    pub(super) fn admit(&mut self, number: u32) -> Verdict {
        let ahead = number.wrapping_sub(self.newest);
        match ahead {
            1..=SPAN => self.advance(ahead),
            // The upper half is behind.
            0 | 0x8000_0000.. if self.newest.wrapping_sub(number) >= SPAN => return Verdict::Late,
            0 | 0x8000_0000.. => {}
            _ => return self.weigh(number),
        }
        match self.is_over(number) {
            true => Verdict::Over,
            false => Verdict::Fresh,
        }
    }

    /// Notes that a message is over. No effect on one that is too old.
    #[inline]
    pub(super) fn finish(&mut self, number: u32) {
        if self.newest.wrapping_sub(number) < SPAN {
            let (word, bit) = place(number);
            self.over[word] |= bit;
        }
    }

    /// How many messages became old and never came, whole.
    pub(super) fn missed(&self) -> u64 {
        self.missed
    }

    fn is_over(&self, number: u32) -> bool {
        let (word, bit) = place(number);
        self.over[word] & bit != 0
    }

    #[inline]
    fn advance(&mut self, by: u32) {
        for _ in 0..by {
            self.newest = self.newest.wrapping_add(1);
            let (word, bit) = place(self.newest);
            self.missed += u64::from(self.over[word] & bit == 0);
            self.over[word] &= !bit;
        }
        self.stray = None;
    }

    /// One that is far ahead.
    #[cold]
    fn weigh(&mut self, number: u32) -> Verdict {
        let near = |other: u32| number != other && number.wrapping_sub(other).wrapping_add(SPAN) <= 2 * SPAN;
        if !self.stray.is_some_and(near) {
            self.stray = Some(number);
            return Verdict::Stray;
        }
        let skipped = number.wrapping_sub(self.newest) - SPAN;
        self.advance(SPAN);
        self.missed += u64::from(skipped);
        // The window as a whole is of numbers that were not seen, wherever it is.
        self.newest = number;
        Verdict::Fresh
    }
}

fn place(number: u32) -> (usize, u64) {
    let at = number % SPAN;
    ((at / u64::BITS) as usize, 1 << (at % u64::BITS))
}

#[cfg(test)]
mod tests;
