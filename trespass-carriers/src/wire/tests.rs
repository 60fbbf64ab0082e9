use proptest::prelude::*;

use super::*;

fn frame(kind: Kind, posted: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    stamp(&mut bytes, kind, posted);
    bytes.extend_from_slice(body);
    bytes
}

fn offer() -> Offer {
    Offer { incarnation: 0x1122_3344_5566_7788, ..Offer::new(64, 4096, 1 << 20) }
}

/// What is on the wire may not change: old peers are out there.
#[test]
fn the_bytes_of_a_hello() {
    let bytes = frame(Kind::Hello, 0x5_0000_0040, &offer().encode());
    #[rustfmt::skip]
    let golden = [
        1, 0, 0, 0, 0x40, 0, 0, 0,
        b't', b'r', b'e', b's', b'p', b'a', b's', b's',
        1, 0, 1, 0, 64, 0, 1, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        64, 0, 0, 0, 0, 0x10, 0, 0,
        0, 0, 0x10, 0, 0, 0, 0, 0,
        0xf8, 0x0f, 0, 0, 0, 0, 0, 0,
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
    ];
    assert_eq!(bytes, golden);
}

#[test]
fn the_bytes_of_the_rest() {
    assert_eq!(frame(Kind::Message, 0x0403_0201, b"hi"), [16, 0, 0, 0, 1, 2, 3, 4, b'h', b'i']);
    let mut first = frame(Kind::First, 7, &[0; 9]);
    stamp_total(&mut first, 300);
    assert_eq!(first, [17, 0, 0, 0, 7, 0, 0, 0, 44, 1, 0, 0, 0, 0, 0, 0, 0]);
    let codes = [Kind::More, Kind::Abort, Kind::Credit, Kind::Fin, Kind::Bye, Kind::Welcome, Kind::Refuse];
    assert_eq!(codes.map(Kind::code), [18, 19, 32, 33, 34, 2, 3]);
    let refusal = encode_refusal(Refusal::Version { min: 3, max: 5 });
    assert_eq!(refusal, [2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 5, 0, 0, 0, 0, 0]);
}

#[test]
fn frames_are_parsed() {
    assert_eq!(Frame::parse(&frame(Kind::Message, 9, b"abc")), Ok((Frame::Message { len: 3 }, 9)));
    let mut first = frame(Kind::First, 9, &[0; 10]);
    stamp_total(&mut first, u64::MAX);
    assert_eq!(Frame::parse(&first), Ok((Frame::First { total: u64::MAX, len: 2 }, 9)));
    for (kind, parsed) in [
        (Kind::More, Frame::More { len: 0 }),
        (Kind::Abort, Frame::Abort),
        (Kind::Credit, Frame::Credit),
        (Kind::Fin, Frame::Fin),
        (Kind::Bye, Frame::Bye),
    ] {
        assert_eq!(Frame::parse(&frame(kind, 1, b"")), Ok((parsed, 1)));
        assert_eq!(parsed.kind(), kind);
    }
}

#[test]
fn each_thing_that_is_wrong_with_a_frame_is_named() {
    let wrong = |bytes: &[u8]| Frame::parse(bytes).unwrap_err();
    assert_eq!(wrong(b""), Violation::Short { len: 0, need: 8 });
    assert_eq!(wrong(&[16, 0, 0, 0, 0, 0, 0]), Violation::Short { len: 7, need: 8 });
    assert_eq!(wrong(&[99, 0, 0, 0, 0, 0, 0, 0]), Violation::UnknownFrame(99));
    assert_eq!(wrong(&[0, 0, 0, 0, 0, 0, 0, 0]), Violation::UnknownFrame(0));
    // A flag; a reserved bit.
    assert_eq!(wrong(&[16, 1, 0, 0, 0, 0, 0, 0]), Violation::UnknownFrame(0x110));
    assert_eq!(wrong(&[16, 0, 0, 0x80, 0, 0, 0, 0]), Violation::UnknownFrame(0x8000_0010));
    assert_eq!(wrong(&frame(Kind::First, 0, &[0; 7])), Violation::Short { len: 15, need: 16 });
    assert_eq!(wrong(&frame(Kind::Hello, 0, &offer().encode())), Violation::OutOfPlace(1));
    assert_eq!(wrong(&frame(Kind::Refuse, 0, &[0; 15])), Violation::Short { len: 23, need: 24 });
    for kind in [Kind::Abort, Kind::Credit, Kind::Fin, Kind::Bye] {
        assert_eq!(wrong(&frame(kind, 0, b"x")), Violation::Long { len: 9, max: 8 });
    }
}

