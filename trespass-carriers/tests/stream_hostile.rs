//! Whatever bytes, lengths, credits or handshakes a peer sends a stream: a typed error and a closed track (K6).

#[path = "support/streams.rs"]
mod streams;
mod support;

use std::pin::pin;
use std::task::Poll;

use futures_executor::block_on;
use proptest::prelude::*;
use streams::{BYTES, Stream, honest, opened, read_all};
use support::raw::{ABORT, BYE, CREDIT, FIN, FIRST, Greeting, HELLO, MESSAGE, MORE, REFUSE, Raw, WELCOME, frame};
use support::{Error, poll_once, small, timeless_tracks};
use trespass_carriers::{CarrierError, Refusal, StreamCarrier, StreamConfig, Violation};
use trespass_core::{ErrorKind, RecvSide, Role, TransportError, TryError};

/// What a stream makes of these frames, after so many bytes.
fn told(frames: &[Vec<u8>]) -> (Vec<u8>, Violation) {
    let (mut stream, mut raw) = opened(StreamConfig::default());
    for bytes in frames {
        raw.say(bytes);
    }
    let (read, end) = block_on(read_all(&mut stream));
    let error = end.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{frames:x?}");
    assert!(raw.is_closed(), "{frames:x?}");
    // Errors stick, in both directions.
    assert_eq!(stream.try_fill().unwrap_err(), TryError::Failed(error.clone()));
    assert_eq!(stream.try_put(b"x").unwrap_err(), TryError::Failed(error.clone()));
    assert_eq!(block_on(stream.finish()).unwrap_err(), error);
    assert_eq!(block_on(stream.close()).unwrap_err(), error);
    assert!(stream.track().is_none());
    match error {
        CarrierError::Protocol(violation) => (read, violation),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_field_of_a_frame_that_is_wrong_is_named_after_the_bytes_before_it() {
    let one = |bytes: Vec<u8>| {
        let (read, violation) = told(&[frame(BYTES, 8, b"before"), bytes]);
        assert_eq!(read, b"before");
        violation
    };
    assert_eq!(one(vec![]), Violation::Short { len: 0, need: 8 });
    assert_eq!(one(vec![BYTES; 7]), Violation::Short { len: 7, need: 8 });
    assert_eq!(one(frame(77, 8, b"")), Violation::UnknownFrame(77));
    assert_eq!(one(vec![BYTES, 2, 0, 0, 8, 0, 0, 0, 1]), Violation::UnknownFrame(0x0240));
    assert_eq!(one(frame(BYTES, 8, b"")), Violation::EmptySegment);
    assert_eq!(one(frame(BYTES, 7, b"x")), Violation::CreditFell(1));
    // Welcome was one frame: eight receives, and the one that it took.
    assert_eq!(one(frame(BYTES, 10, b"x")), Violation::CreditBeyondWindow { granted: 10, limit: 9 });
    for kind in [CREDIT, FIN, BYE] {
        assert_eq!(one(frame(kind, 8, b"x")), Violation::Long { len: 9, max: 8 });
    }
    for kind in [MESSAGE, FIRST, MORE, ABORT, HELLO, WELCOME] {
        assert_eq!(one(frame(kind, 8, &[0; 16])), Violation::OutOfPlace(kind));
    }
    assert_eq!(one(frame(REFUSE, 8, &[0; 15])), Violation::Short { len: 23, need: 24 });
}

#[test]
fn frames_after_the_end_are_named() {
    for (end, kind, body) in [(FIN, BYTES, &b"x"[..]), (FIN, FIN, b""), (BYE, BYTES, b"x"), (BYE, BYE, b"")] {
        let (mut stream, mut raw) = opened(StreamConfig::default());
        raw.frame(end, b"");
        raw.frame(kind, body);
        // The reader has its end of file, and looks no further. Whoever writes, does.
        assert_eq!(block_on(read_all(&mut stream)), (vec![], Ok(())));
        if end == FIN {
            let outcome = block_on(async {
                loop {
                    if let Err(error) = stream.put(&[0; 300]).await {
                        break error;
                    }
                }
            });
            assert_eq!(outcome, CarrierError::Protocol(Violation::AfterFin(kind)));
            assert!(raw.is_closed());
            assert_eq!(block_on(read_all(&mut stream)), (vec![], Ok(())), "the end was clean");
        }
    }
}

#[test]
fn a_frame_without_credit_is_named() {
    let (mut stream, mut raw) = opened(StreamConfig::default());
    for _ in 0..9 {
        assert!(raw.frame(BYTES, b"x"));
    }
    // A writer takes all that there is, before it could grant more.
    while stream.try_put(&[0; 256]).is_ok() {}
    let (read, end) = block_on(read_all(&mut stream));
    assert_eq!(end, Err(CarrierError::Protocol(Violation::BeyondCredit(8))));
    assert_eq!(read, [b'x'; 7]);
}

#[test]
fn a_refusal_after_the_handshake_is_told_as_one() {
    let (mut stream, mut raw) = opened(StreamConfig::default());
    let mut body = [0; 16];
    body[0] = 5;
    body[8] = 8;
    raw.frame(REFUSE, &body);
    assert_eq!(block_on(stream.fill()).unwrap_err(), CarrierError::Refused(Refusal::Window(8)));
    assert!(raw.is_closed());
}

#[derive(Debug, Clone)]
enum Act {
    /// The peer sends bytes as they come.
    Raw(Vec<u8>),
    /// A frame that looks right, with credits that are off by so many.
    Frame {
        kind: u8,
        off: i8,
        body: Vec<u8>,
    },
    Fill {
        consume: usize,
    },
    Put {
        len: usize,
        polls: usize,
    },
    Push,
    Finish,
    /// The peer takes what was sent, so that its credits are honest.
    Take,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let known = prop::sample::select(vec![BYTES, BYTES, BYTES, CREDIT, CREDIT, FIN, BYE, MESSAGE, HELLO, REFUSE]);
    let kinds = prop_oneof![20 => known, 1 => any::<u8>()];
    let off = prop_oneof![30 => Just(0_i8), 1 => any::<i8>()];
    let body = prop::collection::vec(any::<u8>(), 0..240);
    let act = prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..256).prop_map(Act::Raw),
        30 => (kinds, off, body).prop_map(|(kind, off, body)| match kind {
            CREDIT | FIN | BYE => Act::Frame { kind, off, body: Vec::new() },
            _ => Act::Frame { kind, off, body },
        }),
        20 => (0..300_usize).prop_map(|consume| Act::Fill { consume }),
        20 => (0..2000_usize, 0..4_usize).prop_map(|(len, polls)| Act::Put { len, polls }),
        5 => Just(Act::Push),
        1 => Just(Act::Finish),
        20 => Just(Act::Take),
    ];
    prop::collection::vec(act, 0..80)
}

