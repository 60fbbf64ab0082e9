//! The words between a client and a server, and the connection that carries them.
//!
//! Each is one message: `TrPf`, version, kind, two zeros, and what the kind has (see `docs/PERF.md`). The head, and a refusal, are the
//! same in every version, so that an end of another one can say so.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use thiserror::Error;
use trespass_carriers::{MessageCarrier, MessageConfig};
use trespass_core::{BadWindow, InOrder, Lossless, RemoteWindow, Role, Track};

use super::error::PerfError;
use super::plan::{BadPlan, Plan};

/// The one version there is.
const VERSION: u8 = 1;
const MAGIC: [u8; 4] = *b"TrPf";
const HEAD: usize = 8;
/// The longest text or address in a message, in bytes.
const MAX_TEXT: usize = 512;
/// The longest message.
const MAX_MESSAGE: usize = 1024;

/// How many messages there were, as one end knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Of those received, the ones after the warm-up, and how long it took from the first of them to the last. What a client says
    /// of this is 0.
    pub(crate) counted: u64,
    pub(crate) nanos: u64,
}

/// Why a server will not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text}")]
pub(crate) struct Refusal {
    pub(crate) why: Why,
    pub(crate) text: String,
}

/// The sort of reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The bytes made no sense.
    Protocol = 1,
    /// Another version.
    Version = 2,
    /// A test that cannot be.
    Plan = 3,
    /// The server's fabric has no such thing.
    Unsupported = 4,
    /// It was tried, and failed.
    Failed = 5,
}

impl Why {
    const ALL: [Self; 5] = [Self::Protocol, Self::Version, Self::Plan, Self::Unsupported, Self::Failed];
}

/// One message, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// The client: this test, please.
    Test(Plan),
    /// The server: connect there. `window` is what it lends, for operations on memory.
    Go { addr: String, window: Option<RemoteWindow> },
    /// The server: no.
    No(Refusal),
    /// The client: I have sent all.
    Finish(Counts),
    /// The server: so have I, and this is what came.
    Done(Counts),
}

/// Bytes that are no message of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum BadFrame {
    #[error("these are no words of `trespass perf`")]
    Head,
    #[error("it speaks version {0}, and this end version {VERSION}")]
    Version(u8),
    #[error("there is no message of kind {0}")]
    Kind(u8),
    #[error("a message of kind {kind} cannot have {len} bytes")]
    Length { kind: u8, len: usize },
    #[error(transparent)]
    Plan(#[from] BadPlan),
    #[error(transparent)]
    Window(#[from] BadWindow),
    #[error("an address or text that is none")]
    Text,
    #[error("it said something that it may not say now")]
    Turn,
}

impl BadFrame {
    /// What a server answers to it.
    pub(crate) fn refusal(&self) -> Refusal {
        let why = match self {
            Self::Version(_) => Why::Version,
            Self::Plan(_) => Why::Plan,
            _ => Why::Protocol,
        };
        Refusal { why, text: self.to_string() }
    }
}

impl Said {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let head = |kind| [VERSION, kind, 0, 0];
        match self {
            Self::Test(plan) => {
                bytes.extend(head(1));
                bytes.extend(plan.encode());
            }
            Self::Go { addr, window } => {
                bytes.extend(head(2));
                // Of the same length with a window and without: no window is all zeros.
                bytes.extend(window.map_or([0; RemoteWindow::ENCODED], |window| window.encode()));
                bytes.extend(addr.as_bytes());
            }
            Self::No(Refusal { why, text }) => {
                bytes.extend(head(3));
                bytes.push(*why as u8);
                bytes.extend(shortened(text).as_bytes());
            }
            Self::Finish(counts) | Self::Done(counts) => {
                bytes.extend(head(if matches!(self, Self::Finish(_)) { 4 } else { 5 }));
                for count in [counts.sent, counts.received, counts.counted, counts.nanos] {
                    bytes.extend(count.to_le_bytes());
                }
            }
        }
        bytes
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadFrame> {
        let Some((&[m0, m1, m2, m3, version, kind, z0, z1], body)) = bytes.split_first_chunk::<HEAD>() else {
            return Err(BadFrame::Head);
        };
        if [m0, m1, m2, m3] != MAGIC || [z0, z1] != [0, 0] {
            return Err(BadFrame::Head);
        }
        // A refusal says why in words of every version.
        if version != VERSION && kind != 3 {
            return Err(BadFrame::Version(version));
        }
        let length = BadFrame::Length { kind, len: bytes.len() };
        match kind {
            1 => Ok(Self::Test(Plan::decode(body.try_into().map_err(|_| length)?)?)),
            2 => {
                let (window, addr) = body.split_first_chunk::<{ RemoteWindow::ENCODED }>().ok_or(length)?;
                let window = match window.iter().all(|byte| *byte == 0) {
                    true => None,
                    false => Some(RemoteWindow::decode(window)?),
                };
                Ok(Self::Go { addr: text(addr)?, window })
            }
            3 => {
                let (why, words) = body.split_first().ok_or(length)?;
                let why = Why::ALL.into_iter().find(|known| *known as u8 == *why).unwrap_or(Why::Failed);
                Ok(Self::No(Refusal { why, text: text(words)? }))
            }
            4 => Ok(Self::Finish(counts(body).ok_or(length)?)),
            5 => Ok(Self::Done(counts(body).ok_or(length)?)),
            _ => Err(BadFrame::Kind(kind)),
        }
    }
}

fn counts(body: &[u8]) -> Option<Counts> {
    let body: &[u8; 32] = body.try_into().ok()?;
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| body[at * 8 + i]));
    Some(Counts { sent: word(0), received: word(1), counted: word(2), nanos: word(3) })
}

