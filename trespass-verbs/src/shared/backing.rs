//! How many receives the device has to have, and when it is asked to say that it runs low.

/// Fewer than there could be messages: tracks are idle, most of them, at most times. It begins with a few, and has twice as many
/// each time that they did not last, up to what all tracks may have under way at once.
pub(crate) struct Backing {
    quota: u32,
    /// Of seats that were ever taken.
    seats: u32,
    /// How many the device has at least, unless fewer messages can come.
    kept: u32,
    /// What all seats may have at once.
    most: u32,
    /// Whether the device was asked, and has not answered.
    watched: bool,
}

impl Backing {
    pub(crate) fn new(seats: usize, quota: usize) -> Self {
        let (quota, most) = (quota as u32, (seats * quota) as u32);
        Self { quota, seats: 0, kept: most.min(2 * quota), most, watched: false }
    }

    /// Somebody takes this seat. One whose last member has gone counts on: nothing comes to it, but it does no harm.
    pub(crate) fn sit(&mut self, seat: usize) {
        self.seats = self.seats.max(seat as u32 + 1);
    }

    /// How many messages may come, while members hold so many.
    #[inline]
    fn owed(&self, held: u32) -> u32 {
        (self.seats * self.quota).saturating_sub(held)
    }

    /// Whether the device, which has so many receives, has to get more.
    #[inline]
    pub(crate) fn lacks(&self, outstanding: u32, held: u32) -> bool {
        outstanding < self.kept.min(self.owed(held))
    }

    /// Whether there is something to do about that.
    #[inline]
    pub(crate) fn is_due(&self, outstanding: u32, held: u32) -> bool {
        self.lacks(outstanding, held) || self.has_to_watch(outstanding, held)
    }

    #[inline]
    fn has_to_watch(&self, outstanding: u32, held: u32) -> bool {
        !self.watched && outstanding < self.owed(held)
    }

    /// With how many receives left the device is to say so, where it has to be asked.
    pub(crate) fn watch(&mut self, outstanding: u32, held: u32) -> Option<u32> {
        self.has_to_watch(outstanding, held).then(|| {
            self.watched = true;
            self.kept.div_ceil(2)
        })
    }

    /// What was asked for came.
    pub(crate) fn ran_low(&mut self) {
        self.watched = false;
        self.kept = (2 * self.kept).min(self.most);
    }

    /// Nobody says when the device runs low.
    pub(crate) fn is_not_watched(&mut self) {
        self.kept = self.most;
    }

    /// There is no memory for more than `outstanding`, until the device runs low and it is worth another try.
    pub(crate) fn is_at_its_limit(&mut self, outstanding: u32) {
        self.kept = outstanding.max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_tracks_have_all_that_may_come() {
        let mut backing = Backing::new(100, 8);
        assert!(!backing.lacks(0, 0), "nobody is there");
        backing.sit(0);
        assert!(backing.lacks(7, 0) && !backing.lacks(8, 0));
        assert_eq!(backing.watch(8, 0), None);
        // What is held cannot come again.
        assert!(backing.lacks(2, 5) && !backing.lacks(3, 5));
    }

    #[test]
    fn many_share_and_get_more_when_that_does_not_last() {
        let mut backing = Backing::new(100, 8);
        (0..100).for_each(|seat| backing.sit(seat));
        assert!(backing.lacks(15, 0) && !backing.lacks(16, 0));
        assert_eq!(backing.watch(16, 0), Some(8));
        assert_eq!(backing.watch(16, 0), None, "once is enough");
        backing.ran_low();
        assert!(backing.lacks(31, 0) && !backing.lacks(32, 0));
        assert_eq!(backing.watch(32, 0), Some(16));
        (0..10).for_each(|_| backing.ran_low());
        assert!(backing.lacks(799, 0) && !backing.lacks(800, 0), "no more than can come");
        assert_eq!(backing.watch(800, 0), None);
    }

    #[test]
    fn hoarders_are_made_up_for() {
        let mut backing = Backing::new(3, 8);
        (0..3).for_each(|seat| backing.sit(seat));
        // Two hold all of theirs: the third has its quota.
        assert!(backing.lacks(7, 16) && !backing.lacks(8, 16));
    }

    #[test]
    fn without_word_from_the_device_everything_is_there() {
        let mut backing = Backing::new(10, 8);
        (0..10).for_each(|seat| backing.sit(seat));
        assert!(backing.watch(16, 0).is_some());
        backing.is_not_watched();
        assert!(backing.lacks(79, 0) && !backing.lacks(80, 0));
    }

    #[test]
    fn a_limit_is_tried_again_when_it_hurts() {
        let mut backing = Backing::new(10, 8);
        (0..10).for_each(|seat| backing.sit(seat));
        backing.is_at_its_limit(5);
        assert!(!backing.lacks(5, 0));
        backing.ran_low();
        assert!(backing.lacks(9, 0));
    }
}
