//! Asynchronous events of a device: what happens to a queue pair, a port or the device outside any work request.

use std::io;
use std::mem::MaybeUninit;

use rdma_mummy_sys::{ibv_ack_async_event, ibv_async_event, ibv_event_type as kind, ibv_get_async_event};
use sideway::ibverbs::device_context::DeviceContext;

/// What an asynchronous event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AsyncEvent {
    /// The queue pair with this number of ours has failed, and in which way.
    QueuePair(u32, &'static str),
    /// The completion queue with this token has failed: it overflowed, or the device cannot write to it.
    CompletionQueue(u64),
    /// The shared receive queue with this token (of its queues) has fewer receives than it was asked to have.
    ReceivesLow(u64),
    PortDown(u8),
    PortUp(u8),
    /// The device failed; nothing on it works any more.
    DeviceFatal,
    /// Anything else: nothing to do.
    Other,
}

/// The descriptor that says when [`next_async_event`] has something.
pub(crate) fn async_fd(context: &DeviceContext) -> i32 {
    // SAFETY: the context is alive, and `async_fd` is set once when the device is opened.
    unsafe { context.context().as_ref().async_fd }
}

/// Takes and acknowledges one event; the descriptor has to be non-blocking.
pub(crate) fn next_async_event(context: &DeviceContext) -> io::Result<Option<AsyncEvent>> {
    let mut event = MaybeUninit::<ibv_async_event>::uninit();
    // SAFETY: the context is alive and `event` has room for one event (ibv_get_async_event(3)).
    if unsafe { ibv_get_async_event(context.context().as_ptr(), event.as_mut_ptr()) } != 0 {
        return match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        };
    }
    // SAFETY: the call succeeded, so it wrote the event, and it is not acknowledged yet.
    let what = unsafe { read(event.as_ptr()) };
    // SAFETY: this event was taken above and is acknowledged once.
    unsafe { ibv_ack_async_event(event.as_mut_ptr()) };
    Ok(Some(what))
}

/// # Safety
/// `event` was taken from a device and is not acknowledged yet.
unsafe fn read(event: *const ibv_async_event) -> AsyncEvent {
    // SAFETY: the caller's promise. Read as a number: a later kernel may give a code that the enumeration does not have.
    let code = unsafe { (&raw const (*event).event_type).cast::<u32>().read() };
    let is = |kind: kind| code == kind as u32;
    let queue_pair = |what| {
        // SAFETY: for these events the element is the queue pair, which cannot have been destroyed: that waits for the
        // acknowledgement (ibv_get_async_event(3)).
        AsyncEvent::QueuePair(unsafe { (*(*event).element.qp).qp_num }, what)
    };
    // SAFETY: for port events the element is the port number.
    let port = || u8::try_from(unsafe { (*event).element.port_num }).unwrap_or(0);
    if is(kind::IBV_EVENT_QP_FATAL) {
        queue_pair("its queue pair failed inside the device")
    } else if is(kind::IBV_EVENT_QP_REQ_ERR) {
        queue_pair("the peer sent a request that its queue pair cannot serve")
    } else if is(kind::IBV_EVENT_QP_ACCESS_ERR) {
        queue_pair("the peer asked for memory that it was not granted")
    } else if is(kind::IBV_EVENT_CQ_ERR) {
        // SAFETY: for this event the element is the completion queue, alive for the same reason; its context is a token
        // that `Cq::new` put there, not an address.
        AsyncEvent::CompletionQueue(unsafe { (*(*event).element.cq).cq_context } as usize as u64)
    } else if is(kind::IBV_EVENT_SRQ_LIMIT_REACHED) {
        // SAFETY: for this event the element is the shared receive queue, alive for the same reason; its context is a token
        // that `Srq::new` put there, not an address.
        AsyncEvent::ReceivesLow(unsafe { (*(*event).element.srq).srq_context } as usize as u64)
    } else if is(kind::IBV_EVENT_SRQ_ERR) {
        // SAFETY: as above.
        AsyncEvent::CompletionQueue(unsafe { (*(*event).element.srq).srq_context } as usize as u64)
    } else if is(kind::IBV_EVENT_PORT_ERR) {
        AsyncEvent::PortDown(port())
    } else if is(kind::IBV_EVENT_PORT_ACTIVE) {
        AsyncEvent::PortUp(port())
    } else if is(kind::IBV_EVENT_DEVICE_FATAL) {
        AsyncEvent::DeviceFatal
    } else {
        // GID_CHANGE, CLIENT_REREGISTER, LID_CHANGE, PKEY_CHANGE, SM_CHANGE: what is connected keeps the path that it has
        // for as long as it works, and fails by its own completions when it does not; what connects later asks the
        // connection manager anew. COMM_EST: receives are posted and read whether or not the handshake is over.
        // PATH_MIG, PATH_MIG_ERR: tracks have one path, and one that stays where it was is none the worse.
        // QP_LAST_WQE_REACHED: a queue pair of a shared receive queue has failed, which its sends or the peer tell.
        // SQ_DRAINED, WQ_*: of things that are not made here.
        AsyncEvent::Other
    }
}
