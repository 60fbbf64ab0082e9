//! Connected tracks, and messages that can be told apart.

use std::fmt::Debug;

use trespass_core::{Fabric, Incoming, Listener, ListenerExt, RecvSide, SendSide, TransportError, TryError};

use crate::harness::{Fabrics, Harness};
use crate::wait::{RecvWait, SendWait, Waits, both, both_well, mix};

/// Two tracks that are joined to each other, and what they came from.
pub(crate) struct Pair<F: Fabric> {
    pub(crate) client: F::Track,
    pub(crate) server: F::Track,
    pub(crate) listener: F::Listener,
    pub(crate) fabrics: Fabrics<F>,
}

/// How many buffers of `slots` that were given back may wait to be posted while the device has half of its receives: B6.
pub(crate) fn kept_back(slots: u64) -> u64 {
    slots.saturating_sub(1) / 4
}

/// A fresh pair from fresh fabrics.
pub(crate) fn pair<H: Harness>(h: &H) -> Pair<H::Fabric> {
    pair_of(h, h.fabrics())
}

/// A fresh pair from fabrics with short deadlines.
pub(crate) fn hasty_pair<H: Harness>(h: &H) -> Pair<H::Fabric> {
    pair_of(h, h.hasty_fabrics())
}

fn pair_of<H: Harness>(h: &H, fabrics: Fabrics<H::Fabric>) -> Pair<H::Fabric> {
    let mut listener = listen(h, &fabrics.server);
    let (client, server) = join(h, &fabrics.client, &mut listener);
    Pair { client, server, listener, fabrics }
}

/// A listener at a fresh address.
pub(crate) fn listen<H: Harness>(h: &H, fabric: &H::Fabric) -> <H::Fabric as Fabric>::Listener {
    let addr = h.listen_addr();
    fabric.listen(&addr).unwrap_or_else(|error| panic!("cannot listen at {addr}: {error}"))
}

/// One more connection to `listener`: the client's track and the server's.
pub(crate) fn join<H: Harness, F: Fabric>(h: &H, client: &F, listener: &mut F::Listener) -> (F::Track, F::Track) {
    let addr = listener.local();
    let accepting = async { listener.incoming().await?.accept().await };
    let joined = h.wait(format_args!("a connection to {addr}"), both_well(client.connect(&addr), accepting));
    joined.unwrap_or_else(|error| panic!("no connection to {addr}: {error}"))
}

/// The bytes of message `id` at `len` bytes. Every byte depends on `id`, so that bytes of two messages do not mix unseen;
/// none is [`BLANK`].
pub(crate) fn bytes(id: u64, len: usize) -> impl Iterator<Item = u8> {
    (0..len as u64).map(move |at| {
        let word = mix(id.wrapping_mul(0x0100_0000_01B3).wrapping_add(at / 8 + 1)).to_le_bytes();
        word[(at % 8) as usize] | 1
    })
}

/// A byte that no message holds.
pub(crate) const BLANK: u8 = 0;

/// Fills `buf` with message `id`.
pub(crate) fn stamp(buf: &mut [u8], id: u64) {
    let len = buf.len();
    buf.iter_mut().zip(bytes(id, len)).for_each(|(to, from)| *to = from);
}

/// Panics unless `got` is message `id` at `len` bytes, and says how it differs.
pub(crate) fn check(got: &[u8], id: u64, len: usize) {
    assert_eq!(got.len(), len, "message {id} has another length than it was sent with");
    if let Some((at, (got, sent))) = got.iter().copied().zip(bytes(id, len)).enumerate().find(|(_, (a, b))| a != b) {
        panic!("message {id} of {len} bytes differs at byte {at}: sent {sent:#04x}, got {got:#04x}");
    }
}

/// A length for message `id` that has nothing to do with those of its neighbours, from 0 to `max`, often small.
pub(crate) fn length(id: u64, max: usize) -> usize {
    let roll = mix(id ^ 0x5EED);
    let bound = match roll % 4 {
        0 => 17,
        1 => 257,
        _ => max + 1,
    };
    usize::try_from(mix(roll) % bound as u64).expect("below a usize").min(max)
}

/// Waits for a slot, and queues message `id` at `len` bytes.
pub(crate) async fn put<S: SendSide>(side: &mut S, id: u64, len: usize) {
    let mut buf =
        side.reserve(len).await.unwrap_or_else(|error| panic!("cannot reserve {len} bytes for message {id}: {error}"));
    assert_eq!(buf.len(), len, "a reserved buffer has another length than was asked for");
    stamp(&mut buf, id);
    side.send(buf).unwrap_or_else(|unsent| panic!("cannot send message {id}: {}", unsent.error));
}

