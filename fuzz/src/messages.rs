//! A whole carrier of messages, against a peer that says anything.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arbitrary::Unstructured;
use trespass_carriers::fuzzing::{byte, bytes, word};
use trespass_carriers::{Finishing, MessageBuf, MessageCarrier, MessageConfig, Phase, Sending};
use trespass_core::{ErrorKind, RemoteWindow, Role, TransportError, TryError};
use trespass_mock::{MockDriver, MockFabric, MockRegion, MockTrack};

use super::clock::{Flag, wait};
use super::meter::Meter;
use super::raw::{Ends, Error, Raw, SILENCE, Sort, TIMEOUT, ends, shake};
use super::told::{ABORT, BYE, CREDIT, FETCHED, FIN, FIRST, LEND, MESSAGE, MORE, REFUSE, Told, Whole};

/// A [`MessageCarrier`].
///
/// The first byte of a script says how large everything is ([`ends`]), the second how the carrier is set up ([`config`]), two or
/// more how hands are shaken. Then each byte is an act, of so many times as its upper half says, less 1; its lower half says
/// which, and what follows it:
///
/// | | the peer | | the application |
/// |---|---|---|---|
/// | 0 | a whole message: its length | 8 | receives, without a wait; odd times it keeps what it has |
/// | 1 | begins one: its length in two bytes, that of the segment | 9 | waits to receive, for as long as the peer acts |
/// | 2 | more of it: at most so many bytes | 10 | reserves, fills and sends: the length |
/// | 3 | control: which | 11 | sends, by a future that is polled so often: the length in two bytes, how often |
/// | 4 | bytes as they are: how many, and these | 12 | finishes, or closes, by one poll: odd closes |
/// | 5 | a frame of any kind and too many credits (signed): kind, credits, length | 13 | lets go of what it kept, or flushes, or waits for room to send: which |
/// | 6 | takes what has come, and gives credits: odd | 14 | time passes: how many 100 ms |
/// | 7 | lends; or says what was lent is read; or goes: which | 15 | lends: the length; or asks what came back |
pub fn messages(script: &[u8]) {
    converse::<MessageCarrier<MockTrack>>(script);
}

/// What carriers of messages have in common.
pub(crate) trait Carrier: Sized {
    type Message: Deref<Target = [u8]>;

    fn open(
        fabric: &MockFabric,
        track: MockTrack,
        role: Role,
        config: MessageConfig,
    ) -> impl Future<Output = Result<Self, Error>>;
    fn try_recv(&mut self) -> Result<Option<Self::Message>, TryError<Error>>;
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Self::Message>, Error>>;
    fn send<'a>(&'a mut self, data: &'a [u8]) -> Sending<'a, MockTrack>;
    fn try_reserve(&mut self, len: usize) -> Result<MessageBuf<MockTrack>, TryError<Error>>;
    fn send_buf(&mut self, buf: MessageBuf<MockTrack>) -> Result<(), Error>;
    fn flush(&mut self) -> Result<(), Error>;
    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    fn finish(&mut self) -> Finishing<'_, MockTrack>;
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    fn is_over(&self) -> bool;
    fn max_message(&self) -> usize;
    /// Whether the peer knows of lending too.
    fn lends(&self) -> bool;
    /// Lends memory, if it can.
    fn lend(&mut self, cx: &mut Context<'_>, region: MockRegion) -> Poll<Result<(), Error>>;
    /// Memory that came back.
    fn poll_returned(&mut self, cx: &mut Context<'_>) -> Poll<Option<MockRegion>>;
}

/// What carriers of messages have by the same names: their own methods.
macro_rules! own_methods {
    () => {
        fn try_recv(&mut self) -> Result<Option<Self::Message>, TryError<Error>> {
            self.try_recv()
        }

        fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Self::Message>, Error>> {
            self.poll_recv(cx)
        }

        fn send<'a>(&'a mut self, data: &'a [u8]) -> Sending<'a, MockTrack> {
            self.send(data)
        }

        fn try_reserve(&mut self, len: usize) -> Result<MessageBuf<MockTrack>, TryError<Error>> {
            self.try_reserve(len)
        }

        fn send_buf(&mut self, buf: MessageBuf<MockTrack>) -> Result<(), Error> {
            self.send_buf(buf).map_err(|unsent| unsent.error)
        }

        fn flush(&mut self) -> Result<(), Error> {
            self.flush()
        }

        fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
            self.poll_send_ready(cx)
        }

        fn finish(&mut self) -> Finishing<'_, MockTrack> {
            self.finish()
        }

        fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
            trespass_core::Carrier::poll_close(self, cx)
        }

