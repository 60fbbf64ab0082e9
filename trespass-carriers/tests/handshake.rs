//! The handshake (K1): in band and first; whoever does not suit is refused, and both ends know why.

mod support;

use futures_executor::block_on;
use support::raw::{Greeting, HELLO, MESSAGE, REFUSE, Raw, WELCOME, frame};
use support::{Error, both, small, tracks};
use trespass_carriers::{CarrierError, ConfigFault, MessageCarrier, MessageConfig, Phase, Refusal, Violation};
use trespass_core::{ErrorKind, Role, TransportError};
use trespass_mock::MockConfig;

/// What an acceptor says to a Hello, on the wire and to its own application.
fn greeted(hello: &Greeting) -> (Vec<u8>, Result<support::Carrier, Error>) {
    let pair = tracks(small(), small());
    let mut raw = Raw::new(pair.left);
    raw.say(&hello.bytes());
    let outcome = block_on(MessageCarrier::open(pair.right, Role::Acceptor, MessageConfig::default()));
    let answer = raw.hear().unwrap();
    if outcome.is_err() {
        assert!(raw.is_closed());
    }
    (answer, outcome)
}

/// What a connector makes of an answer, and what it says after it.
fn answered(bytes: &[u8]) -> (Option<Vec<u8>>, Result<support::Carrier, Error>) {
    let pair = tracks(small(), small());
    let mut raw = Raw::new(pair.right);
    raw.say(bytes);
    let outcome = block_on(MessageCarrier::open(pair.left, Role::Connector, MessageConfig::default()));
    assert_eq!(raw.hear().unwrap()[0], HELLO);
    match outcome {
        Ok(_) => (None, outcome),
        Err(_) => (raw.hear().ok(), outcome),
    }
}

fn refusal(code: u8, value: u64) -> Vec<u8> {
    let mut bytes = vec![code, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(value.to_le_bytes());
    bytes
}

#[test]
fn an_acceptor_welcomes_what_suits_and_says_its_own_sizes() {
    let (answer, outcome) = greeted(&Greeting::honest(HELLO));
    let carrier = outcome.unwrap();
    assert_eq!((answer[0], answer.len(), &answer[8..16]), (WELCOME, 72, b"trespass".as_slice()));
    assert_eq!((carrier.max_message(), carrier.eager_limit()), (1 << 20, 248));
    assert_eq!(carrier.peer_incarnation(), 0x5a5a_5a5a_5a5a_5a5a);
}

#[test]
fn a_later_version_may_say_more() {
    let newer =
        Greeting { length: 80, tail: vec![0xee; 16], versions: [1, 9], optional: u64::MAX, ..Greeting::honest(HELLO) };
    let (answer, outcome) = greeted(&newer);
    outcome.unwrap();
    assert_eq!(answer[16..20], [1, 0, 1, 0], "the version that both speak");
}

#[test]
fn an_acceptor_refuses_each_thing_that_will_not_do_and_says_which() {
    let honest = || Greeting::honest(HELLO);
    let cases = [
        (Greeting { versions: [2, 3], ..honest() }, Refusal::Version { min: 1, max: 1 }, refusal(2, 0x1_0001)),
        (Greeting { versions: [0, 0], ..honest() }, Refusal::Version { min: 1, max: 1 }, refusal(2, 0x1_0001)),
        (Greeting { carrier: 2, ..honest() }, Refusal::Kind(1), refusal(3, 1)),
        (Greeting { required: 1 << 40, ..honest() }, Refusal::Features(1 << 40), refusal(4, 1 << 40)),
        (Greeting { window: 7, credits: 7, ..honest() }, Refusal::Window(7), refusal(5, 7)),
        (Greeting { window: u32::MAX, ..honest() }, Refusal::Window(u32::MAX), refusal(5, u32::MAX.into())),
        (Greeting { max_frame: 127, eager_limit: 119, ..honest() }, Refusal::FrameSize(127), refusal(6, 127)),
    ];
    for (hello, reason, said) in cases {
        let (answer, outcome) = greeted(&hello);
        assert_eq!((answer[0], &answer[8..]), (REFUSE, &said[..]), "{reason:?}");
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error), (ErrorKind::Refused, CarrierError::Incompatible(reason)));
    }
}

#[test]
fn an_acceptor_names_each_field_that_is_nonsense() {
    let honest = || Greeting::honest(HELLO);
    let cases = [
        (Greeting { magic: *b"tresPass", ..honest() }, Violation::Magic),
        (Greeting { length: 63, ..honest() }, Violation::HandshakeLength { says: 63, has: 64 }),
        (Greeting { length: 65, ..honest() }, Violation::HandshakeLength { says: 65, has: 64 }),
        (Greeting { versions: [3, 2], ..honest() }, Violation::Versions { min: 3, max: 2 }),
        (Greeting { eager_limit: 249, ..honest() }, Violation::Sizes),
        (Greeting { max_message: 0, eager_limit: 0, ..honest() }, Violation::Sizes),
        (Greeting { max_message: 100, ..honest() }, Violation::Sizes),
        (Greeting { credits: 9, ..honest() }, Violation::CreditBeyondWindow { granted: 9, limit: 8 }),
        (Greeting { kind: WELCOME, ..honest() }, Violation::OutOfPlace(WELCOME)),
        (Greeting { kind: MESSAGE, ..honest() }, Violation::OutOfPlace(MESSAGE)),
        (Greeting { kind: 200, ..honest() }, Violation::UnknownFrame(200)),
    ];
    for (hello, violation) in cases {
        let (answer, outcome) = greeted(&hello);
        assert_eq!((answer[0], &answer[8..]), (REFUSE, &refusal(1, 0)[..]), "{violation:?}");
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error), (ErrorKind::Protocol, CarrierError::Protocol(violation)));
    }
}

