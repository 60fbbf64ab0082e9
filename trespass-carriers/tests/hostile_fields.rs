//! A peer that gets every field of every frame wrong, one after the other: cut off, too long, zero, one less, one more, the most
//! there can be. Each is refused by a typed error and a closed track, in bounded memory, or it is one that may be said; then
//! the conversation goes on.

#[path = "support/fields.rs"]
mod fields;
mod support;

use std::panic::catch_unwind;

use allocation_counter::measure;
use fields::{
    Fate, Field, assert_complete, assert_documented, documented_kinds, documented_places, field, header, refusal,
    refuse_body,
};
use futures_executor::block_on;
use support::raw::{
    ABORT, BYE, CREDIT, FIN, FIRST, Greeting, HELLO, MESSAGE, MORE, REFUSE, Raw, WELCOME, first, frame,
};
use support::{Carrier, Error, small, timeless_tracks};
use trespass_carriers::{MessageCarrier, MessageConfig};
use trespass_core::{ErrorKind, Role, TransportError, TryError};

const MAX_MESSAGE: usize = 10_000;

/// What a carrier may take for what one frame says, whatever that is: a message of the longest sort in assembly, and some.
const MOST_MEMORY: u64 = 2 * MAX_MESSAGE as u64 + (64 << 10);

fn config() -> MessageConfig {
    MessageConfig::default().with_max_message(MAX_MESSAGE).with_spill_limit(4096)
}

/// The credits: eight were granted, and with what was taken it may be one more.
fn credits() -> Field {
    field("credits", 4, 4, |value| value == 8 || value == 9)
}