        fn is_over(&self) -> bool {
            self.track().is_none()
        }

        fn max_message(&self) -> usize {
            self.max_message()
        }
    };
}
pub(super) use own_methods;

impl Carrier for MessageCarrier<MockTrack> {
    type Message = trespass_carriers::Message<MockTrack>;

    fn open(
        _: &MockFabric,
        track: MockTrack,
        role: Role,
        config: MessageConfig,
    ) -> impl Future<Output = Result<Self, Error>> {
        MessageCarrier::open(track, role, config)
    }

    own_methods!();

    fn lends(&self) -> bool {
        false
    }

    fn lend(&mut self, _: &mut Context<'_>, _: MockRegion) -> Poll<Result<(), Error>> {
        Poll::Pending
    }

    fn poll_returned(&mut self, _: &mut Context<'_>) -> Poll<Option<MockRegion>> {
        Poll::Ready(None)
    }
}

/// What a carrier may have, beyond messages: its queues, and what the mock makes for it.
const OVERHEAD: usize = 64 << 10;

/// How the carrier is set up, by a byte; and how much memory it may then take.
fn config(choice: u8) -> (MessageConfig, usize) {
    let longest = [1500_usize, 300, 64, 5000][usize::from(choice & 3)];
    let spill = [1000, 0, 100, 8000][usize::from(choice >> 2 & 3)];
    let pool = [4000, 0][usize::from(choice >> 4 & 1)];
    let config = MessageConfig::default()
        .with_max_message(longest)
        .with_spill_limit(spill)
        .with_pool_limit(pool)
        .with_open_timeout(TIMEOUT)
        .with_close_timeout(TIMEOUT)
        .with_idle_timeout((choice & 32 != 0).then_some(SILENCE));
    // As `MessageConfig` says; memory of the pool may be up to four times what is needed. What the application keeps is a few
    // messages, and a carrier that reads what is lent has two.
    let rounded = longest.next_power_of_two().max(256);
    (config, OVERHEAD + pool + 4 * (spill + 2 * rounded) + (KEPT + 2) * (4096 + rounded))
}

/// The most that the application keeps.
const KEPT: usize = 4;

pub(crate) fn converse<C: Carrier>(script: &[u8]) {
    let mut script = Unstructured::new(script);
    let Ends { mut clock, role, fabric, track, mut peer } = ends(&mut script);
    let (config, memory) = config(byte(&mut script));
    let (longest, nervous) = (config.max_message, config.idle_timeout.is_some());
    let sort = Sort { carrier: 1, features: super::raw::RENDEZVOUS, headless: MESSAGE };
    let mut meter = Meter::new(memory);
    let opening = meter.run(|| C::open(&fabric, track, role, config));
    let Some(carrier) = shake(&mut clock, &mut peer, sort, &mut script, opening) else { return };
    let lends = carrier.lends();
    let mut talk = Talk {
        carrier,
        clock,
        peer,
        fabric,
        meter,
        told: Told::new(longest, lends),
        heard: Told::new(usize::MAX, lends),
        accepted: VecDeque::new(),
        windows: VecDeque::new(),
        forged: false,
        gone: false,
        nervous,
        kept: Vec::new(),
        waiting: None,
        said: Said::default(),
        count: 0,
    };
    while !script.is_empty() && talk.act(&mut script) {}
    talk.end(&mut script);
}

