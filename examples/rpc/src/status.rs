//! What a call comes to where it comes to no reply: what the service said, what its server said, what the transport did.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;
use trespass::core::ErrorKind;

macro_rules! numbered {
    (
        $(#[$outer:meta])*
        pub enum $name:ident { $($(#[$inner:meta])* $variant:ident = $number:literal, $text:literal;)* }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$inner])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its number on the wire.
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number,)* }
            }

            /// What has that number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)* })
            }
        }
    };
}

numbered! {
    /// What went wrong, in the words that gRPC uses, too.
    pub enum Code {
        /// The caller gave it up.
        Cancelled = 1, "cancelled";
        /// Something that has no word here.
        Unknown = 2, "unknown";
        /// The request makes no sense, whatever state the server is in.
        InvalidArgument = 3, "invalid argument";
        /// The time was up.
        DeadlineExceeded = 4, "deadline exceeded";
        /// There is no such thing.
        NotFound = 5, "not found";
        /// There is such a thing already.
        AlreadyExists = 6, "already exists";
        /// The caller may not do that.
        PermissionDenied = 7, "permission denied";
        /// Something finite has run out.
        ResourceExhausted = 8, "resource exhausted";
        /// Not in the state that the server is in.
        FailedPrecondition = 9, "failed precondition";
        /// Something else came in between: begin anew.
        Aborted = 10, "aborted";
        /// Past the end.
        OutOfRange = 11, "out of range";
        /// The server has no such method.
        Unimplemented = 12, "unimplemented";
        /// The server is broken.
        Internal = 13, "internal";
        /// Not now: later, or elsewhere, may work.
        Unavailable = 14, "unavailable";
        /// Data is gone.
        DataLoss = 15, "data loss";
        /// Nobody knows who the caller is.
        Unauthenticated = 16, "unauthenticated";
    }
}

/// What a service says instead of a reply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{code}: {message}")]
pub struct Status {
    /// For programs.
    pub code: Code,
    /// For people. No more than [`MESSAGE`](Self::MESSAGE) bytes of it travel.
    pub message: Cow<'static, str>,
}

impl Status {
    /// How many bytes of a message travel at most.
    pub const MESSAGE: usize = 256;

    /// A status. A literal costs no allocation.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }
}

numbered! {
    /// Why the server itself, before or instead of the service, ended a call.
    pub enum Rejection {
        /// It has no such method.
        UnknownMethod = 1, "the server has no such method";
        /// What came as the request is none.
        BadRequest = 2, "the request is not what the method takes";
        /// The request is longer than the server takes.
        TooLarge = 3, "the request is longer than the server takes";
        /// More calls at once than the server said that it takes.
        Busy = 4, "more calls at once than the server takes";
        /// The server is about to go: elsewhere, or later, may work.
        Draining = 5, "the server is draining";
        /// The time was up at the server.
        DeadlineExceeded = 6, "the deadline passed at the server";
        /// Frames of the call that do not belong there.
        Protocol = 7, "the frames of the call make no sense";
        /// The reply cannot be sent: it does not encode, or is longer than the client takes.
        BadReply = 8, "the service's reply cannot be sent";
    }
}

impl Rejection {
    /// Whether the service may have run.
    pub const fn ran(self) -> Ran {
        match self {
            Self::UnknownMethod | Self::BadRequest | Self::TooLarge | Self::Busy | Self::Draining => Ran::No,
            Self::DeadlineExceeded | Self::Protocol => Ran::Maybe,
            Self::BadReply => Ran::Yes,
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::UnknownMethod => Code::Unimplemented,
            Self::BadRequest => Code::InvalidArgument,
            Self::TooLarge => Code::OutOfRange,
            Self::Busy => Code::ResourceExhausted,
            Self::Draining => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Protocol | Self::BadReply => Code::Internal,
        }
    }
}

/// Whether the service may have run a call that came to no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ran {
    /// It has not, and will not: the call may be made again.
    No,
    /// It may have, or may be about to.
    Maybe,
    /// It has.
    Yes,
}

/// Why a call came to no reply. Every call ends once, with a reply or one of these.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The service ran, and said this.
    #[error("{0}")]
    Service(Status),
    /// The server ended the call by itself.
    #[error("{0}")]
    Rejected(Rejection),
    /// The time was up. The server was told.
    #[error("the deadline passed{}", ran_text(.ran))]
    DeadlineExceeded {
        /// Whether the service may have run.
        ran: Ran,
    },
    /// The connection ended before the call did.
    #[error("the connection ended: {kind}{}", ran_text(.ran))]
    Disconnected {
        /// How it ended.
        kind: ErrorKind,
        /// Whether the service may have run.
        ran: Ran,
    },
    /// The request cannot be encoded: its `Serialize` failed. Nothing was sent.
    #[error("the request cannot be encoded")]
    BadRequest,
    /// What came as the reply is none.
    #[error("the reply is not what the method gives")]
    BadReply,
    /// The request is longer than the server takes, or the configuration allows. Nothing was sent.
    #[error("a request of {len} bytes, where at most {max} may be sent")]
    TooLarge {
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// So many calls wait in this channel that no other may. Nothing was sent.
    #[error("too many calls wait in this channel")]
    Busy,
    /// The channel was closed, or this call ended before.
    #[error("the channel is closed, or the call has ended")]
    Closed,
}

impl CallError {
    /// Whether the service may have run. [`Ran::No`] says that the call may be made again, here or elsewhere.
    pub fn ran(&self) -> Ran {
        match self {
            Self::Service(_) | Self::BadReply => Ran::Yes,
            Self::Rejected(rejection) => rejection.ran(),
            Self::DeadlineExceeded { ran } | Self::Disconnected { ran, .. } => *ran,
            Self::BadRequest | Self::TooLarge { .. } | Self::Busy | Self::Closed => Ran::No,
        }
    }

    /// The code that is nearest.
    pub fn code(&self) -> Code {
        match self {
            Self::Service(status) => status.code,
            Self::Rejected(rejection) => rejection.code(),
            Self::DeadlineExceeded { .. } => Code::DeadlineExceeded,
            Self::Disconnected { .. } => Code::Unavailable,
            Self::BadRequest => Code::InvalidArgument,
            Self::BadReply => Code::Internal,
            Self::TooLarge { .. } => Code::OutOfRange,
            Self::Busy => Code::ResourceExhausted,
            Self::Closed => Code::Cancelled,
        }
    }
}

/// For a service that calls others: what they said is passed on.
impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Service(status) => status,
            other => Self::new(other.code(), other.to_string()),
        }
    }
}

fn ran_text(ran: &Ran) -> &'static str {
    match ran {
        Ran::No => "; the call did not run",
        Ran::Maybe => "; the call may have run",
        Ran::Yes => "",
    }
}
