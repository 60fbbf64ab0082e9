//! A table of versioned entries in memory that is lent read-only: peers look keys up with one READ each, and the processor
//! of whoever owns the table takes no part.
//!
//! # One READ
//! The table is an array of buckets, each of a few entries of a fixed size, keys and values inline. A key's hash says which
//! bucket is its, so a reader fetches that bucket whole, in one READ, and looks for the key among what it got. What is not
//! in its bucket (a value too long, one key too many) the bucket counts, so that a reader knows whether a key that is not
//! there may be elsewhere: then it asks by message. An index that is read first would need two READs, one after the other,
//! for every key; a bucket costs bytes instead of a second round trip.
//!
//! # Torn reads
//! A device reads while the owner writes, and may see bytes in any order: nothing but an aligned word of eight bytes is
//! sure to be of one write. So each entry has a checksum over all of it, its place included, and a reader believes nothing
//! else. It is a polynomial over a prime field at a point that is drawn at random for each table ([`Secret`]): of the
//! bytes of an entry of n bytes, what is not what was written passes with a chance of n / 2⁶³ at most, whatever it
//! is, as long as who wrote it did not choose it by the secret. A read that is torn is made again, so often and no more;
//! then it is a message's business ([`Lookup::Torn`]).
//!
//! # What a reader may rely on
//! While a key exists it never moves: neither from one entry to another nor between its bucket and elsewhere. So for
//! whatever [`Lookup`] says there was a moment between the begin of the READ and its end at which that was so, though
//! the entries of the bucket were read at different moments.
//!
//! # Parts
//! - [`bucket`]: what bytes mean, without IO.
//! - [`Table`]: the owner's side.
//! - [`Reader`]: a peer's side, over any track with one-sided memory.
//!
//! ```
//! use futures_executor::block_on;
//! use trespass_core::{Fabric, Incoming, ListenerExt, RecvSideExt};
//! use trespass_example_table::{Directory, Layout, Lookup, Reader, ReaderConfig, Secret, Table};
//! use trespass_mock::MockFabric;
//!
//! let fabric = MockFabric::new();
//! let table = Table::create(&fabric, Layout::new(1000, 4, 160)?, Secret::random())?;
//! let version = table.put(b"key", b"value")?;
//! let lent = table.lend()?;
//! // In a message of one's own:
//! let told = lent.directory().encode();
//!
//! let mut listener = fabric.listen(&"table".parse()?)?;
//! block_on(async {
//!     let connecting = fabric.connect(&"table".parse()?);
//!     let accepted = listener.incoming().await?.accept().await?;
//!     let mut reader = Reader::new(&fabric, connecting.await?, Directory::decode(&told)?, ReaderConfig::default())?;
//!     assert_eq!(reader.find(b"key").await?, Lookup::Found { version });
//!     assert_eq!(reader.value(), b"value");
//!     assert_eq!(reader.find(b"another").await?, Lookup::Absent);
//!     drop(accepted);
//!     Ok::<_, Box<dyn std::error::Error>>(())
//! })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod bucket;
mod entry;
mod hash;
mod layout;
mod reader;
mod table;

pub use hash::Secret;
pub use layout::{BadDirectory, BadLayout, Directory, Layout};
pub use reader::{Lookup, Reader, ReaderConfig, ReaderStats};
pub use table::{Lent, NotPlaced, Table, TableStats, TooSmall};