struct Talk<C: Carrier> {
    carrier: C,
    clock: MockDriver,
    peer: Raw,
    fabric: MockFabric,
    meter: Meter,
    /// What the peer has said, and was not received.
    told: Told,
    /// What the carrier has said.
    heard: Told,
    /// Messages that it took, and that the peer has not heard.
    accepted: VecDeque<Vec<u8>>,
    /// Memory that the peer lends.
    windows: VecDeque<super::rendezvous::Lent>,
    /// The peer lent what is not there, or what it took away.
    forged: bool,
    gone: bool,
    /// It bears no silence of the peer.
    nervous: bool,
    kept: Vec<C::Message>,
    /// Somebody waits to receive.
    waiting: Option<Arc<Flag>>,
    said: Said,
    count: usize,
}

/// What the application has heard, and asked for.
#[derive(Default)]
struct Said {
    finish: bool,
    close: bool,
    received_all: bool,
    recv_error: Option<Error>,
    send_error: Option<Error>,
    /// A send failed, so that nobody knows what arrives.
    unsure: bool,
}

impl<C: Carrier> Talk<C> {
    /// Does what the next byte says. Whether the conversation goes on.
    fn act(&mut self, script: &mut Unstructured<'_>) -> bool {
        let act = byte(script);
        for _ in 0..=act >> 4 {
            if act & 15 < 8 {
                self.peer_acts(act & 15, script);
                self.still_waits();
            } else {
                self.waiting = None;
                self.application_acts(act & 15, script);
            }
        }
        true
    }

    fn peer_acts(&mut self, act: u8, script: &mut Unstructured<'_>) {
        self.count += 1;
        match act {
            0 => {
                let len = usize::from(byte(script));
                self.say_politely(MESSAGE, &pattern(self.count, len));
            }
            1 => {
                let (total, len) = (u64::from(word(script)) % 6000, usize::from(byte(script)));
                self.say_politely(FIRST, &[&total.to_le_bytes(), pattern(self.count, len).as_slice()].concat());
            }
            2 => {
                let len = usize::from(byte(script)).min(self.told.missing() as usize);
                self.say_politely(MORE, &pattern(self.count, len));
            }
            3 => {
                let kind = [CREDIT, ABORT, FIN, BYE, REFUSE, CREDIT, FETCHED, ABORT][usize::from(byte(script) % 8)];
                let body = [0; 16];
                self.say_politely(kind, if kind == REFUSE { &body } else { &[] });
            }
            4 => {
                let len = usize::from(byte(script)).min(self.peer.frame_len() as usize);
                let raw = bytes(script, len);
                // Credits may be in it that are none.
                self.peer.honest = false;
                if self.peer.say(raw) {
                    self.tell(raw);
                }
            }
            5 => {
                let (kind, more, len) = (byte(script), byte(script) as i8, usize::from(byte(script)));
                if let Some(frame) = self.peer.frame(kind, more, &pattern(self.count, len)) {
                    self.tell(&frame);
                }
            }
            6 => self.peer_takes(byte(script) % 2 == 1),
            _ => self.peer_lends(script),
        }
    }

    /// A frame, with credits that are right, if the peer has one left for it.
    fn say_politely(&mut self, kind: u8, body: &[u8]) {
        if let Some(frame) = self.peer.may_say().then(|| self.peer.frame(kind, 0, body)).flatten() {
            self.told.frame(&frame);
            // It may be one too many, or too few: who knows what the carrier has said meanwhile?
            let surely = self.told.lent <= self.heard.fetched + 64 && self.told.fetched <= self.heard.lent;
            self.peer.honest &= surely;
        }
    }

    /// A frame of any sort was said.
    fn tell(&mut self, frame: &[u8]) {
        self.told.frame(frame);
        self.forged |= frame.first() == Some(&LEND);
        self.peer.honest &= self.told.fetched <= self.heard.lent;
    }

    /// The peer takes what has come; whether there was anything.
    fn peer_takes(&mut self, and_grants: bool) {
        while let Some(frame) = self.peer.hear() {
            self.heard.frame(&frame);
            assert!(!self.heard.wrong, "the carrier says {frame:x?}");
            while let Some(message) = self.heard.whole.pop_front() {
                self.compare(&message);
            }
        }
        assert!(!self.heard.finished || self.said.finish || self.said.close, "an end that nobody asked for");
        assert!(!self.heard.left || self.said.close, "a goodbye that nobody asked for");
        assert!(self.heard.fetched <= self.told.lent || self.forged, "it has read more than was lent");
        let counters = self.fabric.counters();
        assert!(!self.peer.honest || counters.rnr_stalls == 0, "it sends what the peer has no receive for");
        if and_grants {
            self.say_politely(CREDIT, &[]);
        }
    }

