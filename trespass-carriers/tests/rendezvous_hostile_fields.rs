//! A peer that lends and returns wrongly, field by field: windows that are none, that nobody exported, that are gone or another's;
//! too many, and none. A typed error and a closed track, or something that may be said; and nobody else is disturbed.

#[path = "support/fields.rs"]
mod fields;
mod support;

use std::panic::catch_unwind;

use allocation_counter::measure;
use fields::{Fate, Field, assert_complete, fated, field, header};
use futures_executor::block_on;
use support::raw::{Greeting, HELLO, Raw, WELCOME, frame};
use support::{Error, Pair, both, pattern, poll_once, tracks_in};
use trespass_carriers::{CarrierError, MessageConfig, RendezvousCarrier, RendezvousConfig, Violation};
use trespass_core::{
    Access, ErrorKind, MemoryFabric, RecvSide, Region, Role, SharedRegion, TransportError, TryError, Window,
};
use trespass_mock::{MockConfig, MockFabric, MockNet, MockSharedRegion, MockTrack, MockWindow};

type Carrier = RendezvousCarrier<MockFabric>;

const LEND: u8 = 48;
const FETCHED: u8 = 49;
const MAX_MESSAGE: usize = 10_000;
/// How long what is lent here is.
const LEN: usize = 1000;
/// Two tracks of 24 slots each way, a carrier, and a message.
const MOST_MEMORY: u64 = (64 << 10) + 2 * MAX_MESSAGE as u64;

fn track() -> MockConfig {
    MockConfig::default().with_max_message(256).with_send_slots(8).with_recv_slots(24)
}

fn config(fabric: &MockFabric) -> RendezvousConfig<MockFabric> {
    let messages = MessageConfig::default().with_max_message(MAX_MESSAGE);
    RendezvousConfig::new(fabric.clone()).with_messages(messages).with_lend_from(300)
}

/// A carrier whose peer says what it likes, and lends what it has; the handshake was honest. Beside them two that get on.
struct Scene {
    carrier: Carrier,
    raw: Raw,
    lent: (MockSharedRegion, MockWindow),
    fabrics: [MockFabric; 2],
    bystanders: Pair<Carrier, Carrier>,
}

fn scene_with(features: u64) -> Scene {
    let net = MockNet::virtual_time().0;
    let Pair { left, right, fabrics } = tracks_in(&net, track(), track());
    let mut raw = Raw::new(left);
    let hello = Greeting { optional: features, window: 24, credits: 24, ..Greeting::honest(HELLO) };
    assert!(raw.say(&hello.bytes()));
    let carrier = block_on(RendezvousCarrier::open(right, Role::Acceptor, config(&fabrics[1]))).unwrap();
    assert_eq!(raw.hear().unwrap()[0], WELCOME);
    let mut region = fabrics[0].alloc(LEN).unwrap();
    region.copy_from_slice(&pattern(1, LEN));
    let memory = region.share();
    let window = memory.export(0..LEN, Access::ReadOnly).unwrap();
    let bystanders = bystanders(&fabrics);
    Scene { carrier, raw, lent: (memory, window), fabrics, bystanders }
}

fn scene() -> Scene {
    scene_with(1 << 8)
}

/// Two carriers on tracks of their own, of the same fabrics.
fn bystanders(fabrics: &[MockFabric; 2]) -> Pair<Carrier, Carrier> {
    let (left, right) = joined(fabrics);
    let (left, right) = both(
        RendezvousCarrier::open(left, Role::Connector, config(&fabrics[0])),
        RendezvousCarrier::open(right, Role::Acceptor, config(&fabrics[1])),
    );
    Pair { left: left.unwrap(), right: right.unwrap(), fabrics: fabrics.clone() }
}

fn joined(fabrics: &[MockFabric; 2]) -> (MockTrack, MockTrack) {
    use trespass_core::{Fabric, Incoming, ListenerExt};

    let there = "beside".parse().unwrap();
    let mut listener = fabrics[1].listen(&there).unwrap();
    let connecting = fabrics[0].connect(&there);
    block_on(async {
        let right = listener.incoming().await.unwrap().accept().await.unwrap();
        (connecting.await.unwrap(), right)
    })
}

impl Scene {
    /// The window that is lent here, as bytes.
    fn window(&self) -> [u8; 24] {
        self.lent.1.remote().encode()
    }

    fn lend(&self, body: &[u8]) -> Vec<u8> {
        frame(LEND, self.raw.track.posted() as u32, body)
    }

