//! What a track promises about the messages that it carries.
//!
//! One sealed axis: a track names exactly one of [`Reliable`], [`Unordered`] and [`Datagram`], so that promises
//! cannot contradict each other, and a carrier asks for what it needs by bound
//! (`T: Track<Delivery: Lossless + InOrder>`). A stream over datagrams is then a compile error that says why.

mod sealed {
    pub trait Sealed {}
}

/// What a track promises. Sealed: the three types of this module are all there is.
///
/// # Implemented by
/// [`Reliable`], [`Unordered`] and [`Datagram`].
///
/// # Example
/// ```
/// use trespass_core::{Datagram, Delivery, InOrder, Lossless, Reliable};
///
/// /// What needs all to arrive, in order, says so; anything else does not compile.
/// fn a_stream_over<D: Lossless + InOrder>() {}
/// a_stream_over::<Reliable>();
/// assert!(Reliable::LOSSLESS && !Datagram::LOSSLESS);
/// ```
/// ```compile_fail,E0277
/// # use trespass_core::{Datagram, InOrder, Lossless};
/// # fn a_stream_over<D: Lossless + InOrder>() {}
/// a_stream_over::<Datagram>();
/// ```
pub trait Delivery: sealed::Sealed + 'static {
    /// Whether every message flushed on a live track arrives.
    const LOSSLESS: bool;
    /// Whether messages arrive in the order in which they were queued.
    const IN_ORDER: bool;
}

/// Every message that is flushed on a track which is then closed cleanly arrives, once. See [`Delivery`] for an example.
///
/// # Implemented by
/// [`Reliable`] and [`Unordered`].
#[diagnostic::on_unimplemented(
    message = "this needs a track that loses nothing, and `{Self}` may drop messages",
    label = "a lossless delivery is required here",
    note = "use a reliable track (`Delivery = Reliable`), or a carrier made for datagrams"
)]
pub trait Lossless: Delivery {}

/// Messages arrive in the order in which they were queued. See [`Delivery`] for an example.
///
/// # Implemented by
/// [`Reliable`].
#[diagnostic::on_unimplemented(
    message = "this needs a track that keeps order, and `{Self}` may reorder messages",
    label = "an ordered delivery is required here",
    note = "use a reliable track (`Delivery = Reliable`), or a carrier that does not need order"
)]
pub trait InOrder: Delivery {}

/// Lossless and in order: a reliable connected queue pair (RC; InfiniBand specification vol. 1, 9.7).
#[derive(Debug)]
pub enum Reliable {}

/// Lossless, in any order: scalable reliable datagrams (SRD).
#[derive(Debug)]
pub enum Unordered {}

/// May lose, duplicate and reorder: unreliable datagrams (UD; InfiniBand specification vol. 1, 9.8.3). What is owed all the
/// same: `docs/CONTRACT.md`, clauses D.
#[derive(Debug)]
pub enum Datagram {}

impl sealed::Sealed for Reliable {}
impl sealed::Sealed for Unordered {}
impl sealed::Sealed for Datagram {}

impl Delivery for Reliable {
    const LOSSLESS: bool = true;
    const IN_ORDER: bool = true;
}
impl Delivery for Unordered {
    const LOSSLESS: bool = true;
    const IN_ORDER: bool = false;
}
impl Delivery for Datagram {
    const LOSSLESS: bool = false;
    const IN_ORDER: bool = false;
}

impl Lossless for Reliable {}
impl Lossless for Unordered {}
impl InOrder for Reliable {}
