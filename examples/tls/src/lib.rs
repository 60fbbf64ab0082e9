//! TLS over a [`StreamCarrier`](trespass::carriers::StreamCarrier): the parts that a program of one's own would keep. See
//! the README beside this package.
#![forbid(unsafe_code)]

pub mod echo;
pub mod identity;
pub mod secure;