    /// What the carrier comes to when it receives all that there is, and then has something to send.
    fn provoke(&mut self) -> Option<Error> {
        loop {
            match self.carrier.try_recv() {
                Ok(Some(message)) => assert!(!message.was_lent() || pattern(1, LEN).starts_with(&message)),
                Ok(None) | Err(TryError::WouldBlock) => break,
                Err(TryError::Failed(error)) => return Some(error),
            }
        }
        loop {
            match self.carrier.try_send(b"x") {
                Ok(()) => {}
                Err(TryError::WouldBlock) => return None,
                Err(TryError::Failed(error)) => return Some(error),
            }
        }
    }

    /// The same, and that it is told as it should be: a failure closes the track and sticks, and those beside notice nothing.
    fn fate(mut self) -> (Fate, Option<Error>) {
        let ended = self.provoke();
        let fate = match ended.as_ref().map(TransportError::kind) {
            None => Fate::Lives,
            Some(ErrorKind::RemoteAccess) => Fate::Denied,
            Some(kind) => {
                assert_eq!(kind, ErrorKind::Protocol, "{ended:?}");
                Fate::Nonsense
            }
        };
        if let Some(error) = &ended {
            assert!(self.is_closed(), "{error:?} and an open track");
            assert_eq!(self.carrier.try_send(b"x").unwrap_err(), TryError::Failed(error.clone()));
            assert_eq!(block_on(self.carrier.close()).unwrap_err(), *error);
        }
        self.bystanders_are_well();
        // Whatever was read or not: the lender has its memory.
        let (memory, window) = self.lent;
        window.revoke().unwrap();
        assert_eq!(memory.reclaim().expect("nobody has it").to_vec(), pattern(1, LEN));
        (fate, ended)
    }

    /// Whether the peer's track has ended, too.
    fn is_closed(&mut self) -> bool {
        loop {
            match self.raw.track.try_recv() {
                Ok(_) => {}
                Err(TryError::WouldBlock) => return false,
                Err(TryError::Failed(error)) => {
                    return matches!(error.kind(), ErrorKind::Closed | ErrorKind::RemoteAccess);
                }
            }
        }
    }

    fn bystanders_are_well(&mut self) {
        let Pair { left, right, .. } = &mut self.bystanders;
        let mut region = left.alloc(LEN).unwrap();
        region.copy_from_slice(&pattern(2, LEN));
        block_on(async {
            left.send_region(region, 0..LEN).await.unwrap();
            let message = right.recv().await.unwrap().expect("a message");
            assert!(message.was_lent() && *message == pattern(2, LEN));
            assert!(left.returned().await.is_some());
        });
    }
}

fn expect(what: &str, scene: Scene, expected: Fate) {
    let mut found = None;
    let used = measure(|| found = Some(scene.fate()));
    let (fate, error) = found.expect("it was looked for");
    assert_eq!(fate, expected, "{what}: {error:?}");
    assert!(used.bytes_max < MOST_MEMORY, "{} bytes: {what}", used.bytes_max);
}

/// Says `bytes` to a carrier of a scene, which `with` makes of it.
fn said(with: impl FnOnce(&Scene) -> Vec<u8>) -> Scene {
    let mut scene = scene();
    let bytes = with(&scene);
    assert!(scene.raw.say(&bytes));
    scene
}

/// The credits: of 24 so many were taken, and may have been posted again.
fn credits(taken: u64) -> Field {
    field("credits", 4, 4, move |value| (24..=24 + taken).contains(&value))
}

/// The fields of a window that is lent from `start` on, under `key`.
fn window_fields(key: u64, start: u64) -> Vec<Field> {
    let (len, max) = (LEN as u64, MAX_MESSAGE as u64);
    vec![
        field("version", 8, 1, |value| value == 1),
        // What it allows beyond reading is the lender's affair.
        field("access", 9, 1, |value| value <= 1),
        field("zeros", 10, 2, |value| value == 0),
        fated("key", 12, 4, move |value| if value == key { Fate::Lives } else { Fate::Denied }),
        fated("start", 16, 8, move |value| match value.checked_add(len) {
            None => Fate::Nonsense,
            Some(_) if value == start => Fate::Lives,
            Some(_) => Fate::Denied,
        }),
        fated("length", 24, 8, move |value| match start.checked_add(value) {
            Some(_) if (1..=len).contains(&value) => Fate::Lives,
            Some(_) if (1..=max).contains(&value) => Fate::Denied,
            // Nothing at all, more than was agreed, or beyond the last address.
            _ => Fate::Nonsense,
        }),
    ]
}

