//! Datagrams in their own form: one port, many peers. And a word beside a message, where the device carries one.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::task::{Context, Poll, ready};

use crate::buffer::{RecvBuf, SendBuf};
use crate::delivery::Datagram;
use crate::error::{TransportError, TryError, Unsent};
use crate::fabric::Fabric;
use crate::time::Timer;
use crate::track::{Address, Limits, Track};

/// A received datagram that says who sent it.
///
/// # Implemented by
/// `VerbsDatagram` on NICs, `MockDatagram` in process. See [`Port`] for a toy that implements it.
pub trait Sourced: RecvBuf {
    /// How senders are told apart.
    type Peer;

    /// Who sent it: what an answer is sent to.
    fn source(&self) -> Self::Peer;
}

/// Where datagrams come from and go to: one queue pair for any number of peers.
///
/// # For implementers
/// - A datagram arrives whole and unchanged or not at all; the network may lose, duplicate and reorder it. One that meets no
///   posted receive is gone, and the sender is not told.
/// - Back-pressure is at reserve, as on a track; it comes from the own device alone.
/// - What no peer of this fabric sent (a stranger's datagram, too short, with the wrong key) is dropped and counted.
/// - The cache of address handles is bounded.
///
/// # For users
/// A port hears from whoever knows its address. [`PortFabric::resolve`] finds the peer behind an address; an answer goes to
/// the [`source`](Sourced::source) of what arrived. One peer alone is better served by the one-peer view, a
/// `Track<Delivery = Datagram>`, which `connect` and `listen` of the same fabric give.
///
/// A datagram that was sent and not flushed may wait without end: `poll_send_ready`, `poll_recv_ready` and `poll_close`
/// flush first.
///
/// # Implemented by
/// `VerbsPort` on NICs, `MockPort` in process.
///
/// # A toy
/// Ports that know each other by number, within one thread. (They have unlimited slots and never close: they keep no
/// contract but show every part.)
/// ```
/// use std::cell::RefCell;
/// use std::collections::VecDeque;
/// use std::ops::{Deref, DerefMut};
/// use std::rc::Rc;
/// use std::task::{Context, Poll};
/// use trespass_core::*;
///
/// #[derive(Debug, Clone, thiserror::Error)]
/// #[error("there is no such port")]
/// struct NoSuchPort;
/// impl TransportError for NoSuchPort {
///     fn kind(&self) -> ErrorKind {
///         ErrorKind::Unreachable
///     }
/// }
///
/// struct Draft(Vec<u8>);
/// impl Deref for Draft {
///     type Target = [u8];
///     fn deref(&self) -> &[u8] {
///         &self.0
///     }
/// }
/// impl DerefMut for Draft {
///     fn deref_mut(&mut self) -> &mut [u8] {
///         &mut self.0
///     }
/// }
/// impl SendBuf for Draft {
///     fn truncate(&mut self, len: usize) {
///         self.0.truncate(len);
///     }
/// }
///
/// struct Letter(usize, Vec<u8>);
/// impl Deref for Letter {
///     type Target = [u8];
///     fn deref(&self) -> &[u8] {
///         &self.1
///     }
/// }
/// impl AsRef<[u8]> for Letter {
///     fn as_ref(&self) -> &[u8] {
///         self
///     }
/// }
/// impl Sourced for Letter {
///     type Peer = usize;
///     fn source(&self) -> usize {
///         self.0
///     }
/// }
///
/// struct Boxes(Rc<RefCell<Vec<VecDeque<Letter>>>>, usize, SystemTimer);
/// impl Port for Boxes {
///     type Error = NoSuchPort;
///     type Addr = String;
///     type Timer = SystemTimer;
///     type Peer = usize;
///     type SendBuf = Draft;
///     type RecvBuf = Letter;
///     fn limits(&self) -> Limits {
///         Limits::new(1024, 64, 64)
///     }
///     fn local(&self) -> String {
///         self.1.to_string()
///     }
///     fn timer(&self) -> SystemTimer {
///         self.2.clone()
///     }
///     fn try_reserve(&mut self, len: usize) -> Result<Draft, TryError<NoSuchPort>> {
///         Ok(Draft(vec![0; len]))
///     }
///     fn send_to(&mut self, buf: Draft, to: &usize) -> Result<(), Unsent<Draft, NoSuchPort>> {
///         match self.0.borrow_mut().get_mut(*to) {
///             Some(letters) => Ok(letters.push_back(Letter(self.1, buf.0))),
///             None => Err(Unsent { buf, error: NoSuchPort }),
///         }
///     }
///     fn flush(&mut self) -> Result<(), NoSuchPort> {
///         Ok(())
///     }
///     fn try_recv(&mut self) -> Result<Letter, TryError<NoSuchPort>> {
///         self.0.borrow_mut()[self.1].pop_front().ok_or(TryError::WouldBlock)
///     }
///     fn poll_send_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
///         Poll::Ready(())
///     }
///     fn poll_recv_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
///         match self.0.borrow()[self.1].is_empty() {
///             true => Poll::Pending,
///             false => Poll::Ready(()),
///         }
///     }
///     fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoSuchPort>> {
///         Poll::Ready(Ok(()))
///     }
/// }
///
/// let letters = Rc::new(RefCell::new(vec![VecDeque::new(), VecDeque::new()]));
/// let timer = SystemTimer::new();
/// let mut asks = Boxes(letters.clone(), 0, timer.clone());
/// let mut answers = Boxes(letters, 1, timer);
/// futures_executor::block_on(async {
///     let mut buf = asks.reserve(4).await.unwrap();
///     buf.copy_from_slice(b"ping");
///     asks.send_to(buf, &1).unwrap();
///     let question = answers.recv().await.unwrap();
///     let buf = answers.reserve(question.len()).await.unwrap();
///     answers.send_to(buf, &question.source()).unwrap();
///     assert_eq!(asks.recv().await.unwrap().source(), 1);
///     let buf = asks.reserve(0).await.unwrap();
///     assert_eq!(asks.send_to(buf, &2).unwrap_err().error.kind(), ErrorKind::Unreachable);
/// });
/// ```
pub trait Port {
    /// What can go wrong.
    type Error: TransportError;
    /// How ports are named.
    type Addr: Address;
    /// The time of the fabric that made this.
    type Timer: Timer;
    /// Another port, found. Another life of a port at the same address is another peer.
    type Peer: Clone + Debug + Eq + Hash + Send + Sync + 'static;
    /// Owned registered memory, with its slot.
    type SendBuf: SendBuf;
    /// An owned received datagram.
    type RecvBuf: Sourced<Peer = Self::Peer>;

