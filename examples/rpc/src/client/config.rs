//! How a channel is set up, and a call.

use std::time::Duration;

use trespass::carriers::MessageConfig;

use crate::link::carrier_config;

/// How a [`Channel`](super::Channel) is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChannelConfig {
    /// How long a call may take that says nothing else; `None`: for ever. Default 10 s.
    pub deadline: Option<Duration>,
    /// How many calls there may be at once, those that wait to be sent among them: one more fails with
    /// [`CallError::Busy`](crate::CallError::Busy). The server says how many may be on the connection. Default 16,384.
    pub max_calls: usize,
    /// The longest reply, in bytes. Default 1 MiB.
    pub max_message: u32,
    /// How many bytes of each stream of replies may wait for the application. Default 256 KiB.
    pub window: u32,
    /// How long to rest after the first connection that failed. Default 10 ms.
    pub first_rest: Duration,
    /// How long at most: each failure doubles it, and chance takes up to half away. Default 2 s.
    pub longest_rest: Duration,
    /// What chance is made of, for runs that are to be the same again. Default `None`: of chance.
    pub seed: Option<u64>,
    /// How the carrier is set up: its deadlines, and how a server that is gone is found.
    pub carrier: MessageConfig,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            deadline: Some(Duration::from_secs(10)),
            max_calls: 16_384,
            max_message: 1 << 20,
            window: 256 << 10,
            first_rest: Duration::from_millis(10),
            longest_rest: Duration::from_secs(2),
            seed: None,
            carrier: carrier_config(),
        }
    }
}

impl ChannelConfig {
    /// The same, with this deadline for calls that say nothing else.
    #[must_use]
    pub fn with_deadline(self, deadline: Option<Duration>) -> Self {
        Self { deadline, ..self }
    }

    /// The same, with so many calls at once.
    #[must_use]
    pub fn with_max_calls(self, max_calls: usize) -> Self {
        Self { max_calls, ..self }
    }

    /// The same, with replies of up to so many bytes.
    #[must_use]
    pub fn with_max_message(self, max_message: u32) -> Self {
        Self { max_message, ..self }
    }

    /// The same, with so many bytes of each stream under way.
    #[must_use]
    pub fn with_window(self, window: u32) -> Self {
        Self { window, ..self }
    }

    /// The same, with rests between failed connections from `first` to `longest`.
    #[must_use]
    pub fn with_rests(self, first: Duration, longest: Duration) -> Self {
        Self { first_rest: first, longest_rest: longest, ..self }
    }

    /// The same, with chance made of `seed`.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }

    /// The same, with such a carrier.
    #[must_use]
    pub fn with_carrier(self, carrier: MessageConfig) -> Self {
        Self { carrier, ..self }
    }
}

/// How one call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallOptions {
    limit: Option<Option<Duration>>,
}

impl CallOptions {
    /// A call that ends after `limit` at the latest, at the server too.
    pub fn within(limit: Duration) -> Self {
        Self { limit: Some(Some(limit)) }
    }

    /// A call that may take for ever.
    pub fn without_deadline() -> Self {
        Self { limit: Some(None) }
    }

    pub(super) fn limit(self, default: Option<Duration>) -> Option<Duration> {
        self.limit.unwrap_or(default)
    }
}