#[test]
fn the_tables_are_complete() {
    let scene = scene();
    let lend = scene.lend(&scene.window());
    let fields: Vec<Field> = header(LEND).into_iter().chain([credits(1)]).chain(window_fields(0, 0)).collect();
    assert_complete("Lend", &fields, 0..lend.len());
    assert_complete("Fetched", header(FETCHED).iter().chain([&credits(2)]), 0..frame(FETCHED, 24, b"").len());
}

#[test]
fn every_field_of_a_lend() {
    let mut tried = 0;
    // Keys and addresses are others in each scene, so the values are made for each.
    let field_of = |scene: &Scene, at: usize| -> (Field, Vec<u8>) {
        let honest = scene.lend(&scene.window());
        let word = |at: usize, len: usize| field("", at, len, |_| true).read(&honest);
        let fields = header(LEND).into_iter().skip(1).chain([credits(1)]);
        (fields.chain(window_fields(word(12, 4), word(16, 8))).nth(at).expect("a field"), honest)
    };
    for at in 0..9 {
        for nth in 0.. {
            let scene = scene();
            let (field, honest) = field_of(&scene, at);
            let Some((value, bytes)) = field.broken(&honest).into_iter().nth(nth) else { break };
            let mut scene = scene;
            assert!(scene.raw.say(&bytes));
            expect(&format!("{}: {value:#x}", field.name), scene, (field.fate)(value));
            tried += 1;
        }
    }
    assert!(tried > 250, "{tried}");
}

#[test]
fn every_length_of_a_lend() {
    for len in 0..33 {
        let fate = if len == 32 { Fate::Lives } else { Fate::Nonsense };
        expect(
            &format!("{len} bytes"),
            said(|scene| scene.lend(&[&scene.window()[..], &[0]].concat())[..len].to_vec()),
            fate,
        );
    }
    for more in [1, 8, 100, 256 - 32] {
        let longer = said(|scene| [scene.lend(&scene.window()), vec![0; more]].concat());
        expect(&format!("{more} bytes more"), longer, Fate::Nonsense);
    }
}

/// Windows that were good, or are elsewhere: a device says that there is no such thing.
#[test]
fn windows_that_are_gone_or_anothers() {
    // Revoked before it is read.
    let mut gone = scene();
    let extra = gone.lent.0.export(0..LEN, Access::ReadOnly).unwrap();
    let lend = gone.lend(&extra.remote().encode());
    extra.revoke().unwrap();
    assert!(gone.raw.say(&lend));
    expect("revoked", gone, Fate::Denied);
    // Of a fabric that the carrier's track does not lead to: its own, and a third one.
    let mut own = scene();
    let memory = own.fabrics[1].alloc(LEN).unwrap().share();
    let window = memory.export(0..LEN, Access::ReadWrite).unwrap();
    let lend = own.lend(&window.remote().encode());
    assert!(own.raw.say(&lend));
    expect("the carrier's own", own, Fate::Denied);
    let third = MockFabric::new().alloc(LEN).unwrap().share();
    let window = third.export(0..LEN, Access::ReadWrite).unwrap();
    expect("a third fabric's", said(|scene| scene.lend(&window.remote().encode())), Fate::Denied);
    // Once it was read it may be gone.
    let mut read = scene();
    let extra = read.lent.0.export(0..LEN, Access::ReadOnly).unwrap();
    let lend = read.lend(&extra.remote().encode());
    assert!(read.raw.say(&lend));
    assert_eq!(*block_on(read.carrier.recv()).unwrap().unwrap(), pattern(1, LEN));
    extra.revoke().unwrap();
    expect("read and revoked", read, Fate::Lives);
}

/// One that cannot be read does not take those before it along.
#[test]
fn what_was_lent_before_is_read_first() {
    let mut scene = scene();
    let (good, mut bad) = (scene.window(), scene.window());
    bad[4] ^= 1;
    for window in [good, good, bad] {
        let lend = scene.lend(&window);
        assert!(scene.raw.say(&lend));
    }
    for _ in 0..2 {
        assert_eq!(*block_on(scene.carrier.recv()).unwrap().unwrap(), pattern(1, LEN));
    }
    expect("two good ones and a bad one", scene, Fate::Denied);
}

#[test]
fn every_field_of_a_fetched() {
    let mut tried = 0;
    let fields: Vec<Field> = header(FETCHED).into_iter().skip(1).chain([credits(2)]).collect();
    for field in &fields {
        for (value, bytes) in field.broken(&frame(FETCHED, 24, b"")) {
            let mut scene = scene();
            lend_one(&mut scene);
            assert!(scene.raw.say(&bytes));
            let what = format!("{}: {value:#x}", field.name);
            expect_memory_back(&mut scene, &what, (field.fate)(value));
            expect(&what, scene, (field.fate)(value));
            tried += 1;
        }
    }
    assert!(tried > 70, "{tried}");
    for len in (0..8).chain([9, 32, 256]) {
        let mut scene = scene();
        lend_one(&mut scene);
        assert!(scene.raw.say(&[frame(FETCHED, 24, b""), vec![0; 256]].concat()[..len]));
        expect_memory_back(&mut scene, "", Fate::Nonsense);
        expect(&format!("{len} bytes"), scene, Fate::Nonsense);
    }
}

