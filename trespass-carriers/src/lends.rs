//! Messages that are lent, counted, without IO: so that neither end may have the other remember more than was agreed.

use crate::wire::MAX_LENT;

/// Both directions of one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lends {
    /// Whether that was agreed at all.
    agreed: bool,
    /// Lent to the peer and not fetched.
    out: usize,
    /// How many were fetched since that was last asked.
    back: usize,
    /// Lent by the peer and not said to be fetched.
    here: usize,
    /// Of these, how many were read.
    unsaid: usize,
    /// Nobody will read what else the peer lends.
    unwanted: bool,
}

impl Lends {
    pub(crate) fn new(agreed: bool) -> Self {
        Self { agreed, out: 0, back: 0, here: 0, unsaid: 0, unwanted: false }
    }

    pub(crate) fn are_agreed(&self) -> bool {
        self.agreed
    }

    /// Whether one more may be lent.
    pub(crate) fn may_lend(&self) -> bool {
        self.agreed && self.out < MAX_LENT
    }

    /// One more was lent.
    pub(crate) fn lent(&mut self) {
        self.out += 1;
    }

    /// The peer lends one more: whether it may.
    pub(crate) fn arrived(&mut self) -> bool {
        let may = self.agreed && self.here < MAX_LENT;
        self.here += usize::from(may);
        if self.unwanted {
            self.unsaid = self.here;
        }
        may
    }

    /// The peer says that it has fetched one: whether it had one.
    pub(crate) fn fetched(&mut self) -> bool {
        let had = self.out > 0;
        if had {
            self.out -= 1;
            self.back += 1;
        }
        had
    }

    /// How many the peer has fetched since this was last asked.
    pub(crate) fn take_back(&mut self) -> usize {
        std::mem::take(&mut self.back)
    }

    /// Whether that would be any.
    pub(crate) fn has_news(&self) -> bool {
        self.back > 0
    }

    /// One of the peer's was read: whether that is to be said.
    pub(crate) fn read(&mut self) -> bool {
        if self.unsaid < self.here {
            self.unsaid += 1;
        }
        self.unsaid > 0
    }

    /// Nothing of the peer's will be read any more, nor what is still to come: it may have all of it back. Whether there is any.
    pub(crate) fn discard(&mut self) -> bool {
        self.unwanted = true;
        self.unsaid = self.here;
        self.unsaid > 0
    }

    /// This end leaves, which says it of all.
    pub(crate) fn leave(&mut self) {
        (self.unwanted, self.unsaid) = (false, 0);
    }

    /// Whether it is to be said of any that it was read, or never will be.
    pub(crate) fn is_due(&self) -> bool {
        self.unsaid > 0
    }

    /// It was said of one that it was read: whether there are more.
    pub(crate) fn said(&mut self) -> bool {
        self.unsaid = self.unsaid.saturating_sub(1);
        self.here = self.here.saturating_sub(1);
        self.unsaid > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lent_where_that_was_not_agreed() {
        let mut lends = Lends::new(false);
        assert!(!lends.may_lend() && !lends.arrived() && !lends.fetched());
    }

    #[test]
    fn neither_end_lends_more_than_was_agreed() {
        let (mut one, mut other) = (Lends::new(true), Lends::new(true));
        for _ in 0..MAX_LENT {
            assert!(one.may_lend());
            one.lent();
            assert!(other.arrived());
        }
        assert!(!one.may_lend() && !other.arrived());
        assert!(other.read() && !other.said());
        assert!(one.fetched() && one.may_lend());
        assert_eq!((one.take_back(), one.take_back()), (1, 0));
        assert!(other.arrived());
    }

    #[test]
    fn what_was_not_lent_is_not_fetched() {
        let mut lends = Lends::new(true);
        assert!(!lends.fetched());
        assert!(!lends.read(), "nothing is here to be read");
    }

    #[test]
    fn what_nobody_wants_is_said_as_it_comes() {
        let mut lends = Lends::new(true);
        assert!(lends.arrived() && lends.arrived() && !lends.is_due());
        assert!(lends.discard() && lends.said());
        assert!(!lends.said() && !lends.is_due());
        assert!(lends.arrived() && lends.is_due());
        lends.leave();
        assert!(!lends.is_due() && lends.arrived() && !lends.is_due());
    }

    #[test]
    fn what_was_read_is_said_once_each() {
        let mut lends = Lends::new(true);
        assert!(lends.arrived() && lends.arrived());
        assert!(lends.read() && lends.read());
        assert!(lends.said());
        assert!(!lends.said());
    }
}