#[test]
fn each_thing_that_is_wrong_with_a_greeting_is_named() {
    let wrong = |bytes: &[u8]| Greeting::parse(bytes).unwrap_err();
    let hello = |offer: Offer| frame(Kind::Hello, 0, &offer.encode());
    assert_eq!(wrong(&frame(Kind::Message, 0, b"")), Violation::OutOfPlace(16));
    assert_eq!(wrong(&frame(Kind::Hello, 0, b"trespas")), Violation::Magic);
    assert_eq!(wrong(&frame(Kind::Hello, 0, &[0; 64])), Violation::Magic);
    assert_eq!(wrong(&hello(offer())[..71]), Violation::Short { len: 71, need: 72 });
    let mut longer = hello(offer());
    longer.push(0);
    assert_eq!(wrong(&longer), Violation::HandshakeLength { says: 64, has: 65 });
    let versions = Violation::Versions { min: 2, max: 1 };
    assert_eq!(wrong(&hello(Offer { min_version: 2, max_version: 1, ..offer() })), versions);
    assert_eq!(wrong(&hello(Offer { eager_limit: 4089, ..offer() })), Violation::Sizes);
    assert_eq!(wrong(&hello(Offer { max_message: 4087, ..offer() })), Violation::Sizes);
    assert_eq!(wrong(&hello(Offer { eager_limit: 0, max_message: 0, ..offer() })), Violation::Sizes);
    assert_eq!(wrong(&hello(Offer { max_frame: 7, ..offer() })), Violation::Sizes);
}

/// A later version may say more, at the end.
#[test]
fn a_longer_greeting_is_understood() {
    let mut longer = frame(Kind::Hello, 5, &offer().encode());
    longer.extend_from_slice(&[0xee; 20]);
    longer[HEADER + 12] = 84;
    assert_eq!(Greeting::parse(&longer), Ok((Greeting::Hello(offer()), 5)));
    let mut refusal = frame(Kind::Refuse, 5, &encode_refusal(Refusal::Malformed));
    refusal.extend_from_slice(&[0xee; 20]);
    assert_eq!(Greeting::parse(&refusal), Ok((Greeting::Refuse(Refusal::Malformed), 5)));
}

fn any_offer() -> impl Strategy<Value = Offer> {
    let versions = (any::<u16>(), any::<u16>()).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let sizes = (8..=u32::MAX, 1..=u64::MAX, any::<u32>());
    (versions, any::<u16>(), any::<[u64; 3]>(), any::<u32>(), sizes).prop_map(
        |((min_version, max_version), carrier, words, window, (max_frame, max_message, eager))| Offer {
            idle_millis: window.rotate_left(7),
            min_version,
            max_version,
            carrier,
            required: words[0],
            optional: words[1],
            window,
            max_frame,
            max_message,
            eager_limit: u64::from(eager).min(max_message).min(u64::from(max_frame - 8)) as u32,
            incarnation: words[2],
        },
    )
}

fn any_refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        Just(Refusal::Malformed),
        any::<(u16, u16)>().prop_map(|(min, max)| Refusal::Version { min, max }),
        any::<u16>().prop_map(Refusal::Kind),
        any::<u64>().prop_map(Refusal::Features),
        any::<u32>().prop_map(Refusal::Window),
        any::<u32>().prop_map(Refusal::FrameSize),
        (7..=u16::MAX, any::<u64>()).prop_map(|(code, value)| Refusal::Unknown { code, value }),
    ]
}

proptest! {
    #[test]
    fn offers_go_there_and_back(offer in any_offer(), posted in any::<u32>()) {
        let bytes = frame(Kind::Welcome, u64::from(posted), &offer.encode());
        prop_assert_eq!(Greeting::parse(&bytes), Ok((Greeting::Welcome(offer), posted)));
    }

    #[test]
    fn refusals_go_there_and_back(refusal in any_refusal()) {
        let bytes = frame(Kind::Refuse, 0, &encode_refusal(refusal));
        prop_assert_eq!(Greeting::parse(&bytes), Ok((Greeting::Refuse(refusal), 0)));
        prop_assert_eq!(Frame::parse(&bytes), Ok((Frame::Refuse(refusal), 0)));
    }

    /// Whatever a parsed refusal says, saying it again says the same.
    #[test]
    fn refusals_come_back_from_any_bytes(body in any::<[u8; REFUSAL_LEN]>()) {
        if let Ok(refusal) = parse_refusal(&body) {
            prop_assert_eq!(parse_refusal(&encode_refusal(refusal)), Ok(refusal));
        }
    }

    #[test]
    fn the_short_way_to_a_message_finds_the_same(bytes in prop::collection::vec(any::<u8>(), 0..20), kind in 15..18_u8) {
        for bytes in [bytes.clone(), [vec![kind, 0, 0, 0], bytes].concat()] {
            let short = Frame::whole_message(&bytes).map(|(len, credits)| (Frame::Message { len }, credits));
            let parsed = Frame::parse(&bytes).ok().filter(|(frame, _)| matches!(frame, Frame::Message { .. }));
            prop_assert_eq!(short, parsed);
        }
    }

    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..40_u8) {
        let _ = Frame::parse(&bytes);
        let _ = Greeting::parse(&bytes);
        let mut likely = vec![kind, 0, 0, 0];
        likely.extend_from_slice(&bytes);
        let _ = Frame::parse(&likely);
        let _ = Greeting::parse(&likely);
    }

    #[test]
    fn no_bytes_behind_the_magic_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = Greeting::parse(&frame(Kind::Hello, 0, &[b"trespass".as_slice(), &bytes].concat()));
    }
}
