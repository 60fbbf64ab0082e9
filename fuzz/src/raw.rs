//! A peer that says what the script wants, on a track of the mock.

use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arbitrary::Unstructured;
use trespass_carriers::fuzzing::{byte, bytes};
use trespass_carriers::{CarrierError, Phase};
use trespass_core::{Endpoint, Fabric, Incoming, ListenerExt, RecvSide, Role, SendSide, TryError};
use trespass_mock::{MockConfig, MockDriver, MockError, MockFabric, MockNet, MockTrack};

use super::clock::wait;
use super::told::{HELLO, WELCOME};

pub(crate) type Error = CarrierError<MockError>;

/// How long carriers may shake hands, and close. Their tracks may take as long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// How long those bear the peer's silence that bear none.
pub(crate) const SILENCE: Duration = Duration::from_millis(900);

/// Two ends, of two fabrics, on one clock.
pub(crate) struct Ends {
    pub(crate) clock: MockDriver,
    pub(crate) role: Role,
    /// The carrier's.
    pub(crate) fabric: MockFabric,
    pub(crate) track: MockTrack,
    pub(crate) peer: Raw,
}

/// The other end of a track.
pub(crate) struct Raw {
    pub(crate) fabric: MockFabric,
    /// `None` once it is gone.
    pub(crate) track: Option<MockTrack>,
    /// The carrier's role.
    other: Role,
    /// How many frames the track took.
    sent: u64,
    /// Up to which frame the carrier lets it send, as far as it has heard.
    granted: u64,
    /// How many receives the carrier has.
    window: u64,
    /// All credits that it spoke of were true, and it kept to those that it had.
    pub(crate) honest: bool,
    /// What kind a frame without a header is, where it said that it knows such.
    bare: Option<u8>,
    /// What kind it would be.
    headless: u8,
}

/// Sizes, by the first byte of a script: a few, so that everything fills up.
pub(crate) fn ends(script: &mut Unstructured<'_>) -> Ends {
    let choice = byte(script);
    let role = if choice & 1 == 0 { Role::Acceptor } else { Role::Connector };
    let window = [8, 9, 16, 64][usize::from(choice >> 1 & 3)];
    let frame = [128, 200, 256, 1000][usize::from(choice >> 3 & 3)];
    let slots = [4, 5, 8, 32][usize::from(choice >> 5 & 3)];
    let (net, clock) = MockNet::virtual_time();
    let config = MockConfig::default().with_max_message(frame).with_recv_slots(window).with_close_timeout(TIMEOUT);
    let fabric = net.fabric(config.clone().with_send_slots(slots)).expect("sizes that will do");
    let other = net.fabric(config.with_send_slots(64)).expect("sizes that will do");
    let (track, peer) = connect(&fabric, &other, role);
    let window = window as u64;
    let peer = Raw {
        fabric: other,
        track: Some(peer),
        other: role,
        sent: 0,
        granted: 1,
        window,
        honest: true,
        bare: None,
        headless: 0,
    };
    Ends { clock, role, fabric, track, peer }
}

fn connect(ours: &MockFabric, theirs: &MockFabric, role: Role) -> (MockTrack, MockTrack) {
    let (listening, asking) = if role == Role::Acceptor { (ours, theirs) } else { (theirs, ours) };
    let addr = "there".parse().expect("an address");
    let mut listener = listening.listen(&addr).expect("nobody else listens");
    let connecting = asking.connect(&addr);
    let mut ready = std::pin::pin!(async {
        let accepted = listener.incoming().await?.accept().await?;
        Ok::<_, MockError>((accepted, connecting.await?))
    });
    let polled = ready.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Ok((accepted, connected))) = polled else { panic!("a connection takes no time") };
    if role == Role::Acceptor { (accepted, connected) } else { (connected, accepted) }
}

/// What kinds of carrier say they are, and the features that they know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sort {
    pub(crate) carrier: u16,
    pub(crate) features: u64,
    /// The kind of its frames that may be without a header.
    pub(crate) headless: u8,
}

/// The bit of carriers that lend.
pub(crate) const RENDEZVOUS: u64 = 1 << 8;
/// The bit of those that know frames without a header, beside a word.
const BARE: u64 = 1 << 9;

/// Shakes hands with a carrier, as the script wants: see [`greeting`]. `None` where that came to nothing, by an error that
/// is right.
pub(crate) fn shake<C>(
    clock: &mut MockDriver,
    peer: &mut Raw,
    sort: Sort,
    script: &mut Unstructured<'_>,
    opening: impl Future<Output = Result<C, Error>>,
) -> Option<C> {
    let (greeting, honest) = greeting(peer, sort, script);
    peer.headless = sort.headless;
    let mut opening = std::pin::pin!(opening);
    let mut said = false;
    let meanwhile = || {
        let may = !said && (peer.other == Role::Acceptor || peer.hears(HELLO));
        said |= may;
        may && peer.say(&greeting)
    };
    match wait(clock, |cx| opening.as_mut().poll(cx), meanwhile) {
        Ok(carrier) => {
            peer.honest = honest;
            assert!(peer.other == Role::Connector || peer.hears(WELCOME), "it is open, and has not answered");
            Some(carrier)
        }
        Err(error) => {
            let right = matches!(
                error,
                Error::Protocol(_) | Error::Refused(_) | Error::Incompatible(_) | Error::TimedOut(Phase::Open)
            );
            assert!(right && !honest, "{error:?} from {greeting:x?}");
            assert!(peer.is_closed(), "{error:?}, and an open track");
            None
        }
    }
}

