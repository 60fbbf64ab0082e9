//! Whatever bytes, lengths, credits or handshakes a peer sends: a typed error and a closed track (K6).

mod support;

use futures_executor::block_on;
use proptest::prelude::*;
use support::raw::{
    ABORT, BARE, BYE, CREDIT, FIN, FIRST, Greeting, HELLO, MESSAGE, MORE, REFUSE, Raw, WELCOME, first, frame,
};
use support::{Carrier, Error, poll_once, small, timeless_tracks};
use trespass_carriers::{CarrierError, MessageCarrier, MessageConfig, Refusal, Violation};
use trespass_core::{ErrorKind, RecvSide, Role, TransportError, TryError};

const MAX_MESSAGE: usize = 10_000;

fn config() -> MessageConfig {
    MessageConfig::default().with_max_message(MAX_MESSAGE).with_spill_limit(4096)
}

/// A carrier whose peer writes its own bytes; the handshake was honest.
fn opened() -> (Carrier, Raw) {
    let pair = timeless_tracks(small(), small());
    let mut raw = Raw::new(pair.left);
    assert!(raw.say(&Greeting::honest(HELLO).bytes()));
    let carrier = block_on(MessageCarrier::open(pair.right, Role::Acceptor, config())).unwrap();
    assert_eq!(raw.hear().unwrap()[0], WELCOME);
    (carrier, raw)
}

