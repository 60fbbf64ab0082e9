//! A whole stream, against a peer that says anything.

use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arbitrary::Unstructured;
use trespass_carriers::fuzzing::{byte, bytes, word};
use trespass_carriers::{Phase, StreamCarrier, StreamConfig};
use trespass_core::{Carrier, ErrorKind, TransportError, TryError};
use trespass_mock::{MockDriver, MockFabric, MockTrack};

use super::clock::{Flag, wait};
use super::messages::pattern;
use super::meter::Meter;
use super::raw::{Ends, Error, Raw, SILENCE, Sort, TIMEOUT, ends, shake};
use super::told::{BYE, BYTES, CREDIT, FIN, REFUSE};

/// A [`StreamCarrier`].
///
/// The first byte of a script says how large everything is ([`ends`]), the second how the stream is set up (bit 0: it coalesces; 1: it bears no
/// silence), two or more
/// say how hands are shaken. Then each byte is an act, of so many times as its upper half says, less 1; its lower half says
/// which, and what follows it:
///
/// | | the peer | | the application |
/// |---|---|---|---|
/// | 0, 1 | bytes: how many | 8 | reads, without a wait: at most so many bytes |
/// | 2 | control: which | 9 | waits to read, for as long as the peer acts |
/// | 3 | bytes as they are: how many, and these | 10 | writes, without a wait: how many, in two bytes |
/// | 4 | a frame of any kind and too many credits (signed): kind, credits, length | 11 | writes by a poll, in two pieces: how many |
/// | 5 | goes, where an odd byte follows | 12 | pushes |
/// | 6, 7 | takes what has come, and gives credits: odd | 13 | finishes, by one poll |
/// | | | 14 | time passes: how many 100 ms |
/// | | | 15 | closes, by one poll, where a byte below 32 follows |
pub fn streams(script: &[u8]) {
    let mut script = Unstructured::new(script);
    let Ends { mut clock, role, fabric, track, mut peer } = ends(&mut script);
    let choice = byte(&mut script);
    let config = StreamConfig::default()
        .with_coalesce(choice & 1 == 1)
        .with_open_timeout(TIMEOUT)
        .with_close_timeout(TIMEOUT)
        .with_idle_timeout((choice & 2 == 2).then_some(SILENCE));
    let nervous = config.idle_timeout.is_some();
    let mut meter = Meter::new(MEMORY);
    let opening = meter.run(|| StreamCarrier::open(track, role, config));
    let sort = Sort { carrier: 2, features: 0, headless: BYTES };
    let Some(stream) = shake(&mut clock, &mut peer, sort, &mut script, opening) else { return };
    let (told, heard) = (Told::default(), Told::default());
    let mut talk = Talk {
        stream,
        clock,
        peer,
        fabric,
        meter,
        told,
        heard,
        written: Vec::new(),
        gone: false,
        nervous,
        waiting: None,
        said: Said::default(),
        count: 0,
    };
    while !script.is_empty() {
        talk.act(&mut script);
    }
    talk.end(&mut script);
}

/// A stream has no buffers: this is for its queues, and what the mock makes for it.
const MEMORY: usize = 32 << 10;

struct Talk {
    stream: StreamCarrier<MockTrack>,
    clock: MockDriver,
    peer: Raw,
    fabric: MockFabric,
    meter: Meter,
    /// What the peer has said, and was not read.
    told: Told,
    heard: Told,
    /// What the stream has taken, and the peer has not heard.
    written: Vec<u8>,
    gone: bool,
    /// It bears no silence of the peer.
    nervous: bool,
    waiting: Option<Arc<Flag>>,
    said: Said,
    count: usize,
}

/// What the application has heard, and asked for.
#[derive(Default)]
struct Said {
    finish: bool,
    close: bool,
    read_all: bool,
    read_error: Option<Error>,
}

/// What a conversation has come to, as the tables of `wire.rs` have it.
#[derive(Debug, Default)]
struct Told {
    bytes: Vec<u8>,
    finished: bool,
    left: bool,
    wrong: bool,
}

impl Told {
    fn frame(&mut self, frame: &[u8]) {
        self.wrong = self.wrong || self.take(frame).is_none();
    }

