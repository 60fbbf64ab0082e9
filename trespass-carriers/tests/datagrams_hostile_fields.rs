//! A peer that gets every field of a datagram wrong, one after the other: what makes no sense is dropped and counted, as if the
//! network had lost it, and ends nothing; and a handshake goes on, or is refused with a reason.

#[path = "support/datagrams.rs"]
mod datagrams;
#[path = "support/fields.rs"]
mod fields;
mod support;

use std::panic::catch_unwind;

use allocation_counter::measure;
use datagrams::{Carrier, carriers, heard, say, small};
use fields::{
    Fate, Field, assert_complete, assert_documented, documented_kinds, documented_places, fated, field, refusal,
    refuse_body,
};
use futures_executor::block_on;
use support::raw::{Greeting, HELLO, REFUSE, WELCOME};
use support::{pattern, poll_once};
use trespass_carriers::{CarrierError, DatagramCarrier, DatagramConfig, DatagramStats};
use trespass_core::{ErrorKind, Role, TransportError, TryError};
use trespass_mock::{MockDatagramTrack, MockNet};

const BYE: u8 = 34;
const WHOLE: u8 = 80;
const SEGMENT: u8 = 81;
const READY: u8 = 82;
const BEAT: u8 = 83;

const MAX_MESSAGE: usize = 10_000;
/// How long a segment is, but for the last of a message.
const PIECE: usize = 240;
/// How many of the newest numbers are told apart.
const SPAN: u64 = 1024;
/// A carrier of 256 receives, and a message in assembly.
const MOST_MEMORY: u64 = (256 << 10) + 4 * MAX_MESSAGE as u64;

fn config() -> DatagramConfig {
    DatagramConfig::default().with_max_message(MAX_MESSAGE)
}

/// What a datagram comes to: what is counted, and what is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    Message,
    /// A part of one.
    Part,
    /// Heard, and of no consequence.
    Nothing,
    /// The peer has left.
    End,
    Garbage,
    Stale,
    Duplicate,
    OutOfWindow,
}

/// A carrier whose peer writes its own bytes; the handshake was honest.
struct Scene {
    carrier: Carrier,
    raw: MockDatagramTrack,
    /// The carrier's session.
    session: u32,
}

fn hello() -> Greeting {
    Greeting { carrier: 3, ..Greeting::honest(HELLO) }
}

fn scene_of(config: DatagramConfig) -> Scene {
    let (mut raw, right) = datagrams::tracks(&MockNet::virtual_time().0, &small());
    let mut opening = DatagramCarrier::open(right, Role::Acceptor, config);
    say(&mut raw, &hello().bytes());
    assert!(poll_once(&mut opening).is_pending());
    let welcome = heard(&mut raw).expect("an answer");
    assert_eq!(welcome[0], WELCOME);
    let session = u32::from_le_bytes(*welcome[4..].first_chunk().unwrap());
    say(&mut raw, &packet(READY, session, 0, b""));
    let carrier = block_on(opening).unwrap();
    Scene { carrier, raw, session }
}

fn scene() -> Scene {
    scene_of(config())
}

