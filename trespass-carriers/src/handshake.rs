//! What two ends agree on, without IO: the same function at both, so that both find the same.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::Refusal;
use crate::wire::{BARE, HEADER, KNOWN_FEATURES, MAX_WINDOW, MIN_FRAME, MIN_WINDOW, Offer};

/// What both ends can live with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// The newest version that both speak.
    pub(crate) version: u16,
    /// The longest frame that this end may send, in bytes.
    pub(crate) send_frame: usize,
    /// How many bytes of header whole messages, and the bytes of streams, have: none where they are bare.
    pub(crate) head: usize,
    /// The longest message that this end may send as one frame.
    pub(crate) eager_limit: usize,
    /// The longest message, either way.
    pub(crate) max_message: usize,
    /// How many receives the peer keeps posted.
    pub(crate) peer_window: u32,
    /// How long the peer bears silence.
    pub(crate) peer_idle: Option<Duration>,
    /// The features that both know.
    pub(crate) features: u64,
    /// Which process the peer is.
    pub(crate) peer_incarnation: u64,
}

/// What `ours` and `theirs` have in common.
///
/// # Errors
/// What about `theirs` will not do.
pub(crate) fn agree(ours: &Offer, theirs: &Offer) -> Result<Agreement, Refusal> {
    let version = ours.max_version.min(theirs.max_version);
    if version < ours.min_version.max(theirs.min_version) {
        return Err(Refusal::Version { min: ours.min_version, max: ours.max_version });
    }
    if theirs.carrier != ours.carrier {
        return Err(Refusal::Kind(ours.carrier));
    }
    let missing = theirs.required & !KNOWN_FEATURES;
    if missing != 0 {
        return Err(Refusal::Features(missing));
    }
    if !(MIN_WINDOW..=MAX_WINDOW).contains(&theirs.window) {
        return Err(Refusal::Window(theirs.window));
    }
    if theirs.max_frame < MIN_FRAME {
        return Err(Refusal::FrameSize(theirs.max_frame));
    }
    let send_frame = ours.max_frame.min(theirs.max_frame);
    let max_message = ours.max_message.min(theirs.max_message);
    let features = ours.optional & theirs.optional;
    let head = if features & BARE != 0 { 0 } else { HEADER };
    let frame_limit = send_frame - head as u32;
    let eager_limit = u64::from(frame_limit.min(theirs.eager_limit + (HEADER - head) as u32)).min(max_message);
    Ok(Agreement {
        version,
        send_frame: send_frame as usize,
        eager_limit: eager_limit as usize,
        // Both fit: `ours` came from a usize.
        max_message: max_message as usize,
        peer_window: theirs.window,
        peer_idle: (theirs.idle_millis > 0).then(|| Duration::from_millis(theirs.idle_millis.into())),
        features,
        head,
        peer_incarnation: theirs.incarnation,
    })
}

/// A number that another process, or this one started again, most likely does not have.
pub(crate) fn incarnation() -> u64 {
    static INCARNATION: OnceLock<u64> = OnceLock::new();
    *INCARNATION.get_or_init(|| RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        Offer::new(64, 4096, 1 << 20)
    }

    #[test]
    fn both_ends_find_the_same() {
        let (ours, theirs) = (offer(), Offer { window: 8, ..Offer::new(8, 1024, 1 << 16) });
        let (here, there) = (agree(&ours, &theirs).unwrap(), agree(&theirs, &ours).unwrap());
        assert_eq!(
            (here.version, here.max_message, here.send_frame),
            (there.version, there.max_message, there.send_frame)
        );
        assert_eq!((here.eager_limit, here.max_message, here.send_frame), (1016, 1 << 16, 1024));
        assert_eq!((here.peer_window, there.peer_window), (8, 64));
    }

    #[test]
    fn an_old_and_a_new_end_speak_the_newest_version_of_both() {
        let newer = Offer { min_version: 1, max_version: 7, ..offer() };
        assert_eq!(agree(&offer(), &newer).unwrap().version, 1);
    }

    #[test]
    fn each_thing_that_will_not_do_is_named() {
        let refused = |theirs: Offer| agree(&offer(), &theirs).unwrap_err();
        assert_eq!(refused(Offer { min_version: 2, max_version: 3, ..offer() }), Refusal::Version { min: 1, max: 1 });
        assert_eq!(refused(Offer { carrier: 2, ..offer() }), Refusal::Kind(1));
        assert_eq!(refused(Offer { required: 6, ..offer() }), Refusal::Features(6));
        assert_eq!(refused(Offer { window: 7, ..offer() }), Refusal::Window(7));
        assert_eq!(refused(Offer { window: MAX_WINDOW + 1, ..offer() }), Refusal::Window(MAX_WINDOW + 1));
        assert_eq!(refused(Offer { max_frame: 127, ..offer() }), Refusal::FrameSize(127));
    }

    #[test]
    fn optional_features_that_are_unknown_are_ignored() {
        assert!(agree(&offer(), &Offer { optional: u64::MAX, ..offer() }).is_ok());
    }

    #[test]
    fn the_incarnation_lasts_as_long_as_the_process() {
        assert_eq!(incarnation(), incarnation());
    }
}
