//! Asynchronous events of a device: what happens to a queue pair, a port or the device outside any work request.

use std::io;
use std::mem::MaybeUninit;

use rdma_mummy_sys::{ibv_ack_async_event, ibv_event_type, ibv_get_async_event};
use sideway::ibverbs::device_context::DeviceContext;

/// What an asynchronous event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AsyncEvent {
    /// The queue pair with this number of ours has failed.
    QueuePairFatal(u32),
    /// The port went down.
    PortDown(u32),
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
    let mut event = MaybeUninit::uninit();
    // SAFETY: the context is alive and `event` has room for one event (ibv_get_async_event(3)).
    if unsafe { ibv_get_async_event(context.context().as_ptr(), event.as_mut_ptr()) } != 0 {
        return match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        };
    }
    // SAFETY: the call succeeded, so it wrote the event.
    let mut event = unsafe { event.assume_init() };
    let what = match event.event_type {
        ibv_event_type::IBV_EVENT_QP_FATAL
        | ibv_event_type::IBV_EVENT_QP_REQ_ERR
        | ibv_event_type::IBV_EVENT_QP_ACCESS_ERR => {
            // SAFETY: for these events the element is the queue pair, which cannot have been destroyed: that waits
            // for the acknowledgement below (ibv_get_async_event(3)).
            AsyncEvent::QueuePairFatal(unsafe { (*event.element.qp).qp_num })
        }
        // SAFETY: for port events the element is the port number.
        ibv_event_type::IBV_EVENT_PORT_ERR => AsyncEvent::PortDown(unsafe { event.element.port_num } as u32),
        ibv_event_type::IBV_EVENT_DEVICE_FATAL => AsyncEvent::DeviceFatal,
        _ => AsyncEvent::Other,
    };
    // SAFETY: this event was taken above and is acknowledged once.
    unsafe { ibv_ack_async_event(&mut event) };
    Ok(Some(what))
}
