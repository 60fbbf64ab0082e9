//! A peer of a carrier that is none: it speaks the wire format by hand, and as badly as it is told to.

use trespass_carriers::{CarrierError, MessageCarrier, MessageConfig};
use trespass_core::{Endpoint, InOrder, Lossless, RecvSide, Role, SendSide, Track};

use crate::harness::ReliableHarness;
use crate::traffic::pair;
use crate::wait::{RecvWait, SendWait, Waits, both};

/// The kinds of frame, by their first byte.
pub(super) mod kind {
    pub(in super::super) const HELLO: u8 = 1;
    pub(in super::super) const WELCOME: u8 = 2;
    pub(in super::super) const REFUSE: u8 = 3;
    pub(in super::super) const MESSAGE: u8 = 16;
    pub(in super::super) const FIRST: u8 = 17;
    pub(in super::super) const MORE: u8 = 18;
    pub(in super::super) const ABORT: u8 = 19;
    pub(in super::super) const CREDIT: u8 = 32;
    pub(in super::super) const FIN: u8 = 33;
}

/// Eight bytes of header, and `body`.
pub(super) fn frame(kind: u8, posted: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, 0, 0, 0];
    frame.extend_from_slice(&posted.to_le_bytes()[..4]);
    frame.extend_from_slice(body);
    frame
}

/// What an end says of itself in a handshake.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) magic: [u8; 8],
    pub(super) versions: (u16, u16),
    pub(super) length: u16,
    pub(super) kind: u16,
    pub(super) required: u64,
    pub(super) optional: u64,
    pub(super) window: u32,
    pub(super) max_frame: u32,
    pub(super) max_message: u64,
    pub(super) eager_limit: u32,
}

impl Offer {
    /// One that suits a carrier, from an end with a track like `track`.
    pub(super) fn of<E: Endpoint>(track: &E, max_message: usize) -> Self {
        let limits = track.limits();
        let max_frame = u32::try_from(limits.max_message).expect("a frame");
        Self {
            magic: *b"trespass",
            versions: (1, 1),
            length: 64,
            kind: 1,
            required: 0,
            optional: 0,
            window: u32::try_from(limits.recv_slots).expect("a window"),
            max_frame,
            max_message: max_message as u64,
            eager_limit: (max_frame - 8).min(u32::try_from(max_message).unwrap_or(u32::MAX)),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        for field in [self.versions.0, self.versions.1, self.length, self.kind] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&self.required.to_le_bytes());
        bytes.extend_from_slice(&self.optional.to_le_bytes());
        bytes.extend_from_slice(&self.window.to_le_bytes());
        bytes.extend_from_slice(&self.max_frame.to_le_bytes());
        bytes.extend_from_slice(&self.max_message.to_le_bytes());
        bytes.extend_from_slice(&self.eager_limit.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&7_u64.to_le_bytes());
        bytes
    }
}

/// Sends `bytes` as one message of the track.
pub(super) async fn say<S: SendSide>(side: &mut S, bytes: &[u8]) {
    let buf = side.reserve(bytes.len()).await;
    let mut buf = buf.unwrap_or_else(|error| panic!("the raw peer cannot reserve: {error}"));
    buf.copy_from_slice(bytes);
    side.send(buf).unwrap_or_else(|unsent| panic!("the raw peer cannot send: {}", unsent.error));
    side.flush().unwrap_or_else(|error| panic!("the raw peer cannot flush: {error}"));
}

/// The next frame, which must be of `kind`.
pub(super) async fn hear<R: RecvSide>(side: &mut R, kind: u8) -> R::RecvBuf {
    let buf =
        side.recv().await.unwrap_or_else(|error| panic!("the raw peer waits for a frame of kind {kind}: {error}"));
    assert_eq!(
        buf.first().copied(),
        Some(kind),
        "the kind of a frame, at the raw peer: {:?}",
        &buf[..buf.len().min(16)]
    );
    buf
}

/// A carrier that accepted the handshake of a raw peer, and that peer's track.
pub(super) fn greeted<H: ReliableHarness>(
    h: &H,
    config: MessageConfig,
) -> (MessageCarrier<<H::Fabric as trespass_core::Fabric>::Track>, <H::Fabric as trespass_core::Fabric>::Track) {
    let pair = pair(h);
    let (opened, raw) = greet(h, pair.server, pair.client, Role::Acceptor, config, |_| {});
    (opened.unwrap_or_else(|error| panic!("a good handshake fails: {error}")), raw)
}

/// Opens a carrier over `track`, against a raw peer that offers what `edit` makes of a good offer and does not wait for
/// an answer.
pub(super) fn greet<H: ReliableHarness, T: Track<Delivery: Lossless + InOrder>>(
    h: &H,
    track: T,
    mut raw: T,
    role: Role,
    config: MessageConfig,
    edit: impl FnOnce(&mut Offer),
) -> (Result<MessageCarrier<T>, CarrierError<T::Error>>, T) {
    let mut offer = Offer::of(&raw, config.max_message);
    edit(&mut offer);
    let posted = raw.posted();
    let opening = MessageCarrier::open(track, role, config);
    let shake = async {
        match role {
            Role::Connector => {
                drop(hear(&mut raw, kind::HELLO).await);
                say(&mut raw, &frame(kind::WELCOME, posted, &offer.bytes())).await;
            }
            Role::Acceptor => say(&mut raw, &frame(kind::HELLO, posted, &offer.bytes())).await,
        }
    };
    let (opened, ()) = h.wait("a handshake with a raw peer", both(opening, shake));
    (opened, raw)
}
