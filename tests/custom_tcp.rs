//! The TCP fabric of `examples/custom_track` against peers that are slow, silent, or hostile, and users who change their minds.

#[path = "../examples/custom_track/tcp/mod.rs"]
#[allow(dead_code, reason = "the conformance kit uses the rest")]
mod tcp;

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use trespass::core::{
    ErrorKind, Fabric, Incoming, Listener, ListenerExt, RecvSideExt, SendSide, SendSideExt, TransportError, TryError,
    wait_within,
};

use tcp::track::TcpTrack;
use tcp::wire::{GREETING, Greeting, Header, News, Terms};
use tcp::{TcpConfig, TcpFabric};

/// Nothing here takes longer, or it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
const TERMS: Terms = Terms { max_message: 1000, recv_slots: 4 };

fn within<F: Future>(future: F) -> F::Output {
    wait_within(PATIENCE, future).expect("it hangs")
}

fn config() -> TcpConfig {
    TcpConfig { max_message: TERMS.max_message, send_slots: 4, recv_slots: TERMS.recv_slots, ..TcpConfig::default() }
}

/// A fabric that listens.
struct Host {
    fabric: TcpFabric,
    listener: <TcpFabric as Fabric>::Listener,
}

impl Host {
    fn new(config: TcpConfig) -> Self {
        let fabric = TcpFabric::open(config).expect("a good configuration");
        let listener = fabric.listen(&"127.0.0.1:0".parse().expect("an address")).expect("listens");
        Self { fabric, listener }
    }

    fn addr(&self) -> SocketAddr {
        self.listener.local()
    }

    fn raw(&self) -> TcpStream {
        let socket = TcpStream::connect(self.addr()).expect("connects");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket
    }

    fn accept(&mut self) -> TcpTrack {
        within(async { self.listener.incoming().await.expect("a request").accept().await }).expect("accepts")
    }

    /// A good pair of tracks.
    fn pair(&mut self) -> (TcpTrack, TcpTrack) {
        let connecting = self.fabric.connect(&self.addr());
        let accepted = self.accept();
        (within(connecting).expect("connects"), accepted)
    }

    /// A track whose peer is this test, byte by byte.
    fn raw_pair(&mut self) -> (TcpStream, TcpTrack) {
        let mut raw = self.raw();
        raw.write_all(&Greeting::Ask(TERMS).encode()).expect("writes");
        let track = self.accept();
        assert_eq!(hear_greeting(&mut raw), Greeting::Yes(TERMS));
        (raw, track)
    }
}

fn hear_greeting(raw: &mut TcpStream) -> Greeting {
    let mut bytes = [0; GREETING];
    raw.read_exact(&mut bytes).expect("an answer");
    Greeting::parse(&bytes).expect("a greeting")
}

fn assert_works((one, other): &mut (TcpTrack, TcpTrack)) {
    assert_works_from(one, other);
    assert_works_from(other, one);
}

fn assert_works_from(from: &mut TcpTrack, to: &mut TcpTrack) {
    send(from, b"does it work");
    assert_eq!(&within(to.recv()).expect("receives")[..], b"does it work");
}

fn send(track: &mut TcpTrack, message: &[u8]) {
    let mut buf = within(track.reserve(message.len())).expect("a slot");
    buf.copy_from_slice(message);
    track.send(buf).expect("sends");
    track.flush().expect("flushes");
}

/// Reads until the end of the connection, and fails where that does not come.
fn hear_the_end(raw: &mut TcpStream) {
    let mut rest = Vec::new();
    match raw.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
}

fn frame(message: Option<&[u8]>, arrived: u64, posted: u64) -> Vec<u8> {
    let news = News { arrived, posted };
    let header = Header { message: message.map(|message| message.len() as u32), news };
    [&header.encode()[..], message.unwrap_or_default()].concat()
}

