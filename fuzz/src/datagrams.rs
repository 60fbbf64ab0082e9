//! A whole carrier over datagrams, against a peer that says anything.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arbitrary::Unstructured;
use trespass_carriers::fuzzing::{byte, bytes, word};
use trespass_carriers::{DatagramCarrier, DatagramConfig, Message, Phase};
use trespass_core::{
    Carrier, ErrorKind, Fabric, Incoming, ListenerExt, RecvSide, Role, SendSide, TransportError, TryError,
};
use trespass_mock::{MockConfig, MockDatagramConfig, MockDatagramTrack, MockDriver, MockError, MockNet};

use super::clock::{Flag, wait};
use super::messages::pattern;
use super::meter::Meter;
use super::raw::{Error, TIMEOUT};
use super::told::{BYE, HELLO, REFUSE, WELCOME};

const WHOLE: u8 = 80;
const SEGMENT: u8 = 81;
const READY: u8 = 82;
const BEAT: u8 = 83;

/// A [`DatagramCarrier`].
///
/// | byte | |
/// |---|---|
/// | 0 | bit 0: it connects; 1–2: length of a datagram; 3–4: longest message; 5–6: how many at once; 7: it beats, and counts silence |
/// | 1 | how the peer shakes hands: to 191 as it should, to 239 with a byte changed (place, difference), else bytes as they are |
///
/// Then each byte is an act, of so many times as its upper half says, less 1; its lower half says which, and what follows it:
///
/// | | the peer | | the application |
/// |---|---|---|---|
/// | 0 | a whole message: number, length | 8 | receives, without a wait; odd times it keeps what it has |
/// | 1, 2 | a segment: number, total (two), index | 9 | waits to receive, for as long as the peer acts |
/// | 3 | a segment of any number: four bytes, and so on | 10 | reserves, fills and sends: the length |
/// | 4 | control: which | 11 | sends, by a future that is polled so often: the length in two bytes, how often |
/// | 5 | bytes as they are: how many, and these | 12 | flushes; odd: closes, by one poll, where a byte below 32 follows |
/// | 6 | takes what has come | 13 | lets go of what it kept |
/// | 7 | shakes hands again | 14, 15 | time passes: how many 20 ms |
pub fn datagrams(script: &[u8]) {
    let mut script = Unstructured::new(script);
    let choice = byte(&mut script);
    let role = if choice & 1 == 0 { Role::Acceptor } else { Role::Connector };
    let mtu = [128, 256, 200, 1000][usize::from(choice >> 1 & 3)];
    let longest = [1500, 300, 100, 5000][usize::from(choice >> 3 & 3)];
    let assemblies = [2, 1, 4, 16][usize::from(choice >> 5 & 3)];
    let silence = (choice >> 7 == 1).then_some(Duration::from_millis(700));
    let config = DatagramConfig::default()
        .with_max_message(longest)
        .with_assemblies(assemblies, Duration::from_millis(300))
        .with_pool_limit(4000)
        .with_open_timeout(TIMEOUT)
        .with_close_timeout(TIMEOUT)
        .with_idle_timeout(silence)
        .with_keepalive(silence);
    // As `DatagramConfig` says: up to four times what is needed, and the pool; and what the application keeps.
    let memory = OVERHEAD + 4 * (assemblies + KEPT + 1) * longest.next_power_of_two() + 4000;
    let (mut clock, track, peer) = tracks(role, mtu);
    let mut meter = Meter::new(memory);
    let opening = meter.run(|| DatagramCarrier::open(track, role, config));
    let mut peer = Peer { track: peer, mtu, carrier: 0, session: 0x5a5a_a5a5 };
    let Some(carrier) = shake(&mut clock, &mut peer, role, &mut script, opening) else { return };
    let mut talk = Talk {
        carrier,
        clock,
        peer,
        meter,
        told: BTreeMap::new(),
        near: true,
        strange: false,
        left: false,
        silence: silence.is_some(),
        sent: BTreeSet::new(),
        kept: Vec::new(),
        waiting: None,
        closed: false,
        over: None,
        longest,
        count: 0,
    };
    while !script.is_empty() {
        talk.act(&mut script);
    }
    talk.end();
}

/// What a carrier may have, beyond messages.
const OVERHEAD: usize = 32 << 10;
/// The most messages that the application keeps.
const KEPT: usize = 4;

