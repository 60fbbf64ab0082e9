//! What is fuzzed, one function for each target: any bytes in, and a panic where a promise is broken. `README.md` beside this
//! says what each promises. The targets of libFuzzer call these, and so does a test that replays what is kept in `corpus`.
#![forbid(unsafe_code)]

mod clock;
mod datagrams;
mod messages;
mod meter;
mod parts;
mod raw;
mod rendezvous;
mod streams;
mod told;

pub use datagrams::datagrams;
pub use messages::messages;
pub use parts::{assembly, decoders, inbox};
pub use rendezvous::rendezvous;
pub use streams::streams;

/// The name of every target.
pub const TARGETS: [&str; 7] = ["decoders", "inbox", "assembly", "messages", "rendezvous", "streams", "datagrams"];
