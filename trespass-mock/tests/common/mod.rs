//! What the tests of the mock share.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_executor::block_on;
use trespass_core::{ErrorKind, Fabric, Incoming, ListenerExt, RecvSide, SendSide, TransportError, TryError};
use trespass_mock::{MockAddr, MockConfig, MockError, MockFabric, MockNet, MockRecvBuf, MockTrack};

/// Few slots and short messages.
pub(crate) fn small() -> MockConfig {
    MockConfig::default().with_max_message(256).with_send_slots(8).with_recv_slots(8)
}

pub(crate) fn addr(text: &str) -> MockAddr {
    text.parse().unwrap()
}

/// Two tracks, joined: that of `client`, which connects, and that of `server`.
pub(crate) fn join(client: &MockFabric, server: &MockFabric) -> (MockTrack, MockTrack) {
    let at = addr("join");
    let mut listener = server.listen(&at).unwrap();
    let connecting = client.connect(&at);
    block_on(async {
        let ours = listener.incoming().await.unwrap().accept().await.unwrap();
        (connecting.await.unwrap(), ours)
    })
}

/// Two tracks of one fabric.
pub(crate) fn pair(config: MockConfig) -> (MockTrack, MockTrack) {
    let fabric = MockNet::new().fabric(config).unwrap();
    join(&fabric, &fabric)
}

/// Queues one message, or says that there is no room.
pub(crate) fn queue(side: &mut impl SendSide<Error = MockError>, bytes: &[u8]) -> bool {
    match side.try_reserve(bytes.len()) {
        Ok(mut buf) => {
            buf.copy_from_slice(bytes);
            side.send(buf).map_err(|unsent| unsent.error).unwrap();
            true
        }
        Err(TryError::WouldBlock) => false,
        Err(TryError::Failed(error)) => panic!("{error}"),
    }
}

/// Sends one message.
pub(crate) fn put(side: &mut impl SendSide<Error = MockError>, bytes: &[u8]) {
    assert!(queue(side, bytes), "no slot");
    side.flush().unwrap();
}

/// Receives what must be there.
pub(crate) fn take(side: &mut impl RecvSide<RecvBuf = MockRecvBuf, Error = MockError>) -> MockRecvBuf {
    side.try_recv().unwrap()
}

pub(crate) fn blocks<T>(result: Result<T, TryError<MockError>>) -> bool {
    matches!(result, Err(TryError::WouldBlock))
}

/// The failure that must be there.
pub(crate) fn failure<T>(result: Result<T, TryError<MockError>>) -> MockError {
    match result {
        Err(TryError::Failed(error)) => error,
        Err(TryError::WouldBlock) => panic!("would block"),
        Ok(_) => panic!("succeeded"),
    }
}

pub(crate) fn kind_of<T>(result: Result<T, TryError<MockError>>) -> ErrorKind {
    failure(result).kind()
}

/// Polls a future once with a waker that does nothing, and drops it.
pub(crate) fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A waker that counts.
#[derive(Default)]
pub(crate) struct Wakeups(AtomicUsize);

impl Wakeups {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let wakeups = Arc::new(Self::default());
        (Arc::clone(&wakeups), Waker::from(wakeups))
    }

    /// How many there were since the last time.
    pub(crate) fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

impl Wake for Wakeups {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
