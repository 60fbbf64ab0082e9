//! A key-value store over any fabric: the part that a program of one's own would keep.
//!
//! Nothing in here names a backend. The bounds are those of [`MessageCarrier`] and of threads: a fabric whose tracks lose
//! nothing and keep order.
//!
//! [`MessageCarrier`]: trespass::carriers::MessageCarrier

mod client;
mod map;
pub(crate) mod protocol;
mod server;

pub(crate) use client::{Client, StoreError};
pub(crate) use server::{Server, ServerConfig};
