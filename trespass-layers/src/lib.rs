//! Layers over any fabric. Each is itself a fabric, so the application above does not change; only `main` says which.
//!
//! - [`Checked`] holds both sides of the boundary to the contract, in debug builds.
//! - [`Metered`] counts what passes, and exports it.
//! - [`Either`] is one of two fabrics, chosen at run time.
//! - [`Spun`] has tracks look for a while before they sleep.
//! - [`Lossy`] makes datagrams of messages, and loses some, for tests.
//!
//! A layer of one's own is an implementation of [`Layer`]: how a track is wrapped, and what to do about connections.
//!
//! Dispatch is static, and a layer is usable from any thread ([`ThreadFabric`](trespass_core::ThreadFabric)) where the
//! fabric below is. Layers stack: `Checked<Checked<F>>` is a type like any other.
#![forbid(unsafe_code)]

pub mod checked;
pub mod either;
mod layer;
pub mod lossy;
pub mod metered;
mod spun;
mod sync;

pub use checked::Checked;
pub use either::Either;
pub use layer::{Event, Handshake, Layer, Layered, LayeredIncoming, LayeredListener};
pub use lossy::Lossy;
pub use metered::Metered;
pub use spun::Spun;