#[test]
fn garbage_at_the_port_ends_alone() {
    let mut host = Host::new(config());
    let mut bystander = host.pair();
    let ask = Greeting::Ask(TERMS).encode();
    let greetings: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n",
        &[0; 4096],
        &[0xff; 1 << 16],
        &Greeting::Yes(TERMS).encode(),
        &[&ask[..GREETING - 8], &[0; 8]].concat(),
        &[&ask[..10], &[9, 9], &ask[12..]].concat(),
    ];
    for garbage in greetings {
        let mut raw = host.raw();
        // It may be thrown out before all of it is written.
        let _ = raw.write_all(garbage);
        hear_the_end(&mut raw);
        assert_works(&mut bystander);
    }
    // Part of a greeting, and then nobody.
    drop(host.raw().write_all(&ask[..7]));
    // Another version is told so.
    let mut raw = host.raw();
    raw.write_all(&[&ask[..8], &[7, 0], &ask[10..]].concat()).expect("writes");
    assert_eq!(hear_greeting(&mut raw), Greeting::No(tcp::wire::Refusal::Version));
    assert_works(&mut bystander);
    assert_works(&mut host.pair());
}

#[test]
fn what_a_peer_may_not_say_ends_its_track_alone() {
    let mut host = Host::new(config());
    let mut bystander = host.pair();
    let crowd: Vec<u8> = (0..=TERMS.recv_slots).flat_map(|_| frame(Some(b"x"), 0, 4)).collect();
    let lies: [(&str, Vec<u8>); 6] = [
        ("a message that is too long", frame(Some(&[0; 1001]), 0, 4)),
        (
            "a message that is far too long",
            Header { message: Some(u32::MAX - 1), news: News { arrived: 0, posted: 4 } }.encode().into(),
        ),
        ("more messages than receives", crowd),
        ("the arrival of what was not sent", frame(None, 1, 5)),
        ("more receives than there are", frame(None, 0, 5)),
        ("fewer receives than there were", frame(None, 0, 3)),
    ];
    for (what, bytes) in lies {
        let (mut raw, mut track) = host.raw_pair();
        raw.write_all(&bytes).expect("writes");
        let error = within(async {
            loop {
                if let Err(error) = track.recv().await {
                    return error;
                }
            }
        });
        assert_eq!(error.kind(), ErrorKind::Protocol, "{what}: {error}");
        match track.try_reserve(1) {
            Err(TryError::Failed(again)) => assert_eq!(again, error, "{what}"),
            _ => panic!("{what}: the track lives on"),
        }
        hear_the_end(&mut raw);
        assert_works(&mut bystander);
    }
}

#[test]
fn random_bytes_in_a_conversation_are_survived() {
    let mut host = Host::new(config());
    let mut bystander = host.pair();
    for round in 0..50_u64 {
        let (mut raw, mut track) = host.raw_pair();
        let mut word = round.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            word as u8
        })
        .take(4096)
        .collect();
        let _ = raw.write_all(&noise);
        let error = within(track.recv()).expect_err("noise is no message");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
    assert_works(&mut bystander);
}

#[test]
fn a_peer_may_speak_one_byte_at_a_time() {
    let mut host = Host::new(config());
    let mut raw = host.raw();
    raw.set_nodelay(true).expect("an option");
    let slowly =
        |raw: &mut TcpStream, bytes: &[u8]| bytes.iter().for_each(|byte| raw.write_all(&[*byte]).expect("writes"));
    slowly(&mut raw, &Greeting::Ask(TERMS).encode());
    let mut track = host.accept();
    assert_eq!(hear_greeting(&mut raw), Greeting::Yes(TERMS));
    for message in [&b"hello"[..], b"", b"again"] {
        slowly(&mut raw, &frame(Some(message), 0, 4));
        assert_eq!(&within(track.recv()).expect("receives")[..], message);
    }
}