/// A datagram to the end of `session`.
fn packet(kind: u8, session: u32, number: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend((session as u16).to_le_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.extend(body);
    bytes
}

/// A segment of a message of `total` bytes.
fn segment(session: u32, number: u32, total: usize, index: usize) -> Vec<u8> {
    let data = pattern(1, total);
    let end = total.min((index + 1) * PIECE);
    let fields = [(total as u32).to_le_bytes(), (index as u32).to_le_bytes()].concat();
    packet(SEGMENT, session, number, &[&fields, &data[index * PIECE..end]].concat())
}

impl Scene {
    /// Says it, and tells what came of it: one thing, and nothing else.
    fn comes_of(&mut self, bytes: &[u8]) -> Comes {
        let before = self.carrier.stats();
        say(&mut self.raw, bytes);
        let received = self.carrier.try_recv();
        let after = self.carrier.stats();
        let counted = |of: fn(&DatagramStats) -> u64| of(&after) - of(&before);
        let counts = [
            (Comes::Message, counted(|stats| stats.messages_received)),
            (Comes::Part, counted(|stats| stats.segments_received)),
            (Comes::Garbage, counted(|stats| stats.garbage)),
            (Comes::Stale, counted(|stats| stats.stale)),
            (Comes::Duplicate, counted(|stats| stats.duplicates)),
            (Comes::OutOfWindow, counted(|stats| stats.out_of_window)),
        ];
        assert!(counts.iter().map(|(_, count)| count).sum::<u64>() <= 1 + u64::from(received.is_ok()), "{counts:?}");
        let comes = counts.iter().find(|(_, count)| *count > 0).map_or(Comes::Nothing, |(comes, _)| *comes);
        match received {
            Ok(Some(message)) => {
                assert_eq!(comes, Comes::Message);
                assert!(message.len() <= MAX_MESSAGE);
                Comes::Message
            }
            Ok(None) => {
                assert_eq!(comes, Comes::Nothing);
                Comes::End
            }
            Err(TryError::WouldBlock) => comes,
            Err(TryError::Failed(error)) => panic!("{error}: no datagram ends a session but a goodbye"),
        }
    }

    /// That the session goes on: what comes next, in good form, is delivered.
    fn is_well(&mut self, number: u32) {
        let bytes = packet(WHOLE, self.session, number, b"well?");
        say(&mut self.raw, &bytes);
        assert_eq!(*self.carrier.try_recv().unwrap().unwrap(), *b"well?");
        self.carrier.try_send(b"well").unwrap();
    }
}

/// A datagram, and what comes of each of its fields beside the header.
struct Row {
    name: &'static str,
    make: fn(u32) -> Vec<u8>,
    honest: Comes,
    number: fn(u64) -> Comes,
    more: Vec<(&'static str, usize, usize, fn(u64) -> Comes)>,
    /// Of such a length, beyond the first eight bytes.
    of_len: fn(usize) -> Comes,
}

/// Where a number lies that begins a message: the next one is 0.
fn placed(number: u64, fresh: Comes) -> Comes {
    match number {
        0..SPAN => fresh,
        // None was before, so they are over.
        _ if number > u64::from(u32::MAX) - SPAN => Comes::Duplicate,
        _ => Comes::OutOfWindow,
    }
}

fn only_zero(number: u64) -> Comes {
    if number == 0 { Comes::Nothing } else { Comes::Garbage }
}

fn only_empty(len: usize) -> Comes {
    if len == 0 { Comes::Nothing } else { Comes::Garbage }
}

/// The middle one of three segments.
const TOTAL: usize = 500;

fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "Whole",
            make: |session| packet(WHOLE, session, 0, b"1234"),
            honest: Comes::Message,
            number: |number| placed(number, Comes::Message),
            more: vec![],
            of_len: |_| Comes::Message,
        },
        Row {
            name: "Segment",
            make: |session| segment(session, 0, TOTAL, 1),
            honest: Comes::Part,
            number: |number| placed(number, Comes::Part),
            more: vec![
                // The second one is full, so there is as much of the message at least.
                ("total", 8, 4, |total| match (2 * PIECE as u64..=MAX_MESSAGE as u64).contains(&total) {
                    true => Comes::Part,
                    false => Comes::Garbage,
                }),
                ("index", 12, 4, |index| if index <= 1 { Comes::Part } else { Comes::Garbage }),
            ],
            of_len: |len| if len == 8 + PIECE { Comes::Part } else { Comes::Garbage },
        },
        Row {
            name: "Ready",
            make: |session| packet(READY, session, 0, b""),
            honest: Comes::Nothing,
            number: only_zero,
            more: vec![],
            of_len: only_empty,
        },
        Row {
            name: "Beat",
            make: |session| packet(BEAT, session, 0, b""),
            honest: Comes::Nothing,
            number: only_zero,
            more: vec![],
            of_len: only_empty,
        },
        Row {
            name: "Bye",
            make: |session| packet(BYE, session, 0, b""),
            honest: Comes::End,
            number: |number| if number == 0 { Comes::End } else { Comes::Garbage },
            more: vec![],
            of_len: |len| if len == 0 { Comes::End } else { Comes::Garbage },
        },
    ]
}