/// [`put`], then a flush.
pub(crate) async fn put_flushed<S: SendSide>(side: &mut S, id: u64, len: usize) {
    put(side, id, len).await;
    side.flush().unwrap_or_else(|error| panic!("cannot flush message {id}: {error}"));
}

/// Waits for the next message, which must be message `id` at `len` bytes.
pub(crate) async fn take<R: RecvSide>(side: &mut R, id: u64, len: usize) -> R::RecvBuf {
    let buf = side.recv().await.unwrap_or_else(|error| panic!("cannot receive message {id}: {error}"));
    check(&buf, id, len);
    buf
}

/// Queues message `id` if there is a slot for it now. Whether there was.
pub(crate) fn try_put<S: SendSide>(side: &mut S, id: u64, len: usize) -> bool {
    match side.try_reserve(len) {
        Ok(mut buf) => {
            stamp(&mut buf, id);
            side.send(buf).unwrap_or_else(|unsent| panic!("cannot send message {id}: {}", unsent.error));
            true
        }
        Err(TryError::WouldBlock) => false,
        Err(TryError::Failed(error)) => {
            panic!("no room is WouldBlock, never an error; for message {id} it is: {error}")
        }
    }
}

/// Reserves whatever can be reserved now.
pub(crate) fn reserve_all<S: SendSide>(side: &mut S, len: usize) -> Vec<S::SendBuf> {
    let slots = side.limits().send_slots;
    let mut bufs = Vec::new();
    while let Some(buf) = now(side.try_reserve(len)) {
        bufs.push(buf);
        assert!(bufs.len() <= slots, "more than {slots} buffers, which are all the send slots, are reserved at once");
    }
    bufs
}

/// Waits until every send slot is free, which is when all that was sent has arrived, and returns the slots.
pub(crate) fn settle<H: Harness, S: SendSide>(h: &H, side: &mut S) {
    let slots = side.limits().send_slots;
    let mut bufs = Vec::new();
    for at in 0..slots {
        let what = format_args!("send slot {at} of {slots} to be free again");
        bufs.push(h.wait(what, side.reserve(0)).unwrap_or_else(|error| panic!("cannot reserve: {error}")));
    }
}

/// What a `try_` call gave; `None` for `WouldBlock`.
pub(crate) fn now<T, E: TransportError>(result: Result<T, TryError<E>>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(TryError::WouldBlock) => None,
        Err(TryError::Failed(error)) => panic!("a track that should live has failed: {error}"),
    }
}

/// The failure that `result` must be; `None` for `WouldBlock`.
pub(crate) fn failure<T, E: TransportError>(what: &str, result: Result<T, TryError<E>>) -> Option<E> {
    match result {
        Ok(_) => panic!("{what} succeeded where it has to fail"),
        Err(TryError::WouldBlock) => None,
        Err(TryError::Failed(error)) => Some(error),
    }
}

/// Sends one message each way and receives it: the tracks live.
pub(crate) fn exchange<H: Harness, A, B>(h: &H, a: &mut A, b: &mut B, id: u64)
where
    A: SendSide + RecvSide,
    B: SendSide + RecvSide,
{
    one_way(h, a, b, id);
    one_way(h, b, a, id + 1);
}

/// Sends message `id` from `a` to `b`.
pub(crate) fn one_way<H: Harness, A: SendSide, B: RecvSide>(h: &H, a: &mut A, b: &mut B, id: u64) {
    let len = 32.min(a.limits().max_message);
    h.wait(format_args!("message {id} there"), both(put_flushed(a, id, len), take(b, id, len)));
}

/// Closes `side`, which must end cleanly.
pub(crate) fn close<H: Harness, S: SendSide>(h: &H, side: &mut S) {
    h.wait("a close", side.close()).unwrap_or_else(|error| panic!("the close is not clean: {error}"));
}

/// Checks an error's kind.
pub(crate) fn expect_kind<E: TransportError + Debug>(what: &str, error: &E, allowed: &[trespass_core::ErrorKind]) {
    let kind = error.kind();
    assert!(allowed.contains(&kind), "{what}: kind {kind:?} ({error}), where {allowed:?} is owed");
}

/// Waits for the end of the receive side: no message may come before it. Its error.
pub(crate) fn receive_end<H: Harness, R: RecvSide>(h: &H, side: &mut R) -> R::Error {
    match h.wait("the end of the receive side", side.recv()) {
        Ok(buf) => panic!("a message of {} bytes came where the end was due", buf.len()),
        Err(error) => error,
    }
}

/// Waits for the end of the send side, by reserving and giving back. Its error.
pub(crate) fn send_end<H: Harness, S: SendSide>(h: &H, side: &mut S) -> S::Error {
    h.spin("the end of the send side", || side.try_reserve(0).err().and_then(TryError::failed))
}