/// What a carrier makes of these frames, and whether it closed the track.
fn told(frames: &[Vec<u8>]) -> Violation {
    let (mut carrier, mut raw) = opened();
    for bytes in frames {
        raw.say(bytes);
    }
    let error = loop {
        match carrier.try_recv() {
            Ok(Some(_)) => {}
            Err(TryError::Failed(error)) => break error,
            other => panic!("{other:?} to {frames:x?}"),
        }
    };
    assert_eq!(error.kind(), ErrorKind::Protocol, "{frames:x?}");
    assert!(raw.is_closed(), "{frames:x?}");
    // Errors stick, in both directions.
    assert_eq!(carrier.try_recv().unwrap_err(), TryError::Failed(error.clone()));
    assert_eq!(carrier.try_send(b"x").unwrap_err(), TryError::Failed(error.clone()));
    assert_eq!(block_on(carrier.send(b"x")).unwrap_err(), error);
    assert_eq!(block_on(carrier.finish()).unwrap_err(), error);
    assert_eq!(block_on(carrier.close()).unwrap_err(), error);
    assert!(carrier.track().is_none());
    match error {
        CarrierError::Protocol(violation) => violation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_field_of_a_frame_that_is_wrong_is_named() {
    let one = |bytes: Vec<u8>| told(&[bytes]);
    assert_eq!(one(vec![]), Violation::Short { len: 0, need: 8 });
    assert_eq!(one(vec![MESSAGE; 7]), Violation::Short { len: 7, need: 8 });
    assert_eq!(one(frame(77, 8, b"")), Violation::UnknownFrame(77));
    assert_eq!(one(vec![MESSAGE, 2, 0, 0, 8, 0, 0, 0]), Violation::UnknownFrame(0x0210));
    assert_eq!(one(vec![MESSAGE, 0, 1, 0, 8, 0, 0, 0]), Violation::UnknownFrame(0x0001_0010));
    assert_eq!(one(frame(MESSAGE, 7, b"")), Violation::CreditFell(1));
    // Welcome was one frame: eight receives, and the one that it took.
    assert_eq!(one(frame(MESSAGE, 10, b"")), Violation::CreditBeyondWindow { granted: 10, limit: 9 });
    assert_eq!(one(frame(CREDIT, 8, b"x")), Violation::Long { len: 9, max: 8 });
    assert_eq!(one(frame(FIN, 8, b"x")), Violation::Long { len: 9, max: 8 });
    assert_eq!(one(frame(BYE, 8, b"x")), Violation::Long { len: 9, max: 8 });
    assert_eq!(one(frame(FIRST, 8, &[0; 7])), Violation::Short { len: 15, need: 16 });
    assert_eq!(one(Greeting::honest(HELLO).bytes()), Violation::OutOfPlace(HELLO));
    assert_eq!(one(Greeting::honest(WELCOME).bytes()), Violation::OutOfPlace(WELCOME));
    assert_eq!(one(frame(REFUSE, 8, &[0; 15])), Violation::Short { len: 23, need: 24 });
}

/// What a carrier makes of messages without a header, from a peer that knows such or does not.
fn told_bare(optional: u64, say: impl FnOnce(&mut Raw)) -> (Vec<Vec<u8>>, Error) {
    let pair = timeless_tracks(small(), small());
    let mut raw = Raw::new(pair.left);
    assert!(raw.say(&Greeting { optional, ..Greeting::honest(HELLO) }.bytes()));
    let mut carrier = block_on(MessageCarrier::open(pair.right, Role::Acceptor, config())).unwrap();
    assert_eq!(carrier.eager_limit(), if optional == 0 { 248 } else { 256 });
    assert_eq!(raw.hear().unwrap()[0], WELCOME);
    say(&mut raw);
    let mut messages = Vec::new();
    loop {
        match carrier.try_recv() {
            Ok(Some(message)) => messages.push(message.to_vec()),
            Err(TryError::Failed(error)) => {
                assert!(raw.is_closed());
                return (messages, error);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_message_without_a_header_is_looked_at_like_any_other() {
    let violated = |say: fn(&mut Raw)| match told_bare(BARE, say) {
        (_, CarrierError::Protocol(violation)) => violation,
        other => panic!("{other:?}"),
    };
    assert_eq!(violated(|raw| assert!(raw.bare(7, b"x"))), Violation::CreditFell(1));
    assert_eq!(violated(|raw| assert!(raw.bare(10, b"x"))), Violation::CreditBeyondWindow { granted: 10, limit: 9 });
    let out_of_place = |before: fn(&mut Raw), violation: Violation| {
        let (_, error) = told_bare(BARE, |raw| {
            assert!(raw.frame(FIRST, &first(10, b"1234")));
            before(raw);
            raw.bare(8, b"x");
        });
        assert_eq!(error, CarrierError::Protocol(violation));
    };
    out_of_place(|_| (), Violation::Interleaved(MESSAGE));
    out_of_place(|raw| assert!(raw.frame(ABORT, b"") && raw.frame(FIN, b"")), Violation::AfterFin(MESSAGE));
    // Whoever knows of it may say it either way; what looks like a header is none.
    let (messages, _) = told_bare(BARE, |raw| {
        let full = raw.track.posted() as u32;
        assert!(raw.bare(full, b"") && raw.frame(MESSAGE, b"with one") && raw.bare(full, &frame(FIN, 8, b"")));
        assert!(raw.bare(full, &[9; 256]) && raw.say(&frame(77, full, b"")));
    });
    assert_eq!(messages, [vec![], b"with one".to_vec(), frame(FIN, 8, b""), vec![9; 256]]);
}

/// What is beside a frame means nothing to those that have not agreed on it.
#[test]
fn a_word_that_was_not_agreed_on_is_ignored() {
    let (messages, error) = told_bare(0, |raw| {
        assert!(raw.bare(0, &frame(MESSAGE, 8, b"framed")) && raw.bare(8, b"x"));
    });
    assert_eq!(messages, [b"framed"]);
    assert_eq!(error, CarrierError::Protocol(Violation::Short { len: 1, need: 8 }));
}

#[test]
fn each_way_to_mix_segments_up_is_named() {
    let begun = || frame(FIRST, 8, &first(10, b"1234"));
    let one = |bytes: Vec<u8>| told(&[bytes]);
    let after = |bytes: Vec<u8>| told(&[begun(), bytes]);
    let (over, max) = (MAX_MESSAGE as u64 + 1, MAX_MESSAGE as u64);
    assert_eq!(one(frame(FIRST, 8, &first(over, b"1"))), Violation::Oversize { len: over, max });
    assert_eq!(one(frame(FIRST, 8, &first(u64::MAX, b"1"))), Violation::Oversize { len: u64::MAX, max });
    assert_eq!(one(frame(FIRST, 8, &first(10, b""))), Violation::EmptySegment);
    assert_eq!(one(frame(FIRST, 8, &first(0, b""))), Violation::EmptySegment);
    assert_eq!(one(frame(FIRST, 8, &first(3, b"1234"))), Violation::Overrun { len: 4, left: 3 });
    assert_eq!(one(frame(MORE, 8, b"1")), Violation::NoMessage);
    assert_eq!(one(frame(ABORT, 8, b"")), Violation::NoMessage);
    assert_eq!(after(frame(MORE, 8, b"")), Violation::EmptySegment);
    assert_eq!(after(frame(MORE, 8, b"1234567")), Violation::Overrun { len: 7, left: 6 });
    assert_eq!(after(frame(MESSAGE, 8, b"")), Violation::Interleaved(MESSAGE));
    assert_eq!(after(begun()), Violation::Interleaved(FIRST));
    assert_eq!(after(frame(FIN, 8, b"")), Violation::Interleaved(FIN));
    assert_eq!(told(&[begun(), frame(ABORT, 8, b""), frame(MORE, 8, b"1")]), Violation::NoMessage);
}

/// A message that fits a frame may still be longer than this end was configured for.
#[test]
fn a_whole_message_above_the_limit_is_named() {
    let pair = timeless_tracks(small(), small());
    let mut raw = Raw::new(pair.left);
    raw.say(&Greeting::honest(HELLO).bytes());
    let config = MessageConfig::default().with_max_message(10);
    let mut carrier = block_on(MessageCarrier::open(pair.right, Role::Acceptor, config)).unwrap();
    assert_eq!((carrier.max_message(), carrier.eager_limit()), (10, 10));
    raw.frame(MESSAGE, &[0; 11]);
    let violation = Violation::Oversize { len: 11, max: 10 };
    assert_eq!(block_on(carrier.recv()).unwrap_err(), CarrierError::Protocol(violation));
}

#[test]
fn frames_after_the_end_are_named() {
    for end in [FIN, BYE] {
        for (kind, body) in [(MESSAGE, vec![]), (FIRST, first(10, b"1")), (ABORT, vec![]), (FIN, vec![])] {
            let (mut carrier, mut raw) = opened();
            raw.frame(end, b"");
            raw.frame(kind, &body);
            let error = block_on(carrier.recv()).unwrap_err();
            assert_eq!(error, CarrierError::Protocol(Violation::AfterFin(kind)));
            assert!(raw.is_closed());
        }
    }
}

/// Eight frames were granted. Receives that come back are posted again, and the device would take more; but they are not
/// granted before it is said.
#[test]
fn a_frame_without_credit_is_named() {
    let (mut carrier, mut raw) = opened();
    for _ in 0..9 {
        assert!(raw.frame(MESSAGE, b""));
    }
    let mut held = Vec::new();
    let error = loop {
        match carrier.try_recv() {
            // Two are let go at once.
            Ok(Some(message)) => held.push(Some(message).filter(|_| held.len() >= 2)),
            Err(TryError::Failed(error)) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((held.len(), error), (7, CarrierError::Protocol(Violation::BeyondCredit(8))));
}

#[test]
fn a_refusal_after_the_handshake_is_told_as_one() {
    let (mut carrier, mut raw) = opened();
    let mut body = [0; 16];
    body[0] = 5;
    body[8] = 8;
    raw.frame(REFUSE, &body);
    assert_eq!(block_on(carrier.recv()).unwrap_err(), CarrierError::Refused(Refusal::Window(8)));
    assert!(raw.is_closed());
}

/// What is wrong is found by whoever reads first: here, a send that waits for credits.
#[test]
fn a_send_that_waits_finds_the_violation_too() {
    let (mut carrier, mut raw) = opened();
    raw.frame(MESSAGE, b"before");
    raw.say(&frame(77, 8, b""));
    let error = block_on(carrier.send(&[0; 5000])).unwrap_err();
    assert_eq!(error, CarrierError::Protocol(Violation::UnknownFrame(77)));
    assert_eq!(&*block_on(carrier.recv()).unwrap().unwrap(), b"before", "what came before it is whole");
    assert_eq!(block_on(carrier.recv()).unwrap_err(), error);
    assert!(raw.is_closed());
}

/// A peer that gives no credits keeps a send waiting, and no more than that: a close has its deadline.
#[test]
fn a_peer_that_gives_no_credits_only_keeps_a_send_waiting() {
    let (mut carrier, _raw) = opened();
    let data = [0; 5000];
    let mut sending = carrier.send(&data);
    for _ in 0..100 {
        assert!(poll_once(&mut sending).is_pending());
    }
}

#[derive(Debug, Clone)]
enum Act {
    /// The peer sends bytes as they come.
    Bytes(Vec<u8>),
    /// A frame that looks right, with credits that are off by so many.
    Frame {
        kind: u8,
        off: i8,
        body: Vec<u8>,
    },
    /// An honest beginning of a long message.
    First {
        total: u64,
        len: usize,
    },
    Recv,
    TrySend,
    Send {
        len: usize,
        polls: usize,
    },
    Finish,
    /// The peer takes what was sent, so that its credits are honest.
    Take,
}

fn kinds() -> impl Strategy<Value = u8> {
    let known =
        prop::sample::select(vec![MESSAGE, MESSAGE, MORE, FIRST, ABORT, CREDIT, CREDIT, FIN, BYE, HELLO, REFUSE]);
    prop_oneof![20 => known, 1 => any::<u8>()]
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let body = prop::collection::vec(any::<u8>(), 0..240);
    let off = prop_oneof![30 => Just(0_i8), 1 => any::<i8>()];
    let total = prop_oneof![8 => 1..20_000_u64, 1 => any::<u64>()];
    let act = prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..256).prop_map(Act::Bytes),
        30 => (kinds(), off, body).prop_map(|(kind, off, body)| match kind {
            ABORT | CREDIT | FIN | BYE => Act::Frame { kind, off, body: Vec::new() },
            _ => Act::Frame { kind, off, body },
        }),
        10 => (total, 0..240_usize).prop_map(|(total, len)| Act::First { total, len }),
        20 => Just(Act::Recv),
        10 => Just(Act::TrySend),
        10 => (0..5000_usize, 0..4_usize).prop_map(|(len, polls)| Act::Send { len, polls }),
        1 => Just(Act::Finish),
        20 => Just(Act::Take),
    ];
    prop::collection::vec(act, 0..80)
}

fn act(carrier: &mut Carrier, raw: &mut Raw, act: Act) -> Option<Error> {
    match act {
        Act::Bytes(bytes) => drop(raw.say(&bytes)),
        Act::Frame { kind, off, body } => {
            let posted = trespass_core::RecvSide::posted(&raw.track) as u32;
            raw.say(&frame(kind, posted.wrapping_add_signed(off.into()), &body));
        }
        Act::First { total, len } => drop(raw.frame(FIRST, &first(total, &vec![1; len]))),
        Act::Recv => match carrier.try_recv() {
            Ok(Some(message)) => assert!(message.len() <= MAX_MESSAGE),
            Err(TryError::Failed(error)) => return Some(error),
            Ok(None) | Err(TryError::WouldBlock) => {}
        },
        Act::TrySend => return carrier.try_send(b"to a stranger").err().and_then(TryError::failed),
        Act::Send { len, polls } => {
            let data = vec![0; len];
            let mut sending = carrier.send(&data);
            for _ in 0..polls {
                if let std::task::Poll::Ready(outcome) = poll_once(&mut sending) {
                    return outcome.err();
                }
            }
        }
        Act::Finish => return poll_finish(carrier),
        Act::Take => drop(raw.is_closed()),
    }
    None
}

fn poll_finish(carrier: &mut Carrier) -> Option<Error> {
    match poll_once(&mut carrier.finish()) {
        std::task::Poll::Ready(outcome) => outcome.err(),
        std::task::Poll::Pending => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    /// Nothing that a peer does makes a carrier panic, hang or forget what went wrong first.
    #[test]
    fn no_conversation_does_harm(acts in acts()) {
        let (mut carrier, mut raw) = opened();
        for next in acts {
            match act(&mut carrier, &mut raw, next).map(|error| (error.kind(), error)) {
                None | Some((ErrorKind::Closed, _)) => {}
                Some((ErrorKind::Protocol | ErrorKind::Refused, error)) => {
                    prop_assert!(raw.is_closed(), "{:?}", error);
                    prop_assert_eq!(block_on(carrier.close()), Err(error));
                    return Ok(());
                }
                Some((_, error)) => prop_assert!(false, "{:?}", error),
            }
        }
        // All that came is there to be taken, and then the end.
        drop(raw);
        while let Ok(Some(_)) = carrier.try_recv() {}
        let outcome = carrier.try_recv();
        prop_assert!(matches!(outcome, Ok(None) | Err(TryError::Failed(_))), "{:?}", outcome);
    }

    /// Nor does any handshake, or what is left of one.
    #[test]
    fn no_handshake_does_harm(
        role in prop::bool::ANY,
        at in 0..72_usize,
        bytes in prop::collection::vec(any::<u8>(), 1..9),
        cut in prop::option::weighted(0.1, 0..72_usize),
    ) {
        let pair = timeless_tracks(small(), small());
        let mut raw = Raw::new(pair.left);
        let (role, kind) = if role { (Role::Acceptor, HELLO) } else { (Role::Connector, WELCOME) };
        let mut greeting = Greeting::honest(kind).bytes();
        for (place, byte) in greeting[at..].iter_mut().zip(bytes) {
            *place = byte;
        }
        greeting.truncate(cut.unwrap_or(usize::MAX));
        raw.say(&greeting);
        match block_on(MessageCarrier::open(pair.right, role, config())) {
            Ok(carrier) => prop_assert!(carrier.max_message() <= MAX_MESSAGE),
            Err(error) => {
                prop_assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Refused), "{:?}", error);
                prop_assert!(raw.is_closed());
            }
        }
    }
}

/// A peer that grants what it has not posted makes a close wait. Whatever else is called meanwhile meets a track that this end
/// itself is closing: that is no death of the peer's, and the close ends as it would have.
#[test]
fn a_close_under_way_is_not_taken_for_an_end_of_the_peer() {
    let pair = timeless_tracks(small().with_send_slots(32), small());
    let mut raw = Raw::new(pair.left);
    assert!(raw.say(&Greeting { window: 32, credits: 32, ..Greeting::honest(HELLO) }.bytes()));
    let mut carrier = block_on(MessageCarrier::open(pair.right, Role::Acceptor, config())).unwrap();
    let mut sent = 0;
    while carrier.try_send(b"more than it has room for").is_ok() {
        sent += 1;
    }
    assert!(poll_once(&mut carrier.finish()).is_ready());
    assert!(poll_once(&mut Box::pin(carrier.close())).is_pending());
    assert!(poll_once(&mut carrier.finish()).is_ready());
    assert_eq!(carrier.flush().unwrap_err(), CarrierError::Closed);
    assert_eq!(carrier.try_send(b"x").unwrap_err(), TryError::Failed(CarrierError::Closed));
    assert!(
        carrier
            .try_recv()
            .is_err_and(|error| matches!(error, TryError::WouldBlock | TryError::Failed(CarrierError::Closed)))
    );
    // The Welcome, and what was sent; then the goodbyes.
    for _ in 0..=sent {
        assert!(raw.hear().is_ok());
    }
    assert_eq!(raw.hear().unwrap()[0], FIN);
    assert_eq!(raw.hear().unwrap()[0], BYE);
    assert_eq!(block_on(carrier.close()), Ok(()));
}
