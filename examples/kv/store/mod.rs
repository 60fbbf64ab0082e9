//! A key-value store over any fabric: the part that a program of one's own would keep.
//!
//! Nothing in here names a backend. The bounds are those of [`MessageCarrier`] and of threads: a fabric whose tracks lose
//! nothing and keep order. A fabric with one-sided memory may lend the values besides, and clients read them by themselves.
//!
//! [`MessageCarrier`]: trespass::carriers::MessageCarrier

mod batch;
mod client;
mod effort;
mod gets;
mod map;
pub(crate) mod protocol;
mod server;
mod shelf;

pub(crate) use client::{Client, StoreError};
pub(crate) use gets::{ByMessage, Gets, GetsStats, OneSided};
pub(crate) use server::{Server, ServerConfig};
pub(crate) use shelf::{Lender, NoShelf, Shelf};