    /// The sizes of this port. `max_message` is known before anything is posted: the path's MTU.
    fn limits(&self) -> Limits;
    /// The address of this port.
    fn local(&self) -> Self::Addr;
    /// The clock of the fabric that made this.
    fn timer(&self) -> Self::Timer;

    /// As [`SendSide::try_reserve`](crate::SendSide::try_reserve).
    ///
    /// # Errors
    /// The same.
    fn try_reserve(&mut self, len: usize) -> Result<Self::SendBuf, TryError<Self::Error>>;

    /// Queues `buf` for `to`. Never blocks.
    ///
    /// # Errors
    /// The buffer comes back: kind `ForeignBuffer`; `Unreachable` for a peer of another fabric; or what ended the port.
    fn send_to(&mut self, buf: Self::SendBuf, to: &Self::Peer) -> Result<(), Unsent<Self::SendBuf, Self::Error>>;

    /// As [`SendSide::flush`](crate::SendSide::flush).
    ///
    /// # Errors
    /// The same.
    fn flush(&mut self) -> Result<(), Self::Error>;

    /// The next datagram, of any peer.
    ///
    /// # Errors
    /// As [`RecvSide::try_recv`](crate::RecvSide::try_recv).
    fn try_recv(&mut self) -> Result<Self::RecvBuf, TryError<Self::Error>>;

