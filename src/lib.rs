#![doc = include_str!("guides/links.md")]
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use trespass_carriers as carriers;
pub use trespass_core as core;
pub use trespass_layers as layers;
#[cfg(feature = "mock")]
pub use trespass_mock as mock;
#[cfg(feature = "verbs")]
pub use trespass_verbs as verbs;

#[cfg(any(doc, doctest))]
pub mod guides;