#[test]
fn a_connector_is_told_why_it_was_refused() {
    for (said, reason) in [
        (refusal(1, 0), Refusal::Malformed),
        (refusal(2, 0x5_0003), Refusal::Version { min: 3, max: 5 }),
        (refusal(3, 2), Refusal::Kind(2)),
        (refusal(4, 8), Refusal::Features(8)),
        (refusal(5, 8), Refusal::Window(8)),
        (refusal(6, 256), Refusal::FrameSize(256)),
        (refusal(99, 5), Refusal::Unknown { code: 99, value: 5 }),
    ] {
        let (after, outcome) = answered(&frame(REFUSE, 8, &said));
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error), (ErrorKind::Refused, CarrierError::Refused(reason)));
        assert!(after.is_none());
    }
}

#[test]
fn a_connector_refuses_a_welcome_that_will_not_do_and_says_why() {
    for (welcome, reason, said) in [
        (
            Greeting { versions: [2, 2], ..Greeting::honest(WELCOME) },
            Refusal::Version { min: 1, max: 1 },
            refusal(2, 0x1_0001),
        ),
        (Greeting { window: 3, credits: 3, ..Greeting::honest(WELCOME) }, Refusal::Window(3), refusal(5, 3)),
    ] {
        let (after, outcome) = answered(&welcome.bytes());
        assert_eq!(outcome.unwrap_err(), CarrierError::Incompatible(reason));
        assert_eq!(after.unwrap()[8..], said);
    }
}

#[test]
fn a_connector_names_an_answer_that_is_nonsense() {
    let violated = |bytes: &[u8]| match answered(bytes).1.unwrap_err() {
        CarrierError::Protocol(violation) => violation,
        other => panic!("{other:?}"),
    };
    assert_eq!(violated(&Greeting::honest(HELLO).bytes()), Violation::OutOfPlace(HELLO));
    assert_eq!(violated(&frame(MESSAGE, 8, b"hi")), Violation::OutOfPlace(MESSAGE));
    assert_eq!(violated(b""), Violation::Short { len: 0, need: 8 });
    assert_eq!(violated(&Greeting { magic: [0; 8], ..Greeting::honest(WELCOME) }.bytes()), Violation::Magic);
    // The Hello is one frame more than the window.
    let beyond = Greeting { credits: 10, ..Greeting::honest(WELCOME) };
    assert_eq!(violated(&beyond.bytes()), Violation::CreditBeyondWindow { granted: 10, limit: 9 });
}

#[test]
fn ends_of_different_sizes_agree_on_the_smaller() {
    let large = MockConfig::default().with_max_message(4096).with_recv_slots(100).with_send_slots(50);
    let pair = tracks(small(), large);
    let configs =
        [MessageConfig::default().with_max_message(50_000), MessageConfig::default().with_max_message(70_000)];
    let [left, right] = configs;
    let (left, right) = both(
        MessageCarrier::open(pair.left, Role::Connector, left),
        MessageCarrier::open(pair.right, Role::Acceptor, right),
    );
    let (mut left, mut right) = (left.unwrap(), right.unwrap());
    for carrier in [&left, &right] {
        assert_eq!((carrier.max_message(), carrier.eager_limit()), (50_000, 256));
    }
    assert_eq!(left.peer_incarnation(), right.peer_incarnation(), "both are this process");
    let data = support::pattern(1, 50_000);
    for _ in 0..3 {
        let (sent, received) = both(left.send(&data), right.recv());
        sent.unwrap();
        assert!(*received.unwrap().unwrap() == data);
        let (sent, received) = both(right.send(&data), left.recv());
        sent.unwrap();
        assert!(*received.unwrap().unwrap() == data);
    }
}

/// What is configured wrongly is refused before anything is said.
#[test]
fn a_configuration_that_cannot_be_is_named() {
    let ok = MessageConfig::default;
    let zero = std::time::Duration::ZERO;
    let cases = [
        (small().with_recv_slots(7), ok(), ConfigFault::RecvSlots { have: 7, need: 8, most: 1 << 24 }),
        (small().with_send_slots(3), ok(), ConfigFault::SendSlots { have: 3, need: 4 }),
        (small().with_max_message(127), ok(), ConfigFault::FrameSize { have: 127, need: 128 }),
        (small(), ok().with_max_message(0), ConfigFault::MaxMessage(0)),
        (small(), ok().with_max_message(usize::MAX), ConfigFault::MaxMessage(usize::MAX)),
        (small(), ok().with_open_timeout(zero), ConfigFault::Timeout(Phase::Open)),
        (small(), ok().with_close_timeout(zero), ConfigFault::Timeout(Phase::Close)),
    ];
    for (track, config, fault) in cases {
        let pair = tracks(track.clone(), track);
        let error = block_on(MessageCarrier::open(pair.left, Role::Connector, config)).unwrap_err();
        assert_eq!((error.kind(), error), (ErrorKind::Config, CarrierError::Config(fault)));
        assert!(Raw::new(pair.right).is_closed());
    }
}

#[test]
fn the_smallest_sizes_work() {
    let least = small().with_recv_slots(8).with_send_slots(4).with_max_message(128);
    let mut pair = support::carriers(least, MessageConfig::default());
    for at in 0..100 {
        let data = support::pattern(at, at * 13);
        let (sent, received) = both(pair.left.send(&data), pair.right.recv());
        sent.unwrap();
        assert!(*received.unwrap().unwrap() == data);
    }
    assert_eq!(pair.rnr(), 0);
}