/// What a peer wrote, and is shown: nothing that a terminal would obey.
fn text(bytes: &[u8]) -> Result<String, BadFrame> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= MAX_TEXT && !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(BadFrame::Text),
    }
}

/// As much of `text` as may be sent, in one line.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    while short.len() > MAX_TEXT {
        short.pop();
    }
    short
}

/// The connection beside that of a test, by which both ends talk of it.
pub(crate) struct Control<T: Track<Delivery: Lossless + InOrder>> {
    carrier: MessageCarrier<T>,
}

impl<T: Track<Delivery: Lossless + InOrder>> Control<T> {
    pub(crate) async fn open(track: T, role: Role, patience: Duration) -> Result<Self, PerfError> {
        let config = MessageConfig::default()
            .with_max_message(MAX_MESSAGE)
            .with_spill_limit(16 * MAX_MESSAGE)
            .with_open_timeout(patience)
            .with_close_timeout(patience);
        let carrier = MessageCarrier::open(track, role, config).await;
        Ok(Self { carrier: carrier.map_err(|error| PerfError::transport("shaking hands", &error))? })
    }

    pub(crate) fn track(&self) -> Option<&T> {
        self.carrier.track()
    }

    pub(crate) async fn say(&mut self, what: &Said) -> Result<(), PerfError> {
        self.carrier.send(&what.encode()).await.map_err(|error| PerfError::transport("talking to the peer", &error))
    }

    /// The next message; `None` once the peer has said goodbye. Dropping a future made of this loses nothing.
    pub(crate) fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Said>, PerfError>> {
        Poll::Ready(match ready!(self.carrier.poll_recv(cx)) {
            Ok(Some(message)) => Said::decode(&message).map(Some).map_err(PerfError::Frame),
            Ok(None) => Ok(None),
            Err(error) => Err(PerfError::transport("listening to the peer", &error)),
        })
    }

    /// The same, where the peer has something left to say.
    pub(crate) async fn hear(&mut self) -> Result<Said, PerfError> {
        match std::future::poll_fn(|cx| self.poll_hear(cx)).await? {
            Some(Said::No(refusal)) => Err(PerfError::Refused(refusal)),
            Some(said) => Ok(said),
            None => Err(PerfError::Gone),
        }
    }

    pub(crate) async fn close(&mut self) {
        // The other end may be the first to go, which makes this end's close a failure that means nothing here.
        let _ = self.carrier.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::plan::tests::terms;
    use trespass_core::Access;

    fn samples() -> Vec<Said> {
        let counts = Counts { sent: 1, received: u64::MAX, counted: 3, nanos: 4 };
        let window = RemoteWindow::new(64, 4096, 7, Access::ReadWrite).expect("a window");
        vec![
            Said::Test(Plan::new(terms()).expect("a plan")),
            Said::Go { addr: "192.0.2.1:7471".into(), window: Some(window) },
            Said::Go { addr: "there".into(), window: None },
            Said::No(Refusal { why: Why::Plan, text: "size is 0".into() }),
            Said::Finish(counts),
            Said::Done(counts),
        ]
    }

    #[test]
    fn what_is_said_survives_its_bytes() {
        for said in samples() {
            assert_eq!(Said::decode(&said.encode()), Ok(said));
        }
    }

    #[test]
    fn garbage_in_every_byte_is_a_message_or_a_typed_error() {
        for said in samples() {
            let good = said.encode();
            for at in 0..good.len() {
                for byte in [0, 1, 6, 7, 0x7f, 0x80, 0xff] {
                    let mut bad = good.clone();
                    bad[at] = byte;
                    // Whatever it is, it can be said again: nothing was invented.
                    if let Ok(other) = Said::decode(&bad) {
                        assert!(Said::decode(&other.encode()).is_ok());
                    }
                }
                assert!(at >= HEAD || Said::decode(&good[..at]) == Err(BadFrame::Head), "cut to {at}");
            }
        }
    }

    #[test]
    fn heads_are_checked_in_every_field() {
        let good = samples()[0].encode();
        for (at, byte, why) in [
            (0, b'X', BadFrame::Head),
            (3, 0, BadFrame::Head),
            (4, 0, BadFrame::Version(0)),
            (4, 2, BadFrame::Version(2)),
            (5, 0, BadFrame::Kind(0)),
            (5, 6, BadFrame::Kind(6)),
            (6, 1, BadFrame::Head),
            (7, 255, BadFrame::Head),
        ] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(Said::decode(&bad), Err(why), "byte {at} is {byte}");
        }
        for len in [HEAD, good.len() - 1] {
            assert_eq!(Said::decode(&good[..len]), Err(BadFrame::Length { kind: 1, len }));
        }
    }

    #[test]
    fn a_refusal_of_another_version_is_understood() {
        let mut bytes = Said::No(Refusal { why: Why::Version, text: "it speaks version 1".into() }).encode();
        bytes[4] = 9;
        assert!(matches!(Said::decode(&bytes), Ok(Said::No(Refusal { why: Why::Version, .. }))));
    }

    #[test]
    fn what_a_peer_writes_does_not_reach_the_terminal_as_more_than_text() {
        for bad in [&b"\x1b[2J"[..], b"two\nlines", b"\xff\xfe", &[b'x'; MAX_TEXT + 1]] {
            assert_eq!(text(bad), Err(BadFrame::Text));
        }
        let long = Said::No(Refusal { why: Why::Failed, text: "ä\n".repeat(1000) });
        assert!(matches!(Said::decode(&long.encode()), Ok(Said::No(_))));
    }
}
