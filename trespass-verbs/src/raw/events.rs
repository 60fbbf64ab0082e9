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

#[cfg(test)]
mod tests {
    use std::ptr::null_mut;

    use rdma_mummy_sys::{ibv_cq, ibv_qp, ibv_srq};

    use super::*;

    fn blank<T>() -> T {
        // SAFETY: used for structs of libibverbs alone, of numbers and pointers that may be null: zero is a valid value.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }

    /// What is read of an event of this kind, whose element `set` fills in.
    fn event(kind: u32, set: impl FnOnce(&mut ibv_async_event)) -> AsyncEvent {
        let mut event: ibv_async_event = blank();
        set(&mut event);
        // SAFETY: the field is a number of this width, and `read` takes it as one.
        unsafe { (&raw mut event.event_type).cast::<u32>().write(kind) };
        // SAFETY: an event like one that was taken, whose element lives as long as the call.
        unsafe { read(&event) }
    }

    #[test]
    fn events_of_queue_pairs_name_them_and_say_how() {
        let mut qp: ibv_qp = blank();
        qp.qp_num = 0x11;
        let mut said = Vec::new();
        for kind in [kind::IBV_EVENT_QP_FATAL, kind::IBV_EVENT_QP_REQ_ERR, kind::IBV_EVENT_QP_ACCESS_ERR] {
            let AsyncEvent::QueuePair(0x11, why) = event(kind as u32, |event| event.element.qp = &mut qp) else {
                panic!("event {}", kind as u32);
            };
            assert!(!said.contains(&why), "{why} is said of two");
            said.push(why);
        }
    }

    #[test]
    fn events_of_queues_tell_their_token() {
        let (mut cq, mut srq): (ibv_cq, ibv_srq) = (blank(), blank());
        (cq.cq_context, srq.srq_context) =
            (std::ptr::without_provenance_mut(0x23), std::ptr::without_provenance_mut(0x42));
        let of_cq = |kind: kind, cq| event(kind as u32, |event| event.element.cq = cq);
        let of_srq = |kind: kind, srq| event(kind as u32, |event| event.element.srq = srq);
        assert_eq!(of_cq(kind::IBV_EVENT_CQ_ERR, &mut cq), AsyncEvent::CompletionQueue(0x23));
        assert_eq!(of_srq(kind::IBV_EVENT_SRQ_ERR, &mut srq), AsyncEvent::CompletionQueue(0x42));
        assert_eq!(of_srq(kind::IBV_EVENT_SRQ_LIMIT_REACHED, &mut srq), AsyncEvent::ReceivesLow(0x42));
    }

    #[test]
    fn events_of_ports_and_devices() {
        let of_port = |kind: kind| event(kind as u32, |event| event.element.port_num = 2);
        assert_eq!(of_port(kind::IBV_EVENT_PORT_ERR), AsyncEvent::PortDown(2));
        assert_eq!(of_port(kind::IBV_EVENT_PORT_ACTIVE), AsyncEvent::PortUp(2));
        assert_eq!(of_port(kind::IBV_EVENT_DEVICE_FATAL), AsyncEvent::DeviceFatal);
    }

    #[test]
    fn other_events_are_not_looked_into() {
        let nowhere = |event: &mut ibv_async_event| event.element.qp = null_mut();
        for kind in [kind::IBV_EVENT_COMM_EST, kind::IBV_EVENT_GID_CHANGE, kind::IBV_EVENT_QP_LAST_WQE_REACHED] {
            assert_eq!(event(kind as u32, nowhere), AsyncEvent::Other);
        }
        // Of a kernel to come.
        assert_eq!(event(77, nowhere), AsyncEvent::Other);
    }
}
