//! A peer that gets every field of a stream's frames wrong, one after the other, and every length: a typed error and a closed
//! track, or something that may be said; and nobody else is disturbed.

#[path = "support/fields.rs"]
mod fields;
#[path = "support/streams.rs"]
mod streams;
mod support;

use std::panic::catch_unwind;

use allocation_counter::measure;
use fields::{
    Fate, Field, assert_complete, assert_documented, documented_kinds, documented_places, field, header, refusal,
    refuse_body,
};
use futures_executor::block_on;
use streams::{BYTES, Stream, honest, opened, streams};
use support::raw::{BYE, CREDIT, FIN, HELLO, REFUSE, Raw, WELCOME, frame};
use support::{Error, Pair, small, timeless_tracks};
use trespass_carriers::{StreamCarrier, StreamConfig};
use trespass_core::{ErrorKind, Role, TransportError, TryError};

/// What a stream may take for what one frame says: it has no buffers beside its track's.
const MOST_MEMORY: u64 = 64 << 10;

/// Somebody else, who is to notice nothing.
struct Bystander(Pair<Stream, Stream>);

impl Bystander {
    fn new() -> Self {
        Self(streams(small(), StreamConfig::default()))
    }

    fn is_well(&mut self) {
        assert_eq!(self.0.left.try_put(b"well?"), Ok(5));
        assert_eq!(self.0.right.try_fill().unwrap(), b"well?");
        self.0.right.consume(5);
        // The credits go back, now and then.
        assert_eq!(self.0.right.try_put(b"well"), Ok(4));
        assert_eq!(self.0.left.try_fill().unwrap(), b"well");
        self.0.left.consume(4);
    }
}

