use proptest::prelude::*;

use super::*;
use crate::error::Violation;

const WINDOW: u32 = 16;

/// One end after a handshake with its like.
fn open() -> Credits {
    let mut credits = Credits::new(WINDOW, WINDOW);
    credits.on_sent(16);
    credits.on_received(16).unwrap();
    credits
}

#[test]
fn each_rank_goes_down_to_its_floor() {
    let mut credits = open();
    // 16 granted, one used for the handshake.
    for left in (0..=14).rev() {
        for (rank, floor) in [(Rank::Data, 4), (Rank::Abort, 3), (Rank::Fin, 2), (Rank::Bye, 1), (Rank::Credit, 0)] {
            assert_eq!(credits.may_send(rank), left + 1 > floor, "{rank:?} with {left}");
        }
        credits.on_sent(16);
    }
    assert!(!credits.may_send(Rank::Credit));
}

#[test]
fn nothing_may_be_sent_before_anything_is_granted() {
    assert!(!Credits::new(WINDOW, WINDOW).may_send(Rank::Credit));
}

#[test]
fn a_grant_beyond_the_window_is_named() {
    // One frame was sent: the peer may have posted 16 and that one.
    assert!(open().on_received(17).is_ok());
    let violation = Violation::CreditBeyondWindow { granted: 18, limit: 17 };
    assert_eq!(open().on_received(18), Err(violation));
    let far = Violation::CreditBeyondWindow { granted: 16 + u64::from(u32::MAX / 2), limit: 17 };
    assert_eq!(open().on_received(16 + u32::MAX / 2), Err(far));
}

#[test]
fn a_grant_that_falls_is_named() {
    assert_eq!(open().on_received(15), Err(Violation::CreditFell(1)));
    assert_eq!(open().on_received(0), Err(Violation::CreditFell(16)));
}

#[test]
fn a_frame_without_credit_is_named() {
    let mut credits = Credits::new(WINDOW, WINDOW);
    credits.on_received(16).unwrap();
    // Before this end has said anything, one frame is all that the peer may send.
    assert_eq!(credits.on_received(16), Err(Violation::BeyondCredit(1)));
}

#[test]
fn credits_are_due_at_half_the_window_or_before_a_wait_of_both() {
    let mut credits = open();
    assert!(!credits.due(23) && credits.due(24));
    assert!(!credits.due_before_wait(23), "the peer has plenty");
    for _ in 0..11 {
        credits.on_received(16).unwrap();
    }
    // The peer has sent 12 of 16: it has nothing left for data.
    assert!(!credits.due_before_wait(17) && credits.due_before_wait(18));
    credits.on_sent(18);
    assert!(!credits.due_before_wait(18));
}

proptest! {
    /// Whatever a peer says, the outcome is an error or a state in which it was granted no more than it can have meant.
    #[test]
    fn any_grants_keep_within_the_window(steps in prop::collection::vec((any::<bool>(), any::<u32>()), 1..200)) {
        let mut credits = open();
        for (near, grant) in steps {
            let grant = if near { (credits.granted as u32).wrapping_add(grant % 40) } else { grant };
            let before = credits;
            match credits.on_received(grant) {
                Ok(()) => {
                    prop_assert!(credits.granted >= before.granted);
                    prop_assert!(credits.granted <= credits.sent + u64::from(WINDOW));
                }
                Err(_) => prop_assert_eq!(credits, before, "a frame that is refused changes nothing"),
            }
            if credits.may_send(Rank::Data) {
                credits.on_sent(credits.received + 16);
            }
        }
    }

    /// The low 32 bits will do, wherever the counts are.
    #[test]
    fn counts_may_pass_what_32_bits_hold(start in 0..u64::from(u32::MAX) * 3, more in 0..=WINDOW) {
        let mut credits = open();
        (credits.sent, credits.granted) = (start, start);
        credits.on_received((start + u64::from(more)) as u32).unwrap();
        prop_assert_eq!(credits.granted, start + u64::from(more));
    }
}
