//! A peer that gets every field of every frame wrong, one after the other: cut off, too long, zero, one less, one more, the most
//! there can be. Each is refused by a typed error and a closed track, in bounded memory, or it is one that may be said; then
//! the conversation goes on.

mod support;

use std::panic::catch_unwind;

use allocation_counter::measure;
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

/// A field of a frame: where it is, how long, and what may stand there.
struct Field {
    name: &'static str,
    at: usize,
    len: usize,
    may: fn(u64) -> bool,
}

const fn field(name: &'static str, at: usize, len: usize, may: fn(u64) -> bool) -> Field {
    Field { name, at, len, may }
}

/// What every frame begins with; the kind is of its own.
const HEADER: [Field; 3] = [
    field("flags", 1, 1, |value| value == 0),
    field("reserved", 2, 2, |value| value == 0),
    // Eight were granted, and with what was taken it may be one more.
    field("credits", 4, 4, |value| value == 8 || value == 9),
];

/// The total of a First that has four bytes.
const TOTAL: Field = field("total", 8, 8, |value| (4..=MAX_MESSAGE as u64).contains(&value));

const OFFER: [Field; 12] = [
    field("magic", 8, 8, |value| value == u64::from_le_bytes(*b"trespass")),
    field("oldest version", 16, 2, |value| value <= 1),
    field("newest version", 18, 2, |value| value >= 1),
    field("length", 20, 2, |value| value == 64),
    field("carrier", 22, 2, |value| value == 1),
    field("required", 24, 8, |value| value == 0),
    field("optional", 32, 8, |_| true),
    // Eight are said to be posted already.
    field("window", 40, 4, |value| (8..=1 << 24).contains(&value)),
    // The eager limit of 248 has to fit both.
    field("longest frame", 44, 4, |value| value >= 256),
    field("longest message", 48, 8, |value| value >= 248),
    field("eager limit", 56, 4, |value| value <= 248),
    field("reserved", 60, 4, |_| true),
];

impl Field {
    fn read(&self, bytes: &[u8]) -> u64 {
        let mut word = [0; 8];
        word[..self.len].copy_from_slice(&bytes[self.at..self.at + self.len]);
        u64::from_le_bytes(word)
    }

    /// The frame with every value in this field that is at an edge, and each bit of it flipped.
    fn broken(&self, honest: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let value = self.read(honest);
        let most = u64::MAX >> (64 - 8 * self.len);
        let edges = [0, 1, value.wrapping_sub(1), value.wrapping_add(1), most, most - 1, most / 2, most / 2 + 1];
        let flipped = (0..8 * self.len).map(|bit| value ^ (1 << bit));
        let mut values: Vec<u64> = edges.into_iter().chain(flipped).map(|value| value & most).collect();
        values.sort_unstable();
        values.dedup();
        let frame = |value: u64| {
            let mut bytes = honest.to_vec();
            bytes[self.at..self.at + self.len].copy_from_slice(&value.to_le_bytes()[..self.len]);
            bytes
        };
        values.into_iter().map(|value| (value, frame(value))).collect()
    }
}

/// What became of a carrier.
#[derive(Debug)]
enum Fate {
    /// It goes on, or the peer's goodbye was heard.
    Lives,
    Failed(Error),
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
fn fate(frames: &[Vec<u8>]) -> Fate {
    let mut fate = Fate::Lives;
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
                    fate = Fate::Failed(error);
                    break;
                }
            }
        }
    });
    assert!(used.bytes_max < MOST_MEMORY, "{} bytes, after {frames:x?}", used.bytes_max);
    fate
}

/// That `frames` are refused as nonsense, or that they are not.
fn expect(what: &str, frames: &[Vec<u8>], may: bool) {
    match (fate(frames), may) {
        (Fate::Lives, true) => {}
        (Fate::Failed(error), false) => assert_eq!(error.kind(), ErrorKind::Protocol, "{what}"),
        (fate, may) => panic!("{what} may be said: {may}; and what became of it: {fate:?}"),
    }
}

/// Every frame of a conversation, with what has to come before it, and the fields that it has beyond the header.
#[allow(clippy::type_complexity, reason = "a table")]
fn frames() -> Vec<(&'static str, Vec<Vec<u8>>, Vec<u8>, Vec<Field>)> {
    let begun = || vec![frame(FIRST, 8, &first(10, b"1234"))];
    vec![
        ("Message", vec![], frame(MESSAGE, 8, b"1234"), vec![]),
        ("First", vec![], frame(FIRST, 8, &first(10, b"1234")), vec![TOTAL]),
        ("More", begun(), frame(MORE, 8, b"56"), vec![]),
        ("Abort", begun(), frame(ABORT, 8, b""), vec![]),
        ("Credit", vec![], frame(CREDIT, 8, b""), vec![]),
        ("Fin", vec![], frame(FIN, 8, b""), vec![]),
        ("Bye", vec![], frame(BYE, 8, b""), vec![]),
    ]
}

#[test]
fn every_field_of_every_frame() {
    let mut tried = 0;
    for (name, before, honest, more) in frames() {
        expect(name, &[before.clone(), vec![honest.clone()]].concat(), true);
        for field in HEADER.iter().chain(&more) {
            for (value, bytes) in field.broken(&honest) {
                // What came before has taken a receive, which may have been posted again.
                let may = (field.may)(value);
                if field.name == "credits" && !before.is_empty() && value == 9 {
                    continue;
                }
                expect(&format!("{name}, {}: {value:#x}", field.name), &[before.clone(), vec![bytes]].concat(), may);
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
            expect(&format!("{name} of {len} bytes"), &[before.clone(), vec![honest[..len].to_vec()]].concat(), may);
        }
        for more in [1, 4, 5, 100, 256 - honest.len()] {
            let may = match name {
                "Message" => true,
                // Six more bytes are missing of the ten, or four.
                "First" => more <= 6,
                "More" => more <= 4,
                _ => false,
            };
            let bytes = [honest.clone(), vec![7; more]].concat();
            expect(&format!("{name} and {more} bytes"), &[before.clone(), vec![bytes]].concat(), may);
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
                REFUSE => {
                    let mut body = vec![0; 16];
                    body[0] = 5;
                    body
                }
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
        let header = [
            field("kind", 0, 1, if kind == HELLO { |value| value == 1 } else { |value| value == 2 }),
            field("flags", 1, 1, |value| value == 0),
            field("reserved", 2, 2, |value| value == 0),
        ];
        for field in header.iter().chain(&OFFER) {
            for (value, bytes) in field.broken(&honest) {
                greet(role, &format!("{}: {value:#x}", field.name), &bytes, (field.may)(value));
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
                assert!(carrier.max_message() <= MAX_MESSAGE && carrier.eager_limit() <= 248, "{what}");
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
    assert!(catch_unwind(|| expect("an honest frame", &[frame(MESSAGE, 8, b"1")], false)).is_err());
    assert!(catch_unwind(|| expect("a frame of no kind", &[frame(77, 8, b"1")], true)).is_err());
}