/// What a stream makes of `frames`. Whatever it is: no panic, next to no memory, and a failure closes the track and sticks.
fn fate(frames: &[Vec<u8>]) -> (Fate, Option<Error>) {
    let mut ended = None;
    let used = measure(|| {
        let (mut stream, mut raw) = opened(StreamConfig::default());
        for bytes in frames {
            raw.say(bytes);
        }
        ended = provoke(&mut stream);
        if let Some(error) = &ended {
            assert!(raw.is_closed(), "{error:?} and an open track, after {frames:x?}");
            assert_eq!(stream.try_put(b"x").unwrap_err(), TryError::Failed(error.clone()));
            assert_eq!(block_on(stream.close()).unwrap_err(), *error);
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

/// Reads all that there is, and then has something to write, until it waits for credits: after an end only a writer looks.
fn provoke(stream: &mut Stream) -> Option<Error> {
    loop {
        match stream.try_fill().map(<[u8]>::len) {
            Ok(0) | Err(TryError::WouldBlock) => break,
            Ok(len) => stream.consume(len),
            Err(TryError::Failed(error)) => return Some(error),
        }
    }
    loop {
        match stream.try_put(&[0; 256]) {
            Ok(_) => {}
            Err(TryError::WouldBlock) => return None,
            // The peer has left, so there is nothing to write.
            Err(TryError::Failed(error)) => return Some(error).filter(|error| error.kind() != ErrorKind::Closed),
        }
    }
}

fn expect(what: &str, frames: &[Vec<u8>], expected: Fate) {
    let (fate, error) = fate(frames);
    assert_eq!(fate, expected, "{what}: {error:?}");
}

/// Every frame, and the fields that it has beyond the header.
fn frames() -> Vec<(&'static str, Vec<u8>, Vec<Field>)> {
    vec![
        ("Bytes", frame(BYTES, 8, b"1234"), vec![]),
        ("Credit", frame(CREDIT, 8, b""), vec![]),
        ("Fin", frame(FIN, 8, b""), vec![]),
        ("Bye", frame(BYE, 8, b""), vec![]),
        ("Refuse", frame(REFUSE, 8, &refuse_body()), refusal()),
    ]
}

fn header_of(kind: u8) -> Vec<Field> {
    let mut fields = header(kind);
    // Eight were granted, and one was taken, and may have been posted again.
    fields.push(field("credits", 4, 4, |value| value == 8 || value == 9));
    fields
}

fn honest_fate(name: &str) -> Fate {
    if name == "Refuse" { Fate::Refused } else { Fate::Lives }
}

/// No field of the format is in no table, and no kind.
#[test]
fn the_tables_are_complete() {
    let format = include_str!("../src/wire.rs");
    assert_documented("every frame", header_of(BYTES).iter(), &documented_places(format, 0));
    assert_complete("a handshake", header_of(HELLO).iter().chain(&offer()), 0..honest(HELLO).bytes().len());
    for (name, bytes, more) in frames() {
        let data = if name == "Bytes" { 4 } else { 0 };
        assert_complete(name, header_of(bytes[0]).iter().chain(&more), 0..bytes.len() - data);
    }
    // What else there is, a stream does not know.
    let kinds = documented_kinds(format).into_iter().filter(|(kind, _)| !FOREIGN.contains(kind)).map(|(_, name)| name);
    let mut kinds: Vec<String> = kinds.collect();
    let mut tabled: Vec<String> = frames().iter().map(|(name, ..)| (*name).into()).collect();
    tabled.extend(["Hello", "Welcome"].map(String::from));
    kinds.sort_unstable();
    tabled.sort_unstable();
    assert_eq!(tabled, kinds);
}

/// Kinds of carriers of messages.
const FOREIGN: [u8; 6] = [16, 17, 18, 19, 48, 49];

#[test]
fn every_field_of_every_frame() {
    let (mut tried, mut bystander) = (0, Bystander::new());
    for (name, honest, more) in frames() {
        expect(name, std::slice::from_ref(&honest), honest_fate(name));
        for field in header_of(honest[0]).iter().skip(1).chain(&more) {
            for (value, bytes) in field.broken(&honest) {
                let fate = match (field.fate)(value) {
                    Fate::Lives => honest_fate(name),
                    fate => fate,
                };
                expect(&format!("{name}, {}: {value:#x}", field.name), &[bytes], fate);
                tried += 1;
            }
            bystander.is_well();
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn every_length_of_every_frame() {
    let mut bystander = Bystander::new();
    for (name, honest, _) in frames() {
        for len in 0..honest.len() {
            let fate = if name == "Bytes" && len > 8 { Fate::Lives } else { Fate::Nonsense };
            expect(&format!("{name} of {len} bytes"), &[honest[..len].to_vec()], fate);
        }
        for more in [1, 4, 5, 100, 256 - honest.len()] {
            let fate = match name {
                "Bytes" => Fate::Lives,
                // It may grow at its end.
                "Refuse" => Fate::Refused,
                _ => Fate::Nonsense,
            };
            expect(&format!("{name} and {more} bytes"), &[[honest.clone(), vec![7; more]].concat()], fate);
        }
        bystander.is_well();
    }
}

/// Every number that a kind may have, at the beginning and after each end.
#[test]
#[allow(clippy::type_complexity, reason = "a table")]
fn every_kind_in_every_place() {
    let mut bystander = Bystander::new();
    let places: [(&str, Vec<Vec<u8>>, &[u8]); 3] = [
        ("among bytes", vec![frame(BYTES, 8, b"before")], &[BYTES, CREDIT, FIN, BYE]),
        ("after a Fin", vec![frame(FIN, 8, b"")], &[CREDIT, BYE]),
        ("after a Bye", vec![frame(BYE, 8, b"")], &[]),
    ];
    for (place, before, allowed) in &places {
        for kind in 0..=u8::MAX {
            let body = match kind {
                BYTES => b"56".to_vec(),
                HELLO | WELCOME => honest(kind).bytes()[8..].to_vec(),
                REFUSE => refuse_body(),
                _ => Vec::new(),
            };
            let fate = match kind {
                // The peer has left, and nobody listens any more.
                _ if *place == "after a Bye" => Fate::Lives,
                REFUSE => Fate::Refused,
                _ if allowed.contains(&kind) => Fate::Lives,
                _ => Fate::Nonsense,
            };
            expect(&format!("kind {kind} {place}"), &[before.clone(), vec![frame(kind, 8, &body)]].concat(), fate);
        }
        bystander.is_well();
    }
}

/// Of messages a stream says that there is no limit, and does not look at what its peer says.
fn offer() -> Vec<Field> {
    fields::offer(2)
}

#[test]
fn every_field_of_a_handshake() {
    let mut bystander = Bystander::new();
    for (role, kind) in [(Role::Acceptor, HELLO), (Role::Connector, WELCOME)] {
        let honest = honest(kind).bytes();
        greet(role, "an honest one", &honest, Fate::Lives);
        // The connector has sent a frame, and may hear that its receive was posted again.
        let most = if role == Role::Acceptor { 8 } else { 9 };
        let credits = field("credits", 4, 4, move |value| value <= most);
        for field in header(kind).iter().chain([&credits]).chain(&offer()) {
            for (value, bytes) in field.broken(&honest) {
                let fate = match (field.name, value, role) {
                    // To whoever has asked that is an answer, whatever its reason.
                    ("kind", 3, Role::Connector) => Fate::Refused,
                    _ => (field.fate)(value),
                };
                greet(role, &format!("{}: {value:#x}", field.name), &bytes, fate);
            }
            bystander.is_well();
        }
        for len in 0..honest.len() {
            greet(role, &format!("{len} bytes"), &honest[..len], Fate::Nonsense);
        }
        for more in 1..100 {
            // A longer one is from a newer peer, if it says so.
            let mut bytes = [honest.clone(), vec![9; more]].concat();
            greet(role, &format!("{more} bytes that it does not speak of"), &bytes, Fate::Nonsense);
            bytes[20..22].copy_from_slice(&(64 + more as u16).to_le_bytes());
            greet(role, &format!("{more} bytes that it speaks of"), &bytes, Fate::Lives);
        }
    }
}

fn greet(role: Role, what: &str, bytes: &[u8], expected: Fate) {
    let what = format!("to a {role:?}, {what}");
    let used = measure(|| {
        let pair = timeless_tracks(small(), small());
        let mut raw = Raw::new(pair.left);
        raw.say(bytes);
        let fate = match block_on(StreamCarrier::open(pair.right, role, StreamConfig::default())) {
            Ok(mut stream) => {
                // It is one that can be talked with.
                let _ = stream.try_put(b"x");
                Fate::Lives
            }
            Err(error) => {
                assert!(raw.is_closed(), "{what}: {error:?} and an open track");
                match error.kind() {
                    ErrorKind::Refused => Fate::Refused,
                    kind => {
                        assert_eq!(kind, ErrorKind::Protocol, "{what}");
                        Fate::Nonsense
                    }
                }
            }
        };
        assert_eq!(fate, expected, "{what}");
    });
    assert!(used.bytes_max < MOST_MEMORY, "{} bytes: {what}", used.bytes_max);
}

/// That these tests can fail.
#[test]
fn nonsense_is_told_from_sense() {
    assert!(catch_unwind(|| expect("an honest frame", &[frame(BYTES, 8, b"1")], Fate::Nonsense)).is_err());
    assert!(catch_unwind(|| expect("a frame of no kind", &[frame(77, 8, b"1")], Fate::Lives)).is_err());
}