fn act(stream: &mut Stream, raw: &mut Raw, act: Act) -> Option<Error> {
    let failed = |polled: Poll<Result<(), Error>>| match polled {
        Poll::Ready(outcome) => outcome.err(),
        Poll::Pending => None,
    };
    match act {
        Act::Raw(bytes) => drop(raw.say(&bytes)),
        Act::Frame { kind, off, body } => {
            let posted = raw.track.posted() as u32;
            raw.say(&frame(kind, posted.wrapping_add_signed(off.into()), &body));
        }
        Act::Fill { consume } => match stream.try_fill() {
            Err(TryError::Failed(error)) => return Some(error),
            _ => stream.consume(consume),
        },
        Act::Put { len, polls } => {
            let data = vec![0; len];
            for _ in 0..polls {
                if let Some(error) = failed(poll_once(&mut pin!(stream.put(&data))).map_ok(drop)) {
                    return Some(error);
                }
            }
        }
        Act::Push => return failed(stream.poll_push(&mut std::task::Context::from_waker(std::task::Waker::noop()))),
        Act::Finish => return failed(poll_once(&mut pin!(stream.finish()))),
        Act::Take => drop(raw.is_closed()),
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    /// Nothing that a peer does makes a stream panic, hang or forget what went wrong first.
    #[test]
    fn no_conversation_does_harm(acts in acts(), coalesce: bool) {
        let (mut stream, mut raw) = opened(StreamConfig::default().with_coalesce(coalesce));
        for next in acts {
            match act(&mut stream, &mut raw, next).map(|error| (error.kind(), error)) {
                None | Some((ErrorKind::Closed, _)) => {}
                Some((ErrorKind::Protocol | ErrorKind::Refused, error)) => {
                    prop_assert!(raw.is_closed(), "{:?}", error);
                    prop_assert!(stream.track().is_none());
                    return Ok(());
                }
                Some((_, error)) => prop_assert!(false, "{:?}", error),
            }
        }
        // All that came is there to be taken, and then the end.
        drop(raw);
        let (_, end) = block_on(read_all(&mut stream));
        prop_assert_eq!(block_on(read_all(&mut stream)), (vec![], end));
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
        let mut greeting = honest(kind).bytes();
        for (place, byte) in greeting[at..].iter_mut().zip(bytes) {
            *place = byte;
        }
        greeting.truncate(cut.unwrap_or(usize::MAX));
        raw.say(&greeting);
        if let Err(error) = block_on(StreamCarrier::open(pair.right, role, StreamConfig::default())) {
            prop_assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Refused), "{:?}", error);
            prop_assert!(raw.is_closed());
        }
    }
}

/// What a peer says of messages is of no interest to a stream: frames are what it fills.
#[test]
fn a_peer_that_takes_no_message_in_a_frame_gets_bytes_in_frames() {
    let pair = timeless_tracks(small(), small());
    let mut raw = Raw::new(pair.left);
    raw.say(&Greeting { eager_limit: 0, max_message: 1, ..honest(HELLO) }.bytes());
    let mut stream = block_on(StreamCarrier::open(pair.right, Role::Acceptor, StreamConfig::default())).unwrap();
    assert_eq!(raw.hear().unwrap()[0], WELCOME);
    assert_eq!(stream.try_put(&[7; 300]).unwrap(), 300);
    assert_eq!(raw.hear().unwrap().len(), 256);
    assert_eq!(raw.hear().unwrap().len(), 60);
}