fn tracks(role: Role, mtu: usize) -> (MockDriver, MockDatagramTrack, MockDatagramTrack) {
    let (net, clock) = MockNet::virtual_time();
    let fabric = net.fabric(MockConfig::default()).expect("the defaults");
    let config = MockDatagramConfig::default().with_mtu(mtu).with_slots(8, 16);
    let fabric = fabric.datagrams(config).expect("sizes that will do");
    let addr = "there".parse().expect("an address");
    let mut listener = fabric.listen(&addr).expect("nobody else listens");
    let connecting = fabric.connect(&addr);
    let mut ready = pin!(async {
        let accepted = listener.incoming().await?.accept().await?;
        Ok::<_, MockError>((accepted, connecting.await?))
    });
    let Poll::Ready(Ok((accepted, connected))) = ready.as_mut().poll(&mut noop()) else {
        panic!("a connection takes no time")
    };
    match role {
        Role::Acceptor => (clock, accepted, connected),
        _ => (clock, connected, accepted),
    }
}

struct Peer {
    track: MockDatagramTrack,
    mtu: usize,
    /// The carrier's session, once it is known.
    carrier: u32,
    session: u32,
}

impl Peer {
    /// Sends bytes as they are. Whether the track took them.
    fn say(&mut self, bytes: &[u8]) -> bool {
        let Ok(mut buf) = self.track.try_reserve(bytes.len()) else { return false };
        buf.copy_from_slice(bytes);
        self.track.send(buf).is_ok() && self.track.flush().is_ok()
    }

    fn hear(&mut self) -> Option<Vec<u8>> {
        self.track.try_recv().ok().map(|datagram| datagram.to_vec())
    }

    /// What a datagram of the session begins with.
    fn header(&self, kind: u8, number: u32) -> Vec<u8> {
        let tag = (self.carrier as u16).to_le_bytes();
        [[kind, 0, tag[0], tag[1]], number.to_le_bytes()].concat()
    }

    fn greeting(&self, kind: u8) -> Vec<u8> {
        let mut bytes = [[kind, 0, 0, 0], self.session.to_le_bytes(), *b"tres", *b"pass", [1, 0, 1, 0]].concat();
        bytes.extend([64, 0, 3, 0]);
        bytes.extend([0; 16]);
        bytes.extend(16_u32.to_le_bytes());
        bytes.extend((self.mtu as u32).to_le_bytes());
        bytes.extend((1_u64 << 20).to_le_bytes());
        bytes.extend((self.mtu as u32 - 8).to_le_bytes());
        bytes.extend(self.carrier.to_le_bytes());
        bytes.extend([7; 8]);
        bytes
    }
}

/// Shakes hands, as the script wants. `None` where that came to nothing, as it should.
fn shake(
    clock: &mut MockDriver,
    peer: &mut Peer,
    role: Role,
    script: &mut Unstructured<'_>,
    opening: impl Future<Output = Result<DatagramCarrier<MockDatagramTrack>, Error>>,
) -> Option<DatagramCarrier<MockDatagramTrack>> {
    let spoil = byte(script);
    let (place, difference) = if spoil < 192 { (0, 0) } else { (usize::from(byte(script)), byte(script)) };
    let odd = bytes(script, if spoil < 240 { 0 } else { place.min(peer.mtu) });
    let mut opening = pin!(opening);
    let (first, mut turn) = (if role == Role::Acceptor { HELLO } else { WELCOME }, 0);
    let meanwhile = || {
        // The connector speaks first, and the acceptor hears that it was heard.
        while let Some(frame) = peer.hear() {
            let session = frame.get(4..8).and_then(|session| session.first_chunk()).expect("eight bytes at least");
            if frame[0] != REFUSE {
                peer.carrier = u32::from_le_bytes(*session);
            }
        }
        turn += 1;
        let mut bytes = match turn {
            1 if role == Role::Acceptor || peer.carrier != 0 => peer.greeting(first),
            2 => peer.header(READY, 0),
            _ => return false,
        };
        if spoil >= 192 && turn == 1 {
            let at = place % bytes.len();
            bytes[at] ^= difference;
        }
        peer.say(if spoil < 240 { &bytes } else { odd })
    };
    match wait(clock, |cx| opening.as_mut().poll(cx), meanwhile) {
        Ok(carrier) => {
            while peer.hear().is_some() {}
            Some(carrier)
        }
        Err(error) => {
            let right = matches!(
                error,
                Error::Refused(_) | Error::Incompatible(_) | Error::Disconnected | Error::TimedOut(Phase::Open)
            );
            assert!(right && spoil >= 192, "{error:?}");
            None
        }
    }
}

struct Talk {
    carrier: DatagramCarrier<MockDatagramTrack>,
    clock: MockDriver,
    peer: Peer,
    meter: Meter,
    /// What was said of each message: how often it came out, and of what it may be made.
    told: BTreeMap<u32, Told>,
    /// All numbers lie within what is remembered, so none may come twice.
    near: bool,
    /// Something was said of which nobody knows what it means.
    strange: bool,
    left: bool,
    silence: bool,
    /// Which messages were sent, or begun.
    sent: BTreeSet<u32>,
    kept: Vec<Message<MockDatagramTrack>>,
    waiting: Option<Arc<Flag>>,
    closed: bool,
    /// What receiving has ended with.
    over: Option<Option<Error>>,
    longest: usize,
    count: usize,
}