    /// A message that the peer has heard is the next that was sent.
    fn compare(&mut self, message: &Whole) {
        if self.said.unsure {
            return;
        }
        let sent = self.accepted.pop_front().expect("a message that nobody sent");
        match message {
            Whole::Sent(bytes) => assert_eq!(bytes, &sent),
            Whole::Lent(window) => assert_eq!(window.len(), sent.len() as u64),
        }
    }

    /// The peer lends: memory, or memory that it takes away later, or bytes; or it takes memory away; or it goes.
    fn peer_lends(&mut self, script: &mut Unstructured<'_>) {
        match byte(script) % 8 {
            0..=2 => {
                let len = 1 + usize::from(byte(script)) * 8;
                let lent = super::rendezvous::Lent::new(&self.peer.fabric, &pattern(self.count, len));
                let window = lent.window();
                self.windows.push_back(lent);
                self.say_politely(LEND, &window.encode());
            }
            3 => {
                self.forged = true;
                let (start, len) = (word(script), word(script));
                let window =
                    RemoteWindow::new(start.into(), len.into(), byte(script).into(), trespass_core::Access::ReadOnly);
                window.into_iter().for_each(|window| self.say_politely(LEND, &window.encode()));
            }
            4 => {
                self.forged |= self.windows.pop_front().is_some();
            }
            5 | 6 => self.say_politely(FETCHED, &[]),
            _ => {
                self.gone = true;
                self.peer.track = None;
            }
        }
    }

    /// Whoever waits to receive, and was not woken, waits for good reason.
    fn still_waits(&mut self) {
        let woken = self.waiting.take().is_none_or(|flag| flag.take());
        if !woken {
            let (flag, waker) = Flag::new();
            let polled = self.meter.run(|| self.carrier.poll_recv(&mut Context::from_waker(&waker)));
            assert!(
                polled.is_pending(),
                "nobody was woken for {:?}",
                polled.map_ok(|message| message.map(|m| m.len()))
            );
            self.waiting = Some(flag);
        }
    }

    fn application_acts(&mut self, act: u8, script: &mut Unstructured<'_>) {
        self.count += 1;
        match act {
            8 => self.receive(self.count % 2 == 1),
            9 => self.wait_to_receive(),
            10 => self.send_in_place(usize::from(byte(script))),
            11 => {
                let (len, polls) = (usize::from(word(script)) % 6000, byte(script) % 8);
                self.send(len, polls);
            }
            12 if byte(script) % 2 == 1 => self.poll_close(),
            12 => self.poll_finish(),
            13 => self.minor(byte(script)),
            14 => self.clock.advance(Duration::from_millis(100) * byte(script).into()),
            _ => self.lend_out(byte(script)),
        }
    }

    fn receive(&mut self, keep: bool) {
        match self.meter.run(|| self.carrier.try_recv()) {
            Ok(message) => self.received(message, keep),
            Err(TryError::WouldBlock) => {}
            Err(TryError::Failed(error)) => self.recv_failed(error),
        }
    }

    fn wait_to_receive(&mut self) {
        let (flag, waker) = Flag::new();
        match self.meter.run(|| self.carrier.poll_recv(&mut Context::from_waker(&waker))) {
            Poll::Ready(Ok(message)) => self.received(message, false),
            Poll::Ready(Err(error)) => self.recv_failed(error),
            Poll::Pending => self.waiting = Some(flag),
        }
    }

