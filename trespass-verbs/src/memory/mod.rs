//! Registered memory of any length, for one-sided access and for the operations of this end.
//!
//! The same bytes go through three types, each of which has the block alone or shares it with its like: [`VerbsRegion`]
//! (plain bytes), [`VerbsSharedRegion`] with its [`VerbsWindow`]s (peers may be there: atomic copies only), and the table of
//! operations in flight (the device may be there: nothing).

mod block;
mod region;
mod shared;
mod window;

pub(crate) use block::Registrar;
pub use block::{Mapping, leaked_registrations};
pub use region::VerbsRegion;
pub use shared::VerbsSharedRegion;
pub use window::VerbsWindow;