#[test]
fn peers_that_say_nothing_are_shown_out_and_the_backlog_is_bounded() {
    let handshake = Duration::from_millis(500);
    let mut host = Host::new(TcpConfig { backlog: 4, handshake, ..config() });
    let mut bystander = host.pair();
    let start = Instant::now();
    let mut silent: Vec<_> = (0..4).map(|_| host.raw()).collect();
    // One more is told, and does not wait.
    let error = within(async {
        loop {
            // The four may not all have been looked at yet: then this one fits, and nobody takes it.
            match host.fabric.connect(&host.addr()).await {
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                Err(error) => return error,
                Ok(_) => panic!("nobody accepts"),
            }
        }
    });
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert_works(&mut bystander);
    silent.iter_mut().for_each(hear_the_end);
    assert!(start.elapsed() >= handshake, "they had their time");
    assert_works(&mut host.pair());
}

#[test]
fn a_peer_that_confirms_nothing_is_taken_for_gone() {
    let silence = Duration::from_millis(400);
    let mut host = Host::new(TcpConfig { silence, ..config() });
    let mut bystander = host.pair();
    // It says nothing for a while, and nothing is expected of it.
    let (_raw, mut track) = host.raw_pair();
    assert!(wait_within(2 * silence, track.recv()).is_none(), "an idle track lives on");
    let start = Instant::now();
    send(&mut track, b"are you there?");
    let error = within(track.recv()).expect_err("nothing was sent");
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert!(start.elapsed() >= silence);
    let closed = within(track.close()).expect_err("the message has not arrived");
    assert_eq!(closed, error, "the first cause");
    assert_works(&mut bystander);
}

#[test]
fn a_peer_that_takes_nothing_bounds_what_is_kept_for_it() {
    let close = Duration::from_millis(300);
    let mut host = Host::new(TcpConfig { close, max_message: 1 << 20, ..config() });
    let mut raw = host.raw();
    raw.write_all(&Greeting::Ask(Terms { max_message: 1 << 20, ..TERMS }).encode()).expect("writes");
    let mut track = host.accept();
    // It reads nothing: the socket fills up, then the slots.
    let mut sent = 0;
    loop {
        match track.try_reserve(1 << 20) {
            Ok(buf) => track.send(buf).expect("sends"),
            Err(TryError::WouldBlock) => break,
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
        track.flush().expect("a flush does not wait");
        sent += 1;
    }
    assert_eq!(sent, 4, "as many as there are slots");
    let start = Instant::now();
    let error = within(track.close()).expect_err("it has not arrived");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(start.elapsed() >= close);
}

#[test]
fn handshakes_and_tracks_that_are_dropped_leave_no_descriptor() {
    let mut host = Host::new(config());
    let mut bystander = host.pair();
    let before = descriptors();
    for round in 0..200 {
        let connecting = host.fabric.connect(&host.addr());
        match round % 4 {
            0 => drop(connecting),
            1 => drop(poll_once(connecting)),
            2 => {
                drop(within(host.listener.incoming()));
                assert_eq!(within(connecting).expect_err("refused").kind(), ErrorKind::Refused);
            }
            _ => {
                let accepted = within(async {
                    loop {
                        // One of those that were given up may still stand before it.
                        let incoming = host.listener.incoming().await.expect("a request");
                        if let Ok(track) = incoming.accept().await {
                            break track;
                        }
                    }
                });
                drop((connecting, accepted));
            }
        }
        assert_works(&mut bystander);
    }
    // What is given up is closed by the reactor, in its own time.
    let start = Instant::now();
    while descriptors() > before {
        drop(wait_within(Duration::from_millis(5), host.listener.incoming()));
        assert!(start.elapsed() < PATIENCE, "{} descriptors, and there were {before}", descriptors());
    }
    assert_works(&mut bystander);
}

fn poll_once<F: Future>(future: F) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Descriptors of this process that are sockets.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[test]
fn bad_settings_are_refused() {
    let bad: [fn(&mut TcpConfig); 6] = [
        |config| config.max_message = 0,
        |config| config.max_message = u32::MAX,
        |config| config.send_slots = 0,
        |config| config.recv_slots = 1 << 30,
        |config| config.handshake = Duration::ZERO,
        |config| config.backlog = 0,
    ];
    for spoil in bad {
        let mut config = config();
        spoil(&mut config);
        let error = TcpFabric::open(config.clone()).map(drop).expect_err("a bad setting");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}: {config:?}");
    }
}