    fn received(&mut self, message: Option<C::Message>, keep: bool) {
        assert!(self.said.recv_error.is_none(), "a message, or an end, after an error");
        let Some(message) = message else {
            assert!(self.told.finished, "an end that the peer has not said");
            assert!(self.told.whole.is_empty() || self.said.close, "an end before {:?}", self.told.whole);
            self.said.received_all = true;
            return;
        };
        assert!(!self.said.received_all && !self.said.close, "a message after the end");
        let expected = self.told.whole.pop_front().expect("a message that the peer has not sent");
        match expected {
            Whole::Sent(bytes) => assert_eq!(*message, bytes),
            Whole::Lent(window) => {
                let lent = self.windows.iter().find(|lent| lent.window() == window);
                let right = lent.map_or(self.forged, |lent| *message == *lent.bytes());
                assert!(right, "{window:?} was read as {:x?}", &*message);
            }
        }
        match keep && self.kept.len() < KEPT {
            true => self.kept.push(message),
            false => self.meter.run(|| drop(message)),
        }
    }

    fn recv_failed(&mut self, error: Error) {
        self.check(&error);
        let first = self.said.recv_error.get_or_insert_with(|| error.clone());
        assert_eq!(*first, error, "another error than at first");
    }

    fn send_failed(&mut self, error: Error) {
        self.check(&error);
        self.said.unsure = true;
        match &self.said.send_error {
            Some(first) if first.kind() != ErrorKind::Closed => {
                assert_eq!(*first, error, "another error than at first")
            }
            _ => self.said.send_error = Some(error),
        }
    }

    /// That an error is one that may be.
    fn check(&self, error: &Error) {
        let at_fault = self.told.wrong || !self.peer.honest || self.forged;
        let right = match error.kind() {
            ErrorKind::Protocol | ErrorKind::Refused => at_fault,
            ErrorKind::Closed => self.said.finish || self.said.close || self.told.left,
            ErrorKind::Disconnected => self.gone,
            ErrorKind::TimedOut => self.said.close || (self.nervous && *error == Error::TimedOut(Phase::Idle)),
            // What the device says of memory that is not there, or of the peer that gave it.
            ErrorKind::RemoteAccess => self.forged || self.gone,
            _ => false,
        };
        assert!(right, "{error:?}");
    }

    fn send_in_place(&mut self, len: usize) {
        let mut buf = match self.meter.run(|| self.carrier.try_reserve(len)) {
            Ok(buf) => buf,
            Err(TryError::WouldBlock) => return,
            Err(TryError::Failed(Error::Oversize { .. })) => return,
            Err(TryError::Failed(error)) => return self.send_failed(error),
        };
        let data = pattern(self.count, len);
        buf.copy_from_slice(&data);
        match self.meter.run(|| self.carrier.send_buf(buf)) {
            Ok(()) => self.accepted.push_back(data),
            Err(error) => self.send_failed(error),
        }
    }

    fn send(&mut self, len: usize, polls: u8) {
        let data = pattern(self.count, len);
        let outcome = self.meter.run(|| {
            let mut sending = self.carrier.send(&data);
            let polled = (0..=polls).map(|_| poll_once(&mut sending)).find(Poll::is_ready);
            polled.unwrap_or(Poll::Pending)
        });
        match outcome {
            Poll::Ready(Ok(())) => self.accepted.push_back(data),
            Poll::Ready(Err(Error::Oversize { .. })) => assert!(len > self.carrier.max_message()),
            Poll::Ready(Err(error)) => self.send_failed(error),
            Poll::Pending => {}
        }
    }

    fn poll_finish(&mut self) {
        self.said.finish = true;
        if let Poll::Ready(Err(error)) = self.meter.run(|| poll_once(&mut self.carrier.finish())) {
            self.check(&error);
        }
    }

    fn poll_close(&mut self) {
        self.said.close = true;
        if let Poll::Ready(Err(error)) = self.meter.run(|| self.carrier.poll_close(&mut noop())) {
            self.check(&error);
        }
    }

    fn minor(&mut self, which: u8) {
        match which % 3 {
            0 => {
                let kept = std::mem::take(&mut self.kept);
                self.meter.run(|| drop(kept));
            }
            1 => {
                if let Err(error) = self.meter.run(|| self.carrier.flush()) {
                    self.send_failed(error);
                }
            }
            _ => drop(self.meter.run(|| self.carrier.poll_send_ready(&mut noop()))),
        }
    }

