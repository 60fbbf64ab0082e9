//! How a server is set up.

use std::time::Duration;

use thiserror::Error;
use trespass::carriers::{MessageConfig, ServerConfig, ServerFault};

use crate::core::wire::Hello;
use crate::link::carrier_config;

/// How an [`RpcServer`](super::RpcServer) is set up.
///
/// # Memory
/// A connection may have this end keep, whatever its client does, `max_calls` times a request and a reply of `max_message` bytes each and, for
/// calls with streams, a window beside; with what the service holds itself. How many connections there are bounds
/// [`ServerConfig`], whose `max_memory` counts their carriers and tracks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServeConfig {
    /// How many calls may be open on one connection. Clients are told, and keep the rest back. Default 1024.
    pub max_calls: u16,
    /// The longest request, in bytes. Default 1 MiB.
    pub max_message: u32,
    /// How many bytes of each stream of requests may wait for the service. Default 256 KiB.
    pub window: u32,
    /// How long a client has to greet, and one that has nothing under way to say goodbye to a server that drains, before the
    /// server goes by itself. Default 1 s.
    pub patience: Duration,
    /// Who comes in.
    pub server: ServerConfig,
    /// How carriers are set up: their deadlines, and how a client that is gone is found.
    pub carrier: MessageConfig,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            max_calls: 1024,
            max_message: 1 << 20,
            window: 256 << 10,
            patience: Duration::from_secs(1),
            server: ServerConfig::default(),
            carrier: carrier_config(),
        }
    }
}

/// A setting that will not do, or two methods of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ServeFault {
    /// Of the server below.
    #[error(transparent)]
    Server(#[from] ServerFault),
    /// Nothing could ever be called.
    #[error("max_calls, max_message and window must be 1 at least, and window less than 2 GiB")]
    Sizes,
    /// Two methods of the router have that number.
    #[error("two methods have the number {0}")]
    TwoMethods(u32),
}

impl ServeConfig {
    /// The same, with so many calls on one connection.
    #[must_use]
    pub fn with_max_calls(self, max_calls: u16) -> Self {
        Self { max_calls, ..self }
    }

    /// The same, with requests of up to so many bytes.
    #[must_use]
    pub fn with_max_message(self, max_message: u32) -> Self {
        Self { max_message, ..self }
    }

    /// The same, with so many bytes of each stream under way.
    #[must_use]
    pub fn with_window(self, window: u32) -> Self {
        Self { window, ..self }
    }

    /// The same, with so much patience.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same, with this about who comes in.
    #[must_use]
    pub fn with_server(self, server: ServerConfig) -> Self {
        Self { server, ..self }
    }

    /// The same, with such carriers.
    #[must_use]
    pub fn with_carrier(self, carrier: MessageConfig) -> Self {
        Self { carrier, ..self }
    }

    pub(super) fn hello(&self) -> Result<Hello, ServeFault> {
        let hello = Hello { max_calls: self.max_calls, window: self.window, max_message: self.max_message };
        let good = hello.max_calls > 0 && hello.max_message > 0 && (1..=i32::MAX as u32).contains(&hello.window);
        if good { Ok(hello) } else { Err(ServeFault::Sizes) }
    }
}