#[derive(Debug, Default)]
struct Told {
    received: usize,
    wholes: Vec<usize>,
    totals: Vec<usize>,
}

impl Talk {
    fn act(&mut self, script: &mut Unstructured<'_>) {
        let act = byte(script);
        for _ in 0..=act >> 4 {
            self.count += 1;
            if act & 15 < 8 {
                self.peer_acts(act & 15, script);
                self.still_waits();
            } else {
                self.waiting = None;
                self.application_acts(act & 15, script);
            }
        }
    }

    fn peer_acts(&mut self, act: u8, script: &mut Unstructured<'_>) {
        match act {
            0 => {
                let (number, len) = (byte(script).into(), usize::from(byte(script)).min(self.peer.mtu - 8));
                if self.say(WHOLE, number, &content(number, 0, len)) {
                    self.told.entry(number).or_default().wholes.push(len);
                }
            }
            1 | 2 => self.segment(u32::from(byte(script)), script),
            3 => {
                self.near = false;
                self.segment(u32::from(word(script)) << 16 | u32::from(word(script)), script);
            }
            4 => match byte(script) % 8 {
                0..=2 => drop(self.say(BEAT, 0, &[])),
                3 | 4 => drop(self.say(READY, 0, &[])),
                5 => drop(self.say(WHOLE, 1 << 31, &[1; 200])),
                6 => drop(self.say(SEGMENT, 0, &[])),
                _ => self.left |= self.say(BYE, 0, &[]),
            },
            5 => {
                let len = usize::from(byte(script)).min(self.peer.mtu);
                // A Whole, a part of one, or a goodbye may be in it.
                self.strange |= self.peer.say(bytes(script, len));
            }
            6 => self.peer_takes(),
            _ => drop(self.peer.say(&self.peer.greeting(if byte(script) % 2 == 0 { HELLO } else { WELCOME }))),
        }
    }

    fn say(&mut self, kind: u8, number: u32, body: &[u8]) -> bool {
        self.strange |= number >> 31 == 1;
        self.peer.say(&[&self.peer.header(kind, number), body].concat())
    }

    fn segment(&mut self, number: u32, script: &mut Unstructured<'_>) {
        let (total, index, room) = (usize::from(word(script)) % 6000, u32::from(byte(script)), self.peer.mtu - 16);
        let start = index as usize * room;
        let body = content(number, start, room.min(total.saturating_sub(start)));
        let fields = [(total as u32).to_le_bytes(), index.to_le_bytes()].concat();
        if self.say(SEGMENT, number, &[fields, body].concat()) {
            self.told.entry(number).or_default().totals.push(total);
        }
    }

    /// The peer takes what has come. Nothing is lost between them but for want of receives, so each message is one of those
    /// that were sent.
    fn peer_takes(&mut self) {
        while let Some(datagram) = self.peer.hear() {
            let (header, body) = datagram.split_first_chunk::<8>().expect("eight bytes at least");
            match header[0] {
                // A shorter one does not say which it is.
                WHOLE => body.first_chunk().into_iter().for_each(|number| {
                    let number = u32::from_le_bytes(*number);
                    let sent = self.sent.contains(&number) && body == content(number, 0, body.len());
                    assert!(sent, "a message that nobody sent: {body:x?}");
                }),
                SEGMENT | READY | BEAT | WELCOME => {}
                BYE => assert!(self.closed, "a goodbye that nobody asked for"),
                _ => panic!("it says {datagram:x?}"),
            }
        }
    }

    /// Whoever waits to receive, and was not woken, waits for good reason.
    fn still_waits(&mut self) {
        let woken = self.waiting.take().is_none_or(|flag| flag.take());
        if !woken {
            let (flag, waker) = Flag::new();
            let polled = self.meter.run(|| self.carrier.poll_recv(&mut Context::from_waker(&waker)));
            assert!(polled.is_pending(), "nobody was woken");
            self.waiting = Some(flag);
        }
    }