/// What the peer says first, and whether that is honest.
///
/// | byte | |
/// |---|---|
/// | 0 | bits 0–1: longest message; 2–3: longest in one frame; 4: longer than it need be; 5: what else it knows; 6: it bears no silence; 7: it knows no bare frames |
/// | 1 | to 191: as it should be; to 239: with some bytes changed, in pairs of place and difference, and perhaps cut short; else bytes as they are |
fn greeting(peer: &mut Raw, sort: Sort, script: &mut Unstructured<'_>) -> (Vec<u8>, bool) {
    let (choice, spoil) = (byte(script), byte(script));
    let kind = if peer.other == Role::Acceptor { HELLO } else { WELCOME };
    let frame = peer.frame_len();
    let longest = [1_u64 << 20, 1000, 64, 1][usize::from(choice & 3)];
    let eager = [frame - 8, 16, 0, 40][usize::from(choice >> 2 & 3)].min(longest as u32);
    let (tail, features) =
        (usize::from(choice >> 4 & 1) * 8, if choice >> 5 & 1 == 0 { sort.features } else { 1 << 40 });
    peer.bare = (choice >> 7 == 0).then_some(sort.headless);
    let features = features | peer.bare.map_or(0, |_| BARE);
    let mut bytes = [[kind, 0, 0, 0], peer.posted().to_le_bytes(), *b"tres", *b"pass", [1, 0, 1, 0]].concat();
    bytes.extend((64 + tail as u16).to_le_bytes());
    bytes.extend(sort.carrier.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(features.to_le_bytes());
    bytes.extend((peer.window as u32).to_le_bytes());
    bytes.extend(frame.to_le_bytes());
    bytes.extend(longest.to_le_bytes());
    bytes.extend(eager.to_le_bytes());
    // How long it bears silence, in milliseconds.
    bytes.extend([0_u32, 600][usize::from(choice >> 6 & 1)].to_le_bytes());
    bytes.resize(72 + tail, 7);
    match spoil {
        0..192 => return (bytes, true),
        192..240 => {
            for _ in 0..=spoil % 4 {
                let place = usize::from(byte(script)) % bytes.len();
                bytes[place] ^= byte(script);
            }
            let cut = usize::from(byte(script));
            bytes.truncate(if cut < 200 { 72 + tail } else { cut - 200 });
        }
        240..=255 => {
            let len = usize::from(byte(script)).min(frame as usize);
            bytes = self::bytes(script, len).to_vec();
        }
    }
    (bytes, false)
}

impl Raw {
    /// The longest frame, in bytes.
    pub(crate) fn frame_len(&self) -> u32 {
        self.track.as_ref().map_or(0, |track| track.limits().max_message as u32)
    }

    /// What an honest frame says is posted.
    fn posted(&self) -> u32 {
        self.track.as_ref().map_or(0, |track| track.posted() as u32)
    }

    /// Whether the carrier lets it send a frame, as far as it has heard.
    pub(crate) fn may_say(&self) -> bool {
        self.sent < self.granted
    }

    /// Sends bytes as they are. Whether the track took them.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> bool {
        self.put(bytes, None)
    }

    fn put(&mut self, bytes: &[u8], word: Option<u32>) -> bool {
        let may = self.may_say();
        let Some(track) = &mut self.track else { return false };
        let Ok(mut buf) = track.try_reserve(bytes.len()) else { return false };
        buf.copy_from_slice(bytes);
        let sent = match word {
            None => track.send(buf).is_ok(),
            Some(word) => track.send_immediate(buf, word).is_ok(),
        };
        let said = sent && track.flush().is_ok();
        self.sent += u64::from(said);
        self.honest &= may || !said;
        said
    }

    /// A frame that says `more` credits than it should, with as much of `body` as will go: without a header, if it may be and its length
    /// is even. What was said, if it was, with the header.
    pub(crate) fn frame(&mut self, kind: u8, more: i8, body: &[u8]) -> Option<Vec<u8>> {
        let bare = self.bare == Some(kind) && body.len() % 2 == 0;
        let room = self.frame_len().saturating_sub(if bare { 0 } else { 8 });
        let body = &body[..body.len().min(room as usize)];
        let credits = self.posted().wrapping_add_signed(more.into());
        let frame = [&[kind, 0, 0, 0], credits.to_le_bytes().as_slice(), body].concat();
        let said = if bare { self.put(body, Some(credits)) } else { self.say(&frame) };
        self.honest &= more == 0 || !said;
        said.then_some(frame)
    }

    /// The carrier's next frame, if there is one, with a header.
    pub(crate) fn hear(&mut self) -> Option<Vec<u8>> {
        let buf = self.track.as_mut()?.try_recv().ok()?;
        let frame = match buf.immediate() {
            None => buf.to_vec(),
            Some(credits) => {
                assert!(self.bare.is_some() || !self.honest, "a bare frame, to one that knows none");
                [&[self.headless, 0, 0, 0], credits.to_le_bytes().as_slice(), &buf].concat()
            }
        };
        let credits = frame.get(4..8).and_then(|credits| credits.first_chunk()).expect("eight bytes at least");
        self.granted += u64::from(u32::from_le_bytes(*credits).wrapping_sub(self.granted as u32));
        assert!(self.granted <= self.sent + self.window, "it grants {}, after {} frames", self.granted, self.sent);
        Some(frame)
    }

    fn hears(&mut self, kind: u8) -> bool {
        self.hear().is_some_and(|frame| frame[0] == kind)
    }

    /// Takes what has arrived, and tells whether the carrier has closed the track.
    pub(crate) fn is_closed(&mut self) -> bool {
        let Some(track) = &mut self.track else { return true };
        loop {
            match track.try_recv() {
                Ok(_) => {}
                Err(TryError::WouldBlock) => return false,
                Err(TryError::Failed(_)) => return true,
            }
        }
    }
}