/// The carrier lends a message, and the peer hears of it.
fn lend_one(scene: &mut Scene) {
    let region = scene.carrier.alloc(LEN).unwrap();
    block_on(scene.carrier.send_region(region, 0..LEN)).unwrap();
    assert_eq!(scene.raw.hear().unwrap()[0], LEND);
}

/// Memory comes back when the peer says so in good form, and else with the end.
fn expect_memory_back(scene: &mut Scene, what: &str, fate: Fate) {
    assert!(scene.carrier.try_returned().is_some(), "{what}");
    assert!(scene.carrier.try_returned().is_none(), "{what}");
    assert_eq!(scene.carrier.track().is_some(), fate == Fate::Lives, "{what}");
}

#[test]
fn a_fetched_too_many_is_one_out_of_place() {
    for lent in 0..3 {
        let mut scene = scene();
        for _ in 0..lent {
            lend_one(&mut scene);
        }
        for _ in 0..=lent {
            assert!(scene.raw.frame(FETCHED, b""));
        }
        for _ in 0..lent {
            assert!(scene.carrier.try_returned().is_some());
        }
        let (fate, error) = scene.fate();
        assert_eq!((fate, error), (Fate::Nonsense, Some(CarrierError::Protocol(Violation::OutOfPlace(FETCHED)))));
    }
}

#[test]
fn where_it_was_not_agreed_nothing_is_lent() {
    for features in [0, 1 << 7, !(1 << 8)] {
        for (kind, lent) in [(LEND, true), (FETCHED, false)] {
            let mut scene = scene_with(features);
            assert!(!scene.carrier.lends());
            let body = if lent { scene.window().to_vec() } else { Vec::new() };
            assert!(scene.raw.frame(kind, &body));
            let (fate, error) = scene.fate();
            assert_eq!((fate, error), (Fate::Nonsense, Some(CarrierError::Protocol(Violation::OutOfPlace(kind)))));
        }
    }
}

/// A Lend where none may be: within a message, and after each end.
#[test]
fn a_lend_in_the_wrong_place() {
    let begun = support::raw::first(10, b"1234");
    let (first, fin, bye) = (support::raw::FIRST, support::raw::FIN, support::raw::BYE);
    for (kind, body, violation) in [
        (first, &begun[..], Violation::Interleaved(LEND)),
        (fin, &[], Violation::AfterFin(LEND)),
        (bye, &[], Violation::AfterFin(LEND)),
    ] {
        let mut scene = scene();
        assert!(scene.raw.frame(kind, body));
        let lend = scene.lend(&scene.window());
        assert!(scene.raw.say(&lend));
        assert_eq!(scene.provoke(), Some(CarrierError::Protocol(violation)));
        assert!(scene.is_closed());
        scene.bystanders_are_well();
    }
}

/// A peer that lends more than 64 before any is read. The carrier sends, and waits for credits that do not come, so that it takes
/// in whatever comes and reads nothing.
#[test]
fn more_than_sixty_four_at_a_time_are_too_many() {
    let mut scene = scene();
    let data = [7; MAX_MESSAGE];
    let mut lent = 0;
    let error = {
        // The peer gives no credits beyond those of the handshake.
        let mut sending = Box::pin(scene.carrier.send(&data));
        loop {
            if let std::task::Poll::Ready(outcome) = poll_once(&mut sending) {
                break outcome.unwrap_err();
            }
            while scene.raw.track.try_recv().is_ok() {}
            let lend = frame(LEND, 24, &scene.lent.1.remote().encode());
            assert!(scene.raw.say(&lend));
            lent += 1;
            assert!(lent <= 65, "the carrier remembers more than was agreed");
        }
    };
    assert_eq!((lent, &error), (65, &CarrierError::Protocol(Violation::OutOfPlace(LEND))));
    assert!(scene.is_closed());
    scene.bystanders_are_well();
}

/// That these tests can fail.
#[test]
fn nonsense_is_told_from_sense() {
    assert!(catch_unwind(|| expect("honest", said(|scene| scene.lend(&scene.window())), Fate::Denied)).is_err());
    assert!(catch_unwind(|| expect("nonsense", said(|scene| scene.lend(&[0; 24])), Fate::Lives)).is_err());
}