    fn application_acts(&mut self, act: u8, script: &mut Unstructured<'_>) {
        match act {
            8 => match self.meter.run(|| self.carrier.try_recv()) {
                Ok(message) => self.received(message),
                Err(TryError::WouldBlock) => assert!(self.over.is_none(), "it waits, after the end"),
                Err(TryError::Failed(error)) => self.recv_failed(error),
            },
            9 => {
                let (flag, waker) = Flag::new();
                match self.meter.run(|| self.carrier.poll_recv(&mut Context::from_waker(&waker))) {
                    Poll::Ready(Ok(message)) => self.received(message),
                    Poll::Ready(Err(error)) => self.recv_failed(error),
                    Poll::Pending => self.waiting = Some(flag),
                }
            }
            10 => {
                let number = self.count as u32;
                let data = content(number, 0, byte(script).into());
                match self.meter.run(|| self.carrier.try_send(&data)) {
                    Ok(()) => drop(self.sent.insert(number)),
                    Err(TryError::Failed(error)) => self.send_failed(&error, data.len()),
                    Err(TryError::WouldBlock) => {}
                }
            }
            11 => self.send(usize::from(word(script)) % 6000, byte(script) % 8),
            12 if byte(script) % 2 == 1 => {
                if byte(script) < 32 {
                    self.closed = true;
                    let closed = self.meter.run(|| self.carrier.poll_close(&mut noop()));
                    assert!(!matches!(closed, Poll::Ready(Err(_))), "{closed:?}");
                }
            }
            12 => drop(self.meter.run(|| self.carrier.flush())),
            13 => {
                let kept = std::mem::take(&mut self.kept);
                self.meter.run(|| drop(kept));
            }
            _ => self.clock.advance(Duration::from_millis(20) * byte(script).into()),
        }
    }

    fn send(&mut self, len: usize, polls: u8) {
        let number = self.count as u32;
        let data = content(number, 0, len);
        let outcome = self.meter.run(|| {
            let mut sending = self.carrier.send(&data);
            let polled = (0..=polls).map(|_| Pin::new(&mut sending).poll(&mut noop())).find(Poll::is_ready);
            polled.unwrap_or(Poll::Pending)
        });
        match outcome {
            Poll::Ready(Ok(())) => drop(self.sent.insert(number)),
            Poll::Ready(Err(error)) => self.send_failed(&error, len),
            Poll::Pending => {}
        }
    }

    fn send_failed(&mut self, error: &Error, len: usize) {
        let right = match error.kind() {
            ErrorKind::Oversize => len > self.carrier.eager_limit(),
            ErrorKind::Closed => self.closed || self.left || self.strange,
            _ => false,
        };
        assert!(right, "{error:?}");
    }

    fn received(&mut self, message: Option<Message<MockDatagramTrack>>) {
        let Some(message) = message else {
            assert!(self.left || self.strange, "a goodbye that the peer has not said");
            self.over = Some(None);
            return;
        };
        assert!(self.over.is_none(), "a message after the end");
        assert!(message.len() <= self.longest);
        self.explain(&message);
        match self.count % 2 == 1 && self.kept.len() < KEPT {
            true => self.kept.push(message),
            false => self.meter.run(|| drop(message)),
        }
    }

    /// A message is one of those that were said; each only once, as far as its bytes say which it is.
    fn explain(&mut self, message: &[u8]) {
        if self.strange || message.len() < 4 {
            return;
        }
        let found = self.told.iter_mut().find(|(number, told)| {
            let said = told.wholes.contains(&message.len()) || told.totals.contains(&message.len());
            said && (told.received == 0 || !self.near) && *message == content(**number, 0, message.len())
        });
        match found {
            Some((_, told)) => told.received += 1,
            None => panic!("a message that nobody sent, or that came before: {message:x?}"),
        }
    }

    fn recv_failed(&mut self, error: Error) {
        let right = match error {
            Error::Closed => self.closed,
            Error::TimedOut(Phase::Idle) => self.silence,
            _ => false,
        };
        assert!(right, "{error:?}");
        match &self.over {
            Some(first) => assert_eq!(first.as_ref(), Some(&error), "another error than at first"),
            None => self.over = Some(Some(error)),
        }
    }

    /// Everything ends in its time.
    fn end(mut self) {
        let kept = std::mem::take(&mut self.kept);
        self.meter.run(|| drop(kept));
        for _ in 0..10_000 {
            match self.meter.run(|| self.carrier.try_recv()) {
                Ok(Some(message)) => self.received(Some(message)),
                Ok(None) | Err(_) => break,
            }
        }
        self.closed = true;
        let Self { carrier, clock, meter, .. } = &mut self;
        let closed = wait(clock, |cx| meter.run(|| carrier.poll_close(cx)), || false);
        assert_eq!(closed, Ok(()), "a close that waits for the own device alone");
        assert_eq!(self.carrier.poll_close(&mut noop()), Poll::Ready(closed));
        assert!(self.carrier.try_send(b"x").is_err_and(|error| error != TryError::WouldBlock));
        self.peer_takes();
    }
}

/// What message `number` has from place `from` on. Its first bytes tell it from every other.
fn content(number: u32, from: usize, len: usize) -> Vec<u8> {
    let all = [&number.to_le_bytes(), pattern(number as usize, from + len).as_slice()].concat();
    all[from..from + len].to_vec()
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
