//! What can go wrong with a test.

use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;
use trespass_core::{ErrorKind, TransportError};

use super::plan::BadPlan;
use super::said::{BadFrame, Refusal, Why};

#[derive(Debug, Error)]
pub(crate) enum PerfError {
    /// A fabric, track or carrier failed.
    #[error("{action}: {why} ({kind})")]
    Transport { action: &'static str, kind: ErrorKind, why: String },
    #[error("the server refuses: {0}")]
    Refused(Refusal),
    #[error("the peer's words make no sense: {0}")]
    Frame(BadFrame),
    #[error("this test cannot be: {0}")]
    Plan(#[from] BadPlan),
    #[error("{0}")]
    Options(String),
    #[error("-s {size}: a message of this layer has {most} bytes here at most")]
    TooLong { size: usize, most: usize },
    #[error("nothing happened for {0:?}: the peer stands still, or its link is down")]
    Silent(Duration),
    #[error("the peer is gone, and the test was not over")]
    Gone,
    #[error("message {expected} came as {got}: the layer below is broken")]
    Order { expected: u64, got: u64 },
    #[error("a message came that is none of this test's, or a goodbye")]
    Strange,
    #[error("{sent} were sent, and {received} have arrived: the layer below is broken")]
    Miscounted { sent: u64, received: u64 },
    #[error("this fabric has no {0}")]
    Unsupported(&'static str),
    #[error("none of the messages was answered")]
    NoAnswers,
    #[error("interrupted")]
    Interrupted,
    #[error("{path}: {why}")]
    File { path: String, why: String },
}

impl PerfError {
    #[cold]
    pub(crate) fn transport(action: &'static str, error: &impl TransportError) -> Self {
        match error.kind() {
            ErrorKind::Closed | ErrorKind::Disconnected => Self::Gone,
            kind => Self::Transport { action, kind, why: error.to_string() },
        }
    }

    /// Whether it is the fabric or device that has no such thing, at either end.
    pub(crate) fn is_lack(&self) -> bool {
        match self {
            Self::Unsupported(_) | Self::TooLong { .. } | Self::Plan(_) => true,
            Self::Refused(refusal) => refusal.why == Why::Unsupported,
            Self::Transport { kind, .. } => matches!(kind, ErrorKind::Config | ErrorKind::Unavailable),
            _ => false,
        }
    }

    /// As a shell has it: 128 and the signal's number for what was interrupted.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Interrupted => ExitCode::from(130),
            Self::Plan(_) | Self::Options(_) => ExitCode::from(2),
            _ => ExitCode::from(1),
        }
    }
}