fn places(more: &[(&'static str, usize, usize, fn(u64) -> Comes)]) -> Vec<Field> {
    let header = [("kind", 0, 1), ("flags", 1, 1), ("tag", 2, 2), ("number", 4, 4)];
    let more = more.iter().map(|(name, at, len, _)| (*name, *at, *len));
    header.into_iter().chain(more).map(|(name, at, len)| field(name, at, len, |_| true)).collect()
}

/// No field of the format is in no table, and no kind.
#[test]
fn the_tables_are_complete() {
    let format = include_str!("../src/datagram/wire.rs");
    assert_documented("every datagram", &places(&[]), &documented_places(format, 0));
    for row in rows() {
        let data = match row.name {
            "Whole" => 4,
            "Segment" => PIECE,
            _ => 0,
        };
        let honest = (row.make)(7);
        assert_complete(row.name, &places(&row.more), 0..honest.len() - data);
    }
    let mut kinds: Vec<String> = documented_kinds(format).into_iter().map(|(_, name)| name).collect();
    let mut tabled: Vec<String> = rows().iter().map(|row| row.name.into()).collect();
    (kinds.sort_unstable(), tabled.sort_unstable());
    assert_eq!(tabled, kinds);
    assert_complete("a handshake", greeting(HELLO, 0).iter(), 0..hello().bytes().len());
}

#[test]
fn every_field_of_every_datagram() {
    let (mut left, mut right) = carriers(&small(), config());
    let mut tried = 0;
    for row in rows() {
        let mut tried_of = |name: &str, nth: usize, of: &dyn Fn(u64, u32) -> Comes, at: usize, len: usize| {
            // Each in a session of its own, whose number is another.
            let mut scene = scene();
            let honest = (row.make)(scene.session);
            let Some((value, bytes)) = field("", at, len, |_| true).broken(&honest).into_iter().nth(nth) else {
                return false;
            };
            let (expected, session) = (of(value, scene.session), scene.session);
            let used = measure(|| {
                let comes = scene.comes_of(&bytes);
                assert_eq!(comes, expected, "{}, {name}: {value:#x}, session {session:#x}", row.name);
            });
            assert!(used.bytes_max < MOST_MEMORY, "{} bytes: {}, {name}: {value:#x}", used.bytes_max, row.name);
            if expected != Comes::End {
                // One that is far ahead is believed when another comes near it: nothing of the sort did.
                scene.is_well(if value < SPAN && name == "number" { value as u32 + 1 } else { 1 });
            }
            tried += 1;
            true
        };
        let honest = row.honest;
        let flags = move |value: u64, _| if value == 0 { honest } else { Comes::Garbage };
        (0..).find(|nth| !tried_of("flags", *nth, &flags, 1, 1));
        let tag = move |value: u64, session| if value as u16 == session as u16 { honest } else { Comes::Stale };
        (0..).find(|nth| !tried_of("tag", *nth, &tag, 2, 2));
        let number = row.number;
        (0..).find(|nth| !tried_of("number", *nth, &|value, _| number(value), 4, 4));
        for (name, at, len, of) in row.more.clone() {
            (0..).find(|nth| !tried_of(name, *nth, &|value, _| of(value), at, len));
        }
        // Others of the same fabric notice nothing.
        block_on(left.send(b"beside")).unwrap();
        assert_eq!(*right.try_recv().unwrap().unwrap(), *b"beside");
    }
    assert!(tried > 350, "{tried}");
}

#[test]
fn every_length_of_every_datagram() {
    for row in rows() {
        for len in 0..=256 {
            let mut scene = scene();
            let mut bytes = (row.make)(scene.session);
            bytes.resize(len, 7);
            let expected = if len < 8 { Comes::Garbage } else { (row.of_len)(len - 8) };
            assert_eq!(scene.comes_of(&bytes), expected, "{} of {len} bytes", row.name);
        }
    }
    // A message that fits a datagram, and not what was agreed.
    let mut scene = scene_of(config().with_max_message(100));
    let [fits, longer] = [100, 101].map(|len| packet(WHOLE, scene.session, 0, &vec![0; len]));
    assert_eq!(scene.comes_of(&longer), Comes::Garbage);
    assert_eq!(scene.comes_of(&fits), Comes::Message);
}

/// Every number that a kind may have.
#[test]
fn every_kind() {
    let known = [BYE, WHOLE, SEGMENT, READY, BEAT];
    for kind in 0..=u8::MAX {
        let mut scene = scene();
        let comes = scene.comes_of(&packet(kind, scene.session, 0, b""));
        match kind {
            BYE => assert_eq!(comes, Comes::End),
            WHOLE => assert_eq!(comes, Comes::Message),
            READY | BEAT => assert_eq!(comes, Comes::Nothing),
            // Without its fields.
            SEGMENT => assert_eq!(comes, Comes::Garbage),
            _ => assert_eq!(comes, Comes::Garbage, "{kind}"),
        }
        if !known.contains(&kind) {
            scene.is_well(0);
        }
    }
}

/// Parts that contradict what came before, and such as come twice.
#[test]
fn parts_that_do_not_go_together() {
    let mut scene = scene();
    let to = scene.session;
    assert_eq!(scene.comes_of(&segment(to, 0, TOTAL, 1)), Comes::Part);
    assert_eq!(scene.comes_of(&segment(to, 0, TOTAL, 1)), Comes::Duplicate, "the same again");
    assert_eq!(scene.comes_of(&segment(to, 0, 600, 0)), Comes::Garbage, "another total");
    assert_eq!(scene.comes_of(&segment(to, 0, TOTAL + 1, 2)), Comes::Garbage, "another total, and the last");
    assert_eq!(scene.comes_of(&packet(WHOLE, to, 0, b"whole")), Comes::Garbage, "a message of its number");
    assert_eq!(scene.comes_of(&segment(to, 0, TOTAL, 0)), Comes::Part);
    assert_eq!(scene.comes_of(&segment(to, 0, TOTAL, 2)), Comes::Message);
    for index in 0..3 {
        assert_eq!(scene.comes_of(&segment(to, 0, TOTAL, index)), Comes::Duplicate, "of one that is over");
    }
    assert_eq!(scene.comes_of(&packet(WHOLE, to, 0, b"whole")), Comes::Duplicate);
    scene.is_well(1);
    // Of other sessions, and of none.
    for other in [to ^ 1, to ^ 0x8000, !to] {
        assert_eq!(scene.comes_of(&segment(other, 2, TOTAL, 1)), Comes::Stale);
        assert_eq!(scene.comes_of(&packet(BYE, other, 0, b"")), Comes::Stale);
    }
    // The high half of a session is not said: what tells others apart is the track.
    assert_eq!(scene.comes_of(&packet(WHOLE, to ^ 0x1_0000, 2, b"")), Comes::Message);
    // Old, very old, and far ahead; one far ahead makes none that follow look old.
    assert_eq!(scene.comes_of(&packet(WHOLE, to, 2000 - SPAN as u32, b"")), Comes::Message);
    assert_eq!(scene.comes_of(&packet(WHOLE, to, 2000, b"")), Comes::Message);
    assert_eq!(scene.comes_of(&packet(WHOLE, to, 2000 - SPAN as u32, b"")), Comes::OutOfWindow);
    assert_eq!(scene.comes_of(&packet(WHOLE, to, 2001 - SPAN as u32, b"")), Comes::Message, "late, and not too late");
    assert_eq!(scene.comes_of(&segment(to, 2001 + SPAN as u32, TOTAL, 0)), Comes::OutOfWindow);
    scene.is_well(2001);
}

/// More messages begun than may be incomplete at once: the oldest make way, and nothing grows.
#[test]
fn what_is_begun_and_never_ended_is_bounded() {
    let mut scene = scene_of(config().with_assemblies(4, std::time::Duration::from_secs(1)));
    let used = measure(|| {
        for number in 0..1000 {
            let bytes = segment(scene.session, number, MAX_MESSAGE, 0);
            assert_eq!(scene.comes_of(&bytes), Comes::Part);
        }
    });
    assert_eq!(scene.carrier.stats().given_up, 996);
    // Memory comes in powers of two, and the pool keeps some.
    assert!(used.bytes_max < 8 * 16_384, "{}", used.bytes_max);
    let late = segment(scene.session, 0, MAX_MESSAGE, 1);
    assert_eq!(scene.comes_of(&late), Comes::Duplicate, "of one that was given up");
    scene.is_well(1000);
}

/// Every field of a handshake. To an acceptor the session that is answered is of no interest.
fn greeting(kind: u8, echo: u64) -> Vec<Field> {
    let echoes = move |value: u64| if kind == HELLO || value == echo { Fate::Lives } else { Fate::Nonsense };
    let offer = fields::offer(3).into_iter().filter(|field| field.at != 60);
    let header = [
        field("kind", 0, 1, move |value| value == u64::from(kind)),
        field("flags", 1, 1, |value| value == 0),
        field("reserved", 2, 2, |value| value == 0),
        // A number that the peer made up.
        field("session", 4, 4, |_| true),
        fated("answered session", 60, 4, echoes),
    ];
    header.into_iter().chain(offer).map(dropped).collect()
}

/// Over datagrams nonsense is not told of.
fn dropped(field: Field) -> Field {
    let fate = field.fate;
    fated(field.name, field.at, field.len, move |value| match fate(value) {
        Fate::Nonsense => Fate::Dropped,
        fate => fate,
    })
}

/// What a handshake comes to that is said `bytes` of, which `make` makes for the session that asked, if any did.
fn greet(role: Role, make: impl FnOnce(u32) -> Vec<u8>) -> (Fate, Option<CarrierError<trespass_mock::MockError>>) {
    let (mut raw, right) = datagrams::tracks(&MockNet::virtual_time().0, &small());
    let mut opening = DatagramCarrier::open(right, role, config());
    assert!(poll_once(&mut opening).is_pending());
    let asked = heard(&mut raw).map_or(0, |hello| u32::from_le_bytes(*hello[4..].first_chunk().unwrap()));
    say(&mut raw, &make(asked));
    let outcome = match poll_once(&mut opening) {
        std::task::Poll::Ready(outcome) => outcome,
        std::task::Poll::Pending => {
            let Some(answer) = heard(&mut raw).filter(|answer| answer[0] == WELCOME) else {
                return (Fate::Dropped, None);
            };
            let session = u32::from_le_bytes(*answer[4..].first_chunk().unwrap());
            say(&mut raw, &packet(READY, session, 0, b""));
            block_on(opening)
        }
    };
    match outcome {
        Ok(mut carrier) => {
            assert!(carrier.max_message() <= MAX_MESSAGE && carrier.eager_limit() <= 248);
            // It is one that can be talked with.
            let _ = carrier.try_send(b"");
            (Fate::Lives, None)
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            (Fate::Refused, Some(error))
        }
    }
}

#[test]
fn every_field_of_a_handshake() {
    let bytes_for = |kind: u8, asked: u32| {
        let mut bytes = Greeting { carrier: 3, ..Greeting::honest(kind) }.bytes();
        if kind == WELCOME {
            bytes[60..64].copy_from_slice(&asked.to_le_bytes());
        }
        bytes
    };
    for (role, kind) in [(Role::Acceptor, HELLO), (Role::Connector, WELCOME)] {
        assert_eq!(greet(role, |asked| bytes_for(kind, asked)).0, Fate::Lives, "to a {role:?}");
        for at in 0..greeting(kind, 0).len() {
            for nth in 0.. {
                let mut tried = None;
                let (fate, error) = greet(role, |asked| {
                    let field = greeting(kind, asked.into()).swap_remove(at);
                    let broken = field.broken(&bytes_for(kind, asked)).into_iter().nth(nth);
                    tried = broken.as_ref().map(|(value, _)| (field.name, *value, (field.fate)(*value)));
                    broken.map_or_else(Vec::new, |(_, bytes)| bytes)
                });
                let Some((name, value, expected)) = tried else { break };
                // To whoever asked a refusal is an answer; in a Welcome the session of a refusal is another.
                assert_eq!(fate, expected, "to a {role:?}, {name}: {value:#x}: {error:?}");
            }
        }
        for len in 0..72 {
            assert_eq!(greet(role, |asked| bytes_for(kind, asked)[..len].to_vec()).0, Fate::Dropped, "{len} bytes");
        }
        for more in 1..100 {
            let longer = |says: u16, asked| {
                let mut bytes = [bytes_for(kind, asked), vec![9; more]].concat();
                bytes[20..22].copy_from_slice(&says.to_le_bytes());
                bytes
            };
            assert_eq!(greet(role, |asked| longer(64, asked)).0, Fate::Dropped, "{more} that it does not speak of");
            assert_eq!(greet(role, |asked| longer(64 + more as u16, asked)).0, Fate::Lives, "{more} that it speaks of");
        }
    }
}

#[test]
fn every_field_of_a_refusal() {
    let bytes_for = |asked: u32| {
        let mut bytes = vec![REFUSE, 0, 0, 0];
        bytes.extend(asked.to_le_bytes());
        bytes.extend(refuse_body());
        bytes
    };
    let table = |asked: u32| {
        let answers = move |value: u64| if value == u64::from(asked) { Fate::Refused } else { Fate::Dropped };
        let zero = |value: u64| if value == 0 { Fate::Refused } else { Fate::Dropped };
        let header = [fated("flags", 1, 1, zero), fated("reserved", 2, 2, zero), fated("session", 4, 4, answers)];
        header.into_iter().chain(refusal()).collect::<Vec<_>>()
    };
    let kind = [field("kind", 0, 1, |_| true)];
    assert_complete("a refusal", table(0).iter().chain(&kind), 0..bytes_for(0).len());
    for at in 0..table(0).len() {
        for nth in 0.. {
            let mut tried = None;
            let (fate, error) = greet(Role::Connector, |asked| {
                let field = table(asked).swap_remove(at);
                let broken = field.broken(&bytes_for(asked)).into_iter().nth(nth);
                tried = broken.as_ref().map(|(value, _)| (field.name, *value, (field.fate)(*value)));
                broken.map_or_else(Vec::new, |(_, bytes)| bytes)
            });
            let Some((name, value, expected)) = tried else { break };
            assert_eq!(fate, expected, "{name}: {value:#x}: {error:?}");
        }
    }
    for len in 0..24 {
        assert_eq!(greet(Role::Connector, |asked| bytes_for(asked)[..len].to_vec()).0, Fate::Dropped, "{len} bytes");
    }
    // Nobody has asked.
    assert_eq!(greet(Role::Acceptor, bytes_for).0, Fate::Dropped);
}

/// A handshake that comes late is answered, or counted, and ends nothing.
#[test]
fn every_field_of_a_handshake_that_comes_late() {
    let welcome = |session: u32| {
        let mut bytes = Greeting { carrier: 3, ..Greeting::honest(WELCOME) }.bytes();
        bytes[60..64].copy_from_slice(&session.to_le_bytes());
        bytes
    };
    for at in 1..greeting(WELCOME, 0).len() {
        for nth in 0.. {
            let mut scene = scene();
            let field = greeting(WELCOME, scene.session.into()).swap_remove(at);
            let Some((value, bytes)) = field.broken(&welcome(scene.session)).into_iter().nth(nth) else { break };
            let expected = match ((field.fate)(value), field.name) {
                // Whether it suits was settled long ago.
                (Fate::Lives | Fate::Refused, _) => Comes::Nothing,
                (_, "answered session") => Comes::Stale,
                _ => Comes::Garbage,
            };
            assert_eq!(scene.comes_of(&bytes), expected, "{}: {value:#x}", field.name);
            scene.is_well(0);
        }
    }
    let mut scene = scene();
    assert_eq!(scene.comes_of(&hello().bytes()), Comes::Stale);
    assert_eq!(scene.comes_of(&[&[REFUSE, 0, 0, 0, 0, 0, 0, 0][..], &refuse_body()].concat()), Comes::Stale);
    scene.is_well(0);
}

/// That these tests can fail.
#[test]
fn what_is_dropped_is_told_from_what_is_not() {
    let honest = || assert_eq!(scene().comes_of(&packet(77, 0, 0, b"")), Comes::Message);
    assert!(catch_unwind(honest).is_err());
    assert!(catch_unwind(|| assert_complete("a datagram", &places(&[]), 0..9)).is_err());
}