    fn take(&mut self, frame: &[u8]) -> Option<()> {
        let (&[kind, 0, 0, 0, _, _, _, _], body) = frame.split_first_chunk::<8>()? else { return None };
        match kind {
            BYTES if !self.finished && !body.is_empty() => self.bytes.extend(body),
            CREDIT if body.is_empty() => {}
            FIN if !self.finished && body.is_empty() => self.finished = true,
            BYE if !self.left && body.is_empty() => (self.finished, self.left) = (true, true),
            _ => return None,
        }
        Some(())
    }
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
            0 | 1 => {
                let len = usize::from(byte(script));
                self.say_politely(BYTES, &pattern(self.count, len));
            }
            2 => {
                let kind = [CREDIT, CREDIT, FIN, BYE, REFUSE, CREDIT, CREDIT, FIN][usize::from(byte(script) % 8)];
                self.say_politely(kind, if kind == REFUSE { &[0; 16] } else { &[] });
            }
            3 => {
                let len = usize::from(byte(script)).min(self.peer.frame_len() as usize);
                let raw = bytes(script, len);
                // Credits may be in it that are none.
                self.peer.honest = false;
                if self.peer.say(raw) {
                    self.told.frame(raw);
                }
            }
            4 => {
                let (kind, more, len) = (byte(script), byte(script) as i8, usize::from(byte(script)));
                let frame = self.peer.frame(kind, more, &pattern(self.count, len));
                frame.into_iter().for_each(|frame| self.told.frame(&frame));
            }
            5 if byte(script) % 2 == 1 => {
                self.gone = true;
                self.peer.track = None;
            }
            5 => {}
            _ => {
                self.peer_takes();
                if byte(script) % 2 == 1 {
                    self.say_politely(CREDIT, &[]);
                }
            }
        }
    }

    /// A frame, with credits that are right, if the peer has one left for it.
    fn say_politely(&mut self, kind: u8, body: &[u8]) {
        if self.peer.may_say() {
            let frame = self.peer.frame(kind, 0, body);
            frame.into_iter().for_each(|frame| self.told.frame(&frame));
        }
    }

    /// The peer takes what has come. Whether there was anything.
    fn peer_takes(&mut self) -> bool {
        let mut any = false;
        while let Some(frame) = self.peer.hear() {
            any = true;
            self.heard.frame(&frame);
            assert!(!self.heard.wrong, "the stream says {frame:x?}");
        }
        let bytes = std::mem::take(&mut self.heard.bytes);
        assert!(self.written.starts_with(&bytes), "bytes that nobody wrote");
        self.written.drain(..bytes.len());
        assert!(!self.heard.finished || self.said.finish || self.said.close, "an end that nobody asked for");
        assert!(!self.heard.left || self.said.close, "a goodbye that nobody asked for");
        let counters = self.fabric.counters();
        assert!(!self.peer.honest || counters.rnr_stalls == 0, "it sends what the peer has no receive for");
        any
    }

    /// Whoever waits to read, and was not woken, waits for good reason.
    fn still_waits(&mut self) {
        let woken = self.waiting.take().is_none_or(|flag| flag.take());
        if !woken {
            let (flag, waker) = Flag::new();
            let polled = self.meter.run(|| self.stream.poll_fill(&mut Context::from_waker(&waker)).map_ok(<[u8]>::len));
            assert!(polled.is_pending(), "nobody was woken for {polled:?}");
            self.waiting = Some(flag);
        }
    }

    fn application_acts(&mut self, act: u8, script: &mut Unstructured<'_>) {
        match act {
            8 => {
                let most = byte(script).into();
                let _ = self.read(most);
            }
            9 => self.wait_to_read(),
            10 => {
                let data = pattern(self.count, word(script).into());
                match self.meter.run(|| self.stream.try_put(&data)) {
                    Ok(put) => self.put(&data, put),
                    Err(TryError::WouldBlock) => {}
                    Err(TryError::Failed(error)) => self.check(&error),
                }
            }
            11 => {
                let data = pattern(self.count, byte(script).into());
                let (one, other) = data.split_at(data.len() / 3);
                let pieces = [IoSlice::new(one), IoSlice::new(other)];
                match self.meter.run(|| self.stream.poll_put(&mut noop(), &pieces)) {
                    Poll::Ready(Ok(put)) => self.put(&data, put),
                    Poll::Ready(Err(error)) => self.check(&error),
                    Poll::Pending => {}
                }
            }
            12 => self.polled(|stream| stream.poll_push(&mut noop())),
            13 => {
                self.said.finish = true;
                self.polled(|stream| stream.poll_finish(&mut noop()));
            }
            14 => self.clock.advance(Duration::from_millis(100) * byte(script).into()),
            _ if byte(script) < 32 => {
                self.said.close = true;
                self.polled(|stream| stream.poll_close(&mut noop()));
            }
            _ => {}
        }
    }

    fn polled(&mut self, call: impl FnOnce(&mut StreamCarrier<MockTrack>) -> Poll<Result<(), Error>>) {
        if let Poll::Ready(Err(error)) = self.meter.run(|| call(&mut self.stream)) {
            self.check(&error);
        }
    }

    fn put(&mut self, data: &[u8], put: usize) {
        assert!(put > 0 || data.is_empty(), "nothing of {} bytes was put, and that is well", data.len());
        self.written.extend(&data[..put]);
    }

    /// Reads; whether there is more to be had.
    fn read(&mut self, most: usize) -> bool {
        let mut had = Vec::new();
        let outcome = self.meter.run(|| self.stream.try_fill().map(<[u8]>::len));
        match outcome {
            Ok(len) => {
                // Filled already, so this neither waits nor asks anybody.
                had.extend(self.stream.try_fill().unwrap_or_default());
                assert_eq!(had.len(), len);
                had.truncate(most);
                self.meter.run(|| self.stream.consume(had.len()));
                self.check_read(&had, len);
                len > 0
            }
            Err(TryError::WouldBlock) => false,
            Err(TryError::Failed(error)) => {
                self.read_failed(error);
                false
            }
        }
    }

    fn wait_to_read(&mut self) {
        let (flag, waker) = Flag::new();
        let polled = self.meter.run(|| self.stream.poll_fill(&mut Context::from_waker(&waker)).map_ok(<[u8]>::len));
        match polled {
            Poll::Ready(Ok(len)) => self.check_read(&[], len),
            Poll::Ready(Err(error)) => self.read_failed(error),
            Poll::Pending => self.waiting = Some(flag),
        }
    }

    fn check_read(&mut self, had: &[u8], there: usize) {
        assert!(self.said.read_error.is_none(), "bytes, or an end, after an error");
        if there == 0 {
            assert!(self.told.finished || self.said.close, "an end that the peer has not said");
            assert!(self.told.bytes.is_empty() || self.said.close, "an end before {} bytes", self.told.bytes.len());
            self.said.read_all = true;
            return;
        }
        assert!(!self.said.read_all && !self.said.close, "bytes after the end");
        assert!(self.told.bytes.starts_with(had), "bytes that the peer has not sent");
        self.told.bytes.drain(..had.len());
    }

    fn read_failed(&mut self, error: Error) {
        self.check(&error);
        let first = self.said.read_error.get_or_insert_with(|| error.clone());
        assert_eq!(*first, error, "another error than at first");
    }

    /// That an error is one that may be.
    fn check(&self, error: &Error) {
        let right = match error.kind() {
            ErrorKind::Protocol | ErrorKind::Refused => self.told.wrong || !self.peer.honest,
            ErrorKind::Closed => self.said.finish || self.said.close || self.told.left,
            ErrorKind::Disconnected => self.gone,
            ErrorKind::TimedOut => self.said.close || (self.nervous && *error == Error::TimedOut(Phase::Idle)),
            _ => false,
        };
        assert!(right, "{error:?}");
    }

    /// What came is read, and the stream closes: within its time, for good, and with all that it took said.
    fn end(mut self, script: &mut Unstructured<'_>) {
        self.waiting = None;
        if !self.said.close {
            self.read_to_the_end();
        }
        let polite = byte(script) % 2 == 0;
        let closed = self.close(polite);
        assert_eq!(self.stream.poll_close(&mut noop()), Poll::Ready(closed.clone()), "another end than at first");
        assert!(self.stream.track().is_none(), "it is closed, and has a track");
        assert!(self.stream.try_put(b"x").is_err_and(|error| error != TryError::WouldBlock));
        assert!(self.stream.try_fill().map_or_else(|error| error != TryError::WouldBlock, <[u8]>::is_empty));
        self.peer_takes();
        assert!(self.peer.is_closed(), "it is closed, and its track is not");
        if closed.is_ok() && !self.gone && !self.told.left && !self.told.wrong && self.peer.honest {
            assert!(self.heard.left, "no goodbye");
            assert!(self.written.is_empty(), "{} bytes were not sent", self.written.len());
        }
    }

    fn read_to_the_end(&mut self) {
        let all_came = self.peer.honest && !self.gone;
        for _ in 0..10_000 {
            if !self.read(usize::MAX) {
                assert!(!all_came || self.told.bytes.is_empty(), "{} bytes were not read", self.told.bytes.len());
                let over = self.said.read_all || self.said.read_error.is_some();
                assert!(
                    over || !all_came || !(self.told.wrong || self.told.finished),
                    "it waits, after {:?}",
                    self.told
                );
                return;
            }
        }
        panic!("bytes without end");
    }

    fn close(&mut self, polite: bool) -> Result<(), Error> {
        self.said.close = true;
        let Self { stream, clock, meter, peer, heard, .. } = self;
        let mut waits = 0;
        let closed = wait(
            clock,
            |cx| meter.run(|| stream.poll_close(cx)),
            || {
                let mut any = false;
                while let Some(frame) = polite.then(|| peer.hear()).flatten() {
                    heard.frame(&frame);
                    assert!(!heard.wrong, "the stream says {frame:x?}");
                    any = true;
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
