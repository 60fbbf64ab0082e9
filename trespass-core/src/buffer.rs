//! The two kinds of owned buffer that a track deals in.

use std::ops::{Deref, DerefMut};

/// Owned registered memory, and the right to send it: the slot in the send queue is paid for.
///
/// # For implementers
/// - The slice has exactly the length that was reserved. Its bytes are zero, or what this same track sent before;
///   never what another peer sent.
/// - Dropping it, on any thread, gives slot and memory back and wakes a sender that waits for them.
/// - It stays valid after its track, listener and fabric are gone.
///
/// # For users
/// Fill it, then pass it to [`SendSide::send`](crate::SendSide::send). It may be kept, moved and dropped freely,
/// but each one that is kept is a slot that nobody else can use.
///
/// # Implemented by
/// `VerbsSendBuf` on NICs, `MockSendBuf` in process, and `CheckedSendBuf`, `LossySendBuf` and `Either` of the layers.
///
/// # A toy
/// ```
/// use std::ops::{Deref, DerefMut};
///
/// struct Toy(Vec<u8>);
/// impl Deref for Toy {
///     type Target = [u8];
///     fn deref(&self) -> &[u8] {
///         &self.0
///     }
/// }
/// impl DerefMut for Toy {
///     fn deref_mut(&mut self) -> &mut [u8] {
///         &mut self.0
///     }
/// }
/// impl trespass_core::SendBuf for Toy {
///     fn truncate(&mut self, len: usize) {
///         self.0.truncate(len);
///     }
/// }
/// ```
pub trait SendBuf: DerefMut<Target = [u8]> + 'static {
    /// Shortens the message to `len` bytes. No effect where it is that short already.
    fn truncate(&mut self, len: usize);
}

/// A received message, in the memory into which the NIC wrote it. Dropping it, on any thread, gives the memory back.
///
/// # For implementers
/// - The slice has exactly the length that the peer sent.
/// - While it lives, nothing writes to its memory. It stays valid after its track, listener and fabric are gone.
/// - Dropping it reposts it as a receive, or wakes the receive side so that it does.
///
/// # For users
/// A receiver that keeps all of them stalls its peer. To hand one on as
/// [`bytes::Bytes`](https://docs.rs/bytes/latest/bytes/struct.Bytes.html), use
/// `Bytes::from_owner(buf)`, which costs one small allocation and no copy.
///
/// Implemented for everything that fits: there is nothing to write.
///
/// ```
/// /// Takes a message as it is: nothing is copied.
/// fn hand_on(message: impl trespass_core::RecvBuf + Send) -> bytes::Bytes {
///     bytes::Bytes::from_owner(message)
/// }
/// assert_eq!(&hand_on(vec![1, 2])[..], [1, 2]);
/// ```
pub trait RecvBuf: Deref<Target = [u8]> + AsRef<[u8]> + 'static {}

impl<T: Deref<Target = [u8]> + AsRef<[u8]> + 'static> RecvBuf for T {}