    /// As [`SendSide::poll_send_ready`](crate::SendSide::poll_send_ready).
    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// As [`RecvSide::poll_recv_ready`](crate::RecvSide::poll_recv_ready); flushes first.
    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Flushes, waits until the own device has sent everything, and ends the port. Idempotent.
    ///
    /// # Errors
    /// Kind `TimedOut` past the fabric's close deadline, or what ended the port before.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;
}

/// A fabric of datagrams: its tracks are views of ports.
///
/// # Implemented by
/// `VerbsDatagrams` on NICs, `MockDatagrams` in process.
///
/// # Example
/// ```
/// use trespass_core::{Port, PortExt, PortFabric};
///
/// /// Asks the port at `there`, from a port at `here`. One that gets no answer would ask again: either may be lost.
/// async fn ask<F: PortFabric>(fabric: &F, here: &F::Addr, there: &F::Addr) -> Result<Vec<u8>, F::Error> {
///     let mut port = fabric.open_port(here)?;
///     let peer = fabric.resolve(there).await?;
///     let mut buf = port.reserve(3).await?;
///     buf.copy_from_slice(b"why");
///     port.send_to(buf, &peer).map_err(|unsent| unsent.error)?;
///     port.flush()?;
///     Ok(port.recv().await?.to_vec())
/// }
/// ```
pub trait PortFabric: Fabric<Track: Track<Delivery = Datagram>> {
    /// The addressed form.
    type Port: Port<Error = Self::Error, Addr = Self::Addr, Timer = Self::Timer>;
    /// A port that is being looked for. Dropping it takes everything back.
    type Resolving: Future<Output = Result<<Self::Port as Port>::Peer, Self::Error>>;

    /// Opens a port at `addr`, where others find it.
    ///
    /// # Errors
    /// As [`Fabric::listen`].
    fn open_port(&self, addr: &Self::Addr) -> Result<Self::Port, Self::Error>;

    /// Finds the port at `addr`.
    ///
    /// # Errors
    /// Kind `Unreachable`, `Refused` or `TimedOut` where there is none.
    fn resolve(&self, addr: &Self::Addr) -> Self::Resolving;
}

/// `async` forms of [`Port`]. Each borrows the port alone; dropping one at any await loses nothing.
///
/// # Implemented by
/// Every [`Port`], whose toy uses it.
pub trait PortExt: Port {
    /// Waits for a slot and claims `len` bytes with it.
    ///
    /// # Errors
    /// As [`Port::try_reserve`], never `WouldBlock`.
    fn reserve(&mut self, len: usize) -> impl Future<Output = Result<Self::SendBuf, Self::Error>> + use<'_, Self>;

    /// Waits for the next datagram, of any peer.
    ///
    /// # Errors
    /// As [`Port::try_recv`], never `WouldBlock`.
    fn recv(&mut self) -> impl Future<Output = Result<Self::RecvBuf, Self::Error>> + use<'_, Self>;

    /// Ends the port cleanly: see [`Port::poll_close`].
    ///
    /// # Errors
    /// As [`Port::poll_close`].
    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + use<'_, Self>;
}

impl<P: Port + ?Sized> PortExt for P {
    fn reserve(&mut self, len: usize) -> impl Future<Output = Result<Self::SendBuf, Self::Error>> + use<'_, P> {
        poll_fn(move |cx| {
            loop {
                match self.try_reserve(len) {
                    Ok(buf) => return Poll::Ready(Ok(buf)),
                    Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                    Err(TryError::WouldBlock) => ready!(self.poll_send_ready(cx)),
                }
            }
        })
    }

    fn recv(&mut self) -> impl Future<Output = Result<Self::RecvBuf, Self::Error>> + use<'_, P> {
        poll_fn(|cx| {
            loop {
                match self.try_recv() {
                    Ok(buf) => return Poll::Ready(Ok(buf)),
                    Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                    Err(TryError::WouldBlock) => ready!(self.poll_recv_ready(cx)),
                }
            }
        })
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + use<'_, P> {
        poll_fn(|cx| self.poll_close(cx))
    }
}
