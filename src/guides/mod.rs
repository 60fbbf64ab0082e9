//! Guides and documents: the folder `docs` of the repository, as pages. Nothing here is code of the library; every example is
//! compiled, and run where it can be.
//!
//! # Guides
//! - [From zero to two machines](start): a store on the mock, a program of one's own, what a machine lacks, soft-RoCE, NICs.
//! - [Choosing a track and a carrier](choosing): by what has to arrive, how large it is, how many peers there are.
//! - [A track](own_track), [a fabric](own_fabric) and [a carrier](own_carrier) of one's own, from an empty crate to a conformance
//!   suite that passes.
//! - [Testing an application with faults](testing): a bug found by seeds, replayed, and mended.
//! - [Tuning](tuning): every knob, what it costs, and how to measure it.
//! - [What is safe, and from whom](security).
//! - [Errors, and what to do](errors): every kind and its cure.
//!
//! # Documents
//! - [The contract](contract): what every fabric, track and carrier owes, numbered.
//! - [The mock as a laboratory](mock): simulations, seeds and plans.
//! - [Architecture](architecture): who owns what, and why.
//! - [Measuring](perf): `trespass ping` and `trespass perf`.
//! - [Performance](performance) and [what a connection takes](memory), measured.
//! - [Providers](providers): which devices can what. [Sideway](sideway): where it ends.
//!
//! # Examples
//! Each is a folder of the repository, with a README:
//! - `examples/kv`, a key-value store on any fabric: `cargo run --release --example kv`;
//! - `examples/custom_track`, a fabric over TCP, with a tutorial: `cargo run --example custom_track`;
//! - `examples/custom_carrier`, publish-subscribe, with a tutorial: `cargo run --example custom_carrier`;
//! - `examples/tls`, TLS over a stream: `cargo run -p trespass-example-tls`;
//! - `examples/toy_fabric`, the fabric that the guides write: `cargo test -p toy-fabric`.
//!
//! `trespass-carriers/tests/schedules` has random operations under random plans on every carrier, with a README.
// Pieces of files, which may end within an item: `tests/guides` sees to it that they are of files that compile.
#![allow(rustdoc::invalid_rust_codeblocks)]

/// A page of each document. Links in documents go by names, which `links.md` defines for these pages; on a code host the
/// definitions at the end of each document do, since the first definition of a name is the one that counts.
macro_rules! pages {
    ($($name:ident: $file:literal,)*) => {$(
        #[doc = include_str!("links.md")]
        #[doc = include_str!(concat!("../../", $file))]
        pub mod $name {}
    )*};
}

/// The same for documents whose examples name the verbs backend: tests where that is built.
macro_rules! pages_with_verbs {
    ($($name:ident: $file:literal,)*) => {$(
        #[doc = include_str!("links.md")]
        #[cfg_attr(any(not(doctest), feature = "verbs"), doc = include_str!(concat!("../../", $file)))]
        pub mod $name {}
    )*};
}

pages! {
    architecture: "ARCHITECTURE.md",
    contract: "docs/CONTRACT.md",
    errors: "docs/guide/errors.md",
    memory: "docs/MEMORY.md",
    mock: "docs/MOCK.md",
    own_carrier: "docs/guide/own-carrier.md",
    own_fabric: "docs/guide/own-fabric.md",
    own_track: "docs/guide/own-track.md",
    perf: "docs/PERF.md",
    performance: "docs/PERFORMANCE.md",
    providers: "docs/PROVIDERS.md",
    sideway: "docs/SIDEWAY.md",
    testing: "docs/guide/testing.md",
}

pages_with_verbs! {
    choosing: "docs/guide/choosing.md",
    security: "docs/SECURITY.md",
    start: "docs/guide/start.md",
    tuning: "docs/guide/tuning.md",
}
