//! A distributed cache over the carriers of trespass: the parts that a program of one's own would keep. The README beside this
//! package says how to run it, its ARCHITECTURE.md what holds and why.
#![forbid(unsafe_code)]

pub mod membership;
pub mod store;
pub mod view;
