//! Small RAII types over what sideway does not cover: every `unsafe` of the crate is below here or in `pool`.
//!
//! `docs/SIDEWAY.md` says for each of them why it goes around sideway, and what would end that.

pub(crate) mod ah;
pub(crate) mod cm;
pub(crate) mod cq;
pub(crate) mod events;
pub(crate) mod fd;
pub(crate) mod mr;
pub(crate) mod port;
pub(crate) mod qp;
pub(crate) mod srq;
