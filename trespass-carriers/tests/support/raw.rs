//! A peer that writes its own bytes.

use futures_executor::block_on;
use trespass_core::{RecvSide, RecvSideExt, SendSide, TransportError, TryError};
use trespass_mock::{MockError, MockTrack};

/// One end of a track, without a carrier.
pub(crate) struct Raw {
    pub(crate) track: MockTrack,
    sent: u64,
}

/// The fields of a handshake, as bytes: what an honest peer of the sizes in `support::small` says.
#[derive(Debug, Clone)]
pub(crate) struct Greeting {
    pub(crate) kind: u8,
    pub(crate) credits: u32,
    pub(crate) magic: [u8; 8],
    pub(crate) versions: [u16; 2],
    pub(crate) length: u16,
    pub(crate) carrier: u16,
    pub(crate) required: u64,
    pub(crate) optional: u64,
    pub(crate) window: u32,
    pub(crate) max_frame: u32,
    pub(crate) max_message: u64,
    pub(crate) eager_limit: u32,
    pub(crate) tail: Vec<u8>,
}

/// Frames may be bare.
#[allow(dead_code, reason = "not every test that is a raw peer knows such")]
pub(crate) const BARE: u64 = 1 << 9;

pub(crate) const HELLO: u8 = 1;
pub(crate) const WELCOME: u8 = 2;
pub(crate) const REFUSE: u8 = 3;
pub(crate) const MESSAGE: u8 = 16;
pub(crate) const FIRST: u8 = 17;
pub(crate) const MORE: u8 = 18;
pub(crate) const ABORT: u8 = 19;
pub(crate) const CREDIT: u8 = 32;
pub(crate) const FIN: u8 = 33;
pub(crate) const BYE: u8 = 34;

impl Greeting {
    pub(crate) fn honest(kind: u8) -> Self {
        Self {
            kind,
            credits: 8,
            magic: *b"trespass",
            versions: [1, 1],
            length: 64,
            carrier: 1,
            required: 0,
            optional: 0,
            window: 8,
            max_frame: 256,
            max_message: 1 << 20,
            eager_limit: 248,
            tail: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind, 0, 0, 0];
        bytes.extend(self.credits.to_le_bytes());
        bytes.extend(self.magic);
        bytes.extend(self.versions.iter().flat_map(|version| version.to_le_bytes()));
        bytes.extend(self.length.to_le_bytes());
        bytes.extend(self.carrier.to_le_bytes());
        bytes.extend(self.required.to_le_bytes());
        bytes.extend(self.optional.to_le_bytes());
        bytes.extend(self.window.to_le_bytes());
        bytes.extend(self.max_frame.to_le_bytes());
        bytes.extend(self.max_message.to_le_bytes());
        bytes.extend(self.eager_limit.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend([0x5a; 8]);
        bytes.extend(&self.tail);
        bytes
    }
}

/// A frame that says `credits`.
pub(crate) fn frame(kind: u8, credits: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(credits.to_le_bytes());
    bytes.extend(body);
    bytes
}

/// What a First has behind its header.
pub(crate) fn first(total: u64, segment: &[u8]) -> Vec<u8> {
    [&total.to_le_bytes(), segment].concat()
}

impl Raw {
    pub(crate) fn new(track: MockTrack) -> Self {
        Self { track, sent: 0 }
    }

    /// Sends bytes as they are. Whether the track still took them.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> bool {
        let reserved = self.track.try_reserve(bytes.len());
        let Ok(mut buf) = reserved else { return false };
        buf.copy_from_slice(bytes);
        self.sent += 1;
        self.track.send(buf).is_ok() && self.track.flush().is_ok()
    }

    /// Sends bytes without a header, with `word` beside them. Whether the track still took them.
    #[allow(dead_code, reason = "not every test that is a raw peer says such")]
    pub(crate) fn bare(&mut self, word: u32, bytes: &[u8]) -> bool {
        let reserved = self.track.try_reserve(bytes.len());
        let Ok(mut buf) = reserved else { return false };
        buf.copy_from_slice(bytes);
        self.sent += 1;
        self.track.send_immediate(buf, word).is_ok() && self.track.flush().is_ok()
    }

    /// Sends a frame with honest credits.
    pub(crate) fn frame(&mut self, kind: u8, body: &[u8]) -> bool {
        let posted = self.track.posted() as u32;
        self.say(&frame(kind, posted, body))
    }

    /// The next frame of the other end.
    pub(crate) fn hear(&mut self) -> Result<Vec<u8>, MockError> {
        block_on(self.track.recv()).map(|buf| buf.to_vec())
    }

    /// Takes what has arrived, and tells whether the other end has closed the track.
    pub(crate) fn is_closed(&mut self) -> bool {
        loop {
            match self.track.try_recv() {
                Ok(_) => {}
                Err(TryError::WouldBlock) => return false,
                Err(TryError::Failed(error)) => return error.kind() == trespass_core::ErrorKind::Closed,
            }
        }
    }
}