/// The total of a First that has four bytes.
fn total() -> Field {
    field("total", 8, 8, |value| (4..=MAX_MESSAGE as u64).contains(&value))
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

/// What a carrier makes of `frames`. Whatever it is: no panic, no more memory than is bounded, and a failure closes the track
/// and sticks.
fn fate(frames: &[Vec<u8>]) -> (Fate, Option<Error>) {
    let mut ended = None;
    let used = measure(|| {
        let (mut carrier, mut raw) = opened();
        for bytes in frames {
            raw.say(bytes);
        }
        loop {
            match carrier.try_recv() {
                Ok(Some(message)) => assert!(message.len() <= MAX_MESSAGE),
                Ok(None) | Err(TryError::WouldBlock) => break,
                Err(TryError::Failed(error)) => {
                    assert!(raw.is_closed(), "{error:?} and an open track, after {frames:x?}");
                    assert_eq!(carrier.try_send(b"x").unwrap_err(), TryError::Failed(error.clone()));
                    assert_eq!(block_on(carrier.close()).unwrap_err(), error);
                    ended = Some(error);
                    break;
                }
            }
        }
    });
    assert!(used.bytes_max < MOST_MEMORY, "{} bytes, after {frames:x?}", used.bytes_max);
    let fate = match ended.as_ref().map(TransportError::kind) {
        None => Fate::Lives,
        Some(ErrorKind::Refused) => Fate::Refused,
        Some(kind) => {
            assert_eq!(kind, ErrorKind::Protocol, "after {frames:x?}");
            Fate::Nonsense
        }
    };
    (fate, ended)
}

/// That this becomes of `frames`.
fn expect(what: &str, frames: &[Vec<u8>], expected: Fate) {
    let (fate, error) = fate(frames);
    assert_eq!(fate, expected, "{what}: {error:?}");
}

fn lives_if(may: bool) -> Fate {
    if may { Fate::Lives } else { Fate::Nonsense }
}

/// Every frame of a conversation, with what has to come before it, and the fields that it has beyond the header.
#[allow(clippy::type_complexity, reason = "a table")]
fn frames() -> Vec<(&'static str, Vec<Vec<u8>>, Vec<u8>, Vec<Field>)> {
    let begun = || vec![frame(FIRST, 8, &first(10, b"1234"))];
    vec![
        ("Message", vec![], frame(MESSAGE, 8, b"1234"), vec![]),
        ("First", vec![], frame(FIRST, 8, &first(10, b"1234")), vec![total()]),
        ("More", begun(), frame(MORE, 8, b"56"), vec![]),
        ("Abort", begun(), frame(ABORT, 8, b""), vec![]),
        ("Credit", vec![], frame(CREDIT, 8, b""), vec![]),
        ("Fin", vec![], frame(FIN, 8, b""), vec![]),
        ("Bye", vec![], frame(BYE, 8, b""), vec![]),
        ("Refuse", vec![], frame(REFUSE, 8, &refuse_body()), refusal()),
    ]
}

/// What comes of a frame that is as it should be.
fn honest_fate(name: &str) -> Fate {
    if name == "Refuse" { Fate::Refused } else { Fate::Lives }
}

/// No field of the format is in no table, and no kind.
#[test]
fn the_tables_are_complete() {
    let format = include_str!("../src/wire.rs");
    let (header, offer) = (documented_places(format, 0), documented_places(format, 1));
    assert_documented("every frame", header_of(MESSAGE).iter(), &header);
    let offer: Vec<_> = offer.into_iter().map(|place| place.start + 8..place.end + 8).collect();
    assert_documented("a handshake", fields::offer(1).iter(), &offer);
    assert_complete(
        "a handshake",
        header_of(HELLO).iter().chain(&fields::offer(1)),
        0..Greeting::honest(HELLO).bytes().len(),
    );
    for (name, _, honest, more) in frames() {
        // What is behind the fields is data, or nothing.
        let data = match name {
            "Message" | "First" => 4,
            "More" => 2,
            _ => 0,
        };
        assert_complete(name, header_of(honest[0]).iter().chain(&more), 0..honest.len() - data);
    }
    let mut tabled: Vec<String> = frames().iter().map(|(name, ..)| (*name).into()).collect();
    // Others are in the tables of handshakes, here, and in those of streams and of what is lent.
    tabled.extend(["Hello", "Welcome", "Bytes", "Lend", "Fetched"].map(String::from));
    let mut kinds: Vec<String> = documented_kinds(format).into_iter().map(|(_, name)| name).collect();
    tabled.sort_unstable();
    kinds.sort_unstable();
    assert_eq!(tabled, kinds);
}

fn header_of(kind: u8) -> Vec<Field> {
    let mut fields = header(kind);
    fields.push(credits());
    fields
}

#[test]
fn every_field_of_every_frame() {
    let mut tried = 0;
    for (name, before, honest, more) in frames() {
        expect(name, &[before.clone(), vec![honest.clone()]].concat(), honest_fate(name));
        for field in header_of(honest[0]).iter().skip(1).chain(&more) {
            for (value, bytes) in field.broken(&honest) {
                // What came before has taken a receive, which may have been posted again.
                if field.name == "credits" && !before.is_empty() && value == 9 {
                    continue;
                }
                let fate = match (field.fate)(value) {
                    Fate::Lives => honest_fate(name),
                    fate => fate,
                };
                expect(&format!("{name}, {}: {value:#x}", field.name), &[before.clone(), vec![bytes]].concat(), fate);
                tried += 1;
            }
        }
    }
    assert!(tried > 500, "{tried}");
}

/// Every frame cut off at every length, and with more behind it than it has. Data may have any length that its place allows.
#[test]
fn every_length_of_every_frame() {
    for (name, before, honest, _) in frames() {
        for len in 0..honest.len() {
            let may = match name {
                "Message" => len >= 8,
                "First" => len > 16,
                "More" => len > 8,
                _ => false,
            };
            let frames = [before.clone(), vec![honest[..len].to_vec()]].concat();
            expect(&format!("{name} of {len} bytes"), &frames, lives_if(may));
        }
        for more in [1, 4, 5, 100, 256 - honest.len()] {
            let fate = match name {
                "Message" => Fate::Lives,
                // Six more bytes are missing of the ten, or four.
                "First" => lives_if(more <= 6),
                "More" => lives_if(more <= 4),
                // It may grow at its end.
                "Refuse" => Fate::Refused,
                _ => Fate::Nonsense,
            };
            let bytes = [honest.clone(), vec![7; more]].concat();
            expect(&format!("{name} and {more} bytes"), &[before.clone(), vec![bytes]].concat(), fate);
        }
    }
}

/// Every kind that there is, and every other number, where each frame might stand: at the beginning, within a message, and
/// after each end.
#[test]
#[allow(clippy::type_complexity, reason = "a table")]
fn every_kind_in_every_place() {
    let places: [(&str, Vec<Vec<u8>>, &[u8]); 4] = [
        ("between messages", vec![], &[MESSAGE, FIRST, CREDIT, FIN, BYE]),
        ("within a message", vec![frame(FIRST, 8, &first(10, b"1234"))], &[MORE, ABORT, CREDIT, BYE]),
        ("after a Fin", vec![frame(FIN, 8, b"")], &[CREDIT, BYE]),
        ("after a Bye", vec![frame(BYE, 8, b"")], &[CREDIT, BYE]),
    ];
    for (place, before, allowed) in &places {
        for kind in 0..=u8::MAX {
            let body = match kind {
                FIRST => first(10, b"1234"),
                MESSAGE | MORE => b"56".to_vec(),
                HELLO | WELCOME => Greeting::honest(kind).bytes()[8..].to_vec(),
                REFUSE => refuse_body(),
                _ => Vec::new(),
            };
            // After an end nobody looks, until there is something to send: a send that waits for credits looks.
            let (mut carrier, mut raw) = opened();
            for bytes in before.iter().chain([&frame(kind, 8, &body)]) {
                raw.say(bytes);
            }
            let failed = provoke(&mut carrier);
            let what = format!("kind {kind} {place}");
            match failed {
                None => assert!(allowed.contains(&kind), "{what} was taken"),
                Some(error) => {
                    let expected = if kind == REFUSE { ErrorKind::Refused } else { ErrorKind::Protocol };
                    // Where the peer has left there is nothing to send, which is no complaint.
                    let left = error.kind() == ErrorKind::Closed && (kind == BYE || *place == "after a Bye");
                    assert!(left || (error.kind() == expected && !allowed.contains(&kind)), "{what}: {error:?}");
                    assert!(left || raw.is_closed(), "{what}: {error:?} and an open track");
                }
            }
        }
    }
}

/// Receives all that there is, and then has something to send, until it waits for credits.
fn provoke(carrier: &mut Carrier) -> Option<Error> {
    loop {
        match carrier.try_recv() {
            Ok(Some(_)) => {}
            Ok(None) | Err(TryError::WouldBlock) => break,
            Err(TryError::Failed(error)) => return Some(error),
        }
    }
    loop {
        match carrier.try_send(b"x") {
            Ok(()) => {}
            Err(TryError::WouldBlock) => return None,
            Err(TryError::Failed(error)) => return Some(error),
        }
    }
}

/// The handshake: every field of what either end says first, and every length.
#[test]
fn every_field_of_a_handshake() {
    for (role, kind) in [(Role::Acceptor, HELLO), (Role::Connector, WELCOME)] {
        let honest = Greeting::honest(kind).bytes();
        greet(role, "an honest one", &honest, true);
        // The connector has sent a frame, and may hear that its receive was posted again.
        let most = if role == Role::Acceptor { 8 } else { 9 };
        let credits = field("credits", 4, 4, move |value| value <= most);
        for field in header(kind).iter().chain([&credits]).chain(&fields::offer(1)) {
            for (value, bytes) in field.broken(&honest) {
                let may = (field.fate)(value) == Fate::Lives;
                greet(role, &format!("{}: {value:#x}", field.name), &bytes, may);
            }
        }
        for len in 0..honest.len() {
            greet(role, &format!("{len} bytes"), &honest[..len], false);
        }
        for more in 1..100 {
            // A longer one is from a newer peer, if it says so.
            let mut bytes = [honest.clone(), vec![9; more]].concat();
            greet(role, &format!("{more} bytes that it does not speak of"), &bytes, false);
            bytes[20..22].copy_from_slice(&(64 + more as u16).to_le_bytes());
            greet(role, &format!("{more} bytes that it speaks of"), &bytes, true);
        }
    }
}

fn greet(role: Role, what: &str, bytes: &[u8], may: bool) {
    let what = format!("to a {role:?}, {what}");
    let used = measure(|| {
        let pair = timeless_tracks(small(), small());
        let mut raw = Raw::new(pair.left);
        raw.say(bytes);
        match block_on(MessageCarrier::open(pair.right, role, config())) {
            Ok(mut carrier) => {
                assert!(may, "{what} was taken");
                assert!(carrier.max_message() <= MAX_MESSAGE && carrier.eager_limit() <= 256, "{what}");
                // It is one that can be talked with.
                let _ = carrier.try_send(b"");
            }
            Err(error) => {
                assert!(!may, "{what}: {error:?}");
                assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Refused), "{what}: {error:?}");
                assert!(raw.is_closed(), "{what}: {error:?} and an open track");
            }
        }
    });
    // Two tracks of sixteen slots, and what a carrier has.
    assert!(used.bytes_max < MOST_MEMORY, "{} bytes: {what}", used.bytes_max);
}

/// That these tests can fail.
#[test]
fn nonsense_is_told_from_sense() {
    assert!(catch_unwind(|| expect("an honest frame", &[frame(MESSAGE, 8, b"1")], Fate::Nonsense)).is_err());
    assert!(catch_unwind(|| expect("a frame of no kind", &[frame(77, 8, b"1")], Fate::Lives)).is_err());
    let short = catch_unwind(|| assert_complete("a header", &header(MESSAGE), 0..8));
    assert!(short.is_err(), "a field that is in no row");
}