    fn lend_out(&mut self, choice: u8) {
        if choice >= 200 {
            if let Poll::Ready(Some(region)) = self.meter.run(|| self.carrier.poll_returned(&mut noop())) {
                drop(region);
            }
            return;
        }
        let data = pattern(self.count, 1 + usize::from(choice) * 8);
        let region = super::rendezvous::region(&self.fabric, &data);
        match self.meter.run(|| self.carrier.lend(&mut noop(), region)) {
            Poll::Ready(Ok(())) => self.accepted.push_back(data),
            Poll::Ready(Err(Error::Oversize { .. })) => assert!(data.len() > self.carrier.max_message()),
            Poll::Ready(Err(error)) => self.send_failed(error),
            Poll::Pending => {}
        }
    }

    /// What came is received, and the carrier closes: within its time, for good, and with all that it took said.
    fn end(mut self, script: &mut Unstructured<'_>) {
        self.waiting = None;
        self.minor(0);
        if !self.said.close {
            self.receive_all();
        }
        let polite = byte(script) % 2 == 0;
        let closed = self.close(polite);
        let again = self.carrier.poll_close(&mut noop());
        assert_eq!(again, Poll::Ready(closed.clone()), "another end than at first");
        assert!(self.carrier.is_over(), "it is closed, and has a track");
        assert!(self.carrier.try_reserve(0).is_err_and(|error| error != TryError::WouldBlock));
        match self.carrier.try_recv() {
            Ok(Some(_)) => panic!("a message after a close"),
            Ok(None) => assert!(self.told.finished),
            Err(error) => assert_ne!(error, TryError::WouldBlock),
        }
        while let Poll::Ready(Some(region)) = self.carrier.poll_returned(&mut noop()) {
            drop(region);
        }
        self.peer_takes(false);
        assert!(self.peer.is_closed(), "it is closed, and its track is not");
        if closed.is_ok() && !self.gone && !self.told.left && !self.told.wrong && self.peer.honest && !self.forged {
            assert!(self.heard.left, "no goodbye");
            assert!(self.accepted.is_empty() || self.said.unsure, "{} messages were not sent", self.accepted.len());
        }
    }

    /// All that the peer said is there, and then what it comes to.
    fn receive_all(&mut self) {
        let all_came = self.peer.honest && !self.gone && !self.forged && self.told.lent == 0;
        for _ in 0..10_000 {
            match self.meter.run(|| self.carrier.try_recv()) {
                Ok(Some(message)) => self.received(Some(message), false),
                Ok(None) => {
                    self.received(None, false);
                    return;
                }
                Err(TryError::WouldBlock) => {
                    let silent = !all_came || (self.told.whole.is_empty() && !self.told.wrong && !self.told.finished);
                    assert!(silent, "it waits, after {:?}", self.told);
                    return;
                }
                Err(TryError::Failed(error)) => {
                    self.recv_failed(error);
                    assert!(!all_came || self.told.whole.is_empty(), "{:?} were not received", self.told.whole);
                    return;
                }
            }
        }
        panic!("messages without end");
    }

    fn close(&mut self, polite: bool) -> Result<(), Error> {
        self.said.close = true;
        // The peer has to be heard meanwhile, which is not the carrier's alone.
        let Self { carrier, clock, meter, peer, heard, accepted, said, .. } = self;
        let mut waits = 0;
        let closed = wait(
            clock,
            |cx| meter.run(|| carrier.poll_close(cx)),
            || {
                let mut any = false;
                while let Some(frame) = polite.then(|| peer.hear()).flatten() {
                    heard.frame(&frame);
                    assert!(!heard.wrong, "the carrier says {frame:x?}");
                    any = true;
                }
                for message in heard.whole.drain(..) {
                    let sent = accepted.pop_front();
                    let Whole::Sent(bytes) = message else { continue };
                    assert!(said.unsure || sent.is_some_and(|sent| sent == bytes), "{bytes:x?} was not sent");
                }
                waits += 1;
                any && peer.may_say() && waits < 1000 && peer.frame(CREDIT, 0, &[]).is_some()
            },
        );
        if let Err(error) = &closed {
            self.check(error);
        }
        closed
    }
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut noop())
}

/// Bytes that differ from place to place and from message to message.
pub(crate) fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ seed.wrapping_mul(131) ^ (at >> 8)) as u8).collect()
}
