//! The connection manager, raw throughout: sideway's gives no way to private data, rejection or peer addresses, and a
//! mix of both cannot work.

use std::ffi::{CStr, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::time::Duration;

use rdma_mummy_sys::{
    ibv_ah_attr, ibv_get_device_name, ibv_qp_attr, ibv_qp_state, rdma_accept, rdma_ack_cm_event, rdma_bind_addr,
    rdma_cm_event, rdma_cm_event_type, rdma_cm_id, rdma_conn_param, rdma_connect, rdma_create_event_channel,
    rdma_create_id, rdma_destroy_event_channel, rdma_destroy_id, rdma_disconnect, rdma_establish, rdma_event_channel,
    rdma_get_cm_event, rdma_get_local_addr, rdma_get_peer_addr, rdma_init_qp_attr, rdma_listen, rdma_port_space,
    rdma_reject, rdma_resolve_addr, rdma_resolve_route, rdma_set_option, rdma_ud_param,
};

use super::fd::set_nonblocking;
use super::qp::blank_attr;
use crate::sockaddr::{self, RawAddr};

/// `RDMA_OPTION_ID` and `RDMA_OPTION_ID_TOS` of <rdma/rdma_cma.h>, which the bindings lack.
const OPTION_ID: i32 = 0;
const OPTION_ID_TOS: i32 = 0;

/// The channel through which connection events come.
pub(crate) struct CmChannel(NonNull<rdma_event_channel>);

// SAFETY: librdmacm lets any thread call on any object (rdma_cm(7)); the channel is a descriptor.
unsafe impl Send for CmChannel {}
// SAFETY: as above.
unsafe impl Sync for CmChannel {}

impl CmChannel {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes nothing; null means failure with errno set.
        let channel = NonNull::new(unsafe { rdma_create_event_channel() }).ok_or_else(io::Error::last_os_error)?;
        let channel = Self(channel);
        set_nonblocking(channel.fd())?;
        Ok(channel)
    }

    pub(crate) fn fd(&self) -> RawFd {
        // SAFETY: the channel is alive; its descriptor is set once.
        unsafe { self.0.as_ref().fd }
    }

    /// Takes one event, copies what matters, and acknowledges it: destroying an id waits for that.
    pub(crate) fn next_event(&self) -> io::Result<Option<CmEvent>> {
        let mut event = null_mut();
        // SAFETY: the channel is alive and does not block; the out-pointer is valid for the call.
        if unsafe { rdma_get_cm_event(self.0.as_ptr(), &mut event) } != 0 {
            return match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                error if error.kind() == io::ErrorKind::Interrupted => Ok(None),
                error => Err(error),
            };
        }
        // SAFETY: the call succeeded, so `event` is valid until it is acknowledged, which `copy` outlives.
        let copy = unsafe { CmEvent::copy(&*event) };
        // SAFETY: taken above, acknowledged once.
        unsafe { rdma_ack_cm_event(event) };
        Ok(Some(copy))
    }
}

impl Drop for CmChannel {
    fn drop(&mut self) {
        // SAFETY: every id holds the channel (`CmId::_channel`), so none is left, and no event is unacknowledged.
        unsafe { rdma_destroy_event_channel(self.0.as_ptr()) };
    }
}

/// What happened to a connection.
pub(crate) struct CmEvent {
    /// Of the id to which it happened; for a request, of the listener.
    pub(crate) token: u64,
    pub(crate) status: i32,
    pub(crate) what: CmEventKind,
}

pub(crate) enum CmEventKind {
    AddrResolved,
    AddrUnresolved,
    RouteResolved,
    /// A request came in, on this new id, which is ours to destroy. The peer can serve that many reads at a time, and
    /// asks for that many.
    Request {
        id: NewId,
        responder_resources: u8,
        initiator_depth: u8,
    },
    /// The peer accepted; the queue pair is ours to bring up, then the connection to establish.
    Accepted,
    Established,
    /// The peer said no; the first byte of its reason, if it gave one.
    Rejected {
        reason: Option<u8>,
    },
    Unreachable,
    Failed,
    Disconnected,
    DeviceRemoved,
    /// A request for datagrams came in, on this new id, which is ours to destroy.
    DatagramRequest {
        id: NewId,
        data: PrivateData,
    },
    /// The peer answered a request for datagrams: this is the way to it, and what it says.
    DatagramAnswer {
        way: ibv_ah_attr,
        data: PrivateData,
    },
    /// The peer said no to a request for datagrams; the first byte of its reason, or nobody listens.
    DatagramRefused {
        reason: Option<u8>,
    },
    Other,
}

/// Bytes that came with an event, padded with zeros.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PrivateData(pub(crate) [u8; PRIVATE_DATA]);

/// As much private data as is looked at.
pub(crate) const PRIVATE_DATA: usize = 48;

/// The status by which a request for datagrams is rejected, and not for want of a listener (InfiniBand specification
/// vol. 1, 12.11.1.2).
const SIDR_REJECT: i32 = 2;

impl CmEvent {
    /// # Safety
    /// `event` was taken from a channel and is not acknowledged yet.
    unsafe fn copy(event: &rdma_cm_event) -> Self {
        use rdma_cm_event_type as kind;
        let request = event.event == kind::RDMA_CM_EVENT_CONNECT_REQUEST;
        let subject = if request { event.listen_id } else { event.id };
        // SAFETY: an unacknowledged event keeps its ids alive (rdma_destroy_id(3) waits for the acknowledgement). The
        // context is a token that `CmId::new` or `adopt` put there, not an address.
        let token = unsafe { (*subject).context } as usize as u64;
        // SAFETY: as above.
        if unsafe { (*subject).ps } == rdma_port_space::RDMA_PS_UDP {
            // SAFETY: the caller's promise, and the identifier is one of datagrams.
            if let Some(what) = unsafe { Self::of_datagrams(event) } {
                return Self { token, status: event.status, what };
            }
        }
        let what = match event.event {
            kind::RDMA_CM_EVENT_ADDR_RESOLVED => CmEventKind::AddrResolved,
            kind::RDMA_CM_EVENT_ROUTE_RESOLVED => CmEventKind::RouteResolved,
            kind::RDMA_CM_EVENT_CONNECT_REQUEST => {
                // SAFETY: the events of a connected port space carry connection parameters (rdma_get_cm_event(3)).
                let conn = unsafe { event.param.conn };
                CmEventKind::Request {
                    id: NewId(event.id),
                    responder_resources: conn.responder_resources,
                    initiator_depth: conn.initiator_depth,
                }
            }
            kind::RDMA_CM_EVENT_CONNECT_RESPONSE => CmEventKind::Accepted,
            kind::RDMA_CM_EVENT_ESTABLISHED => CmEventKind::Established,
            kind::RDMA_CM_EVENT_REJECTED => {
                // SAFETY: as for the request; private data is `private_data_len` bytes, valid until acknowledged.
                let conn = unsafe { event.param.conn };
                let given = conn.private_data_len > 0 && !conn.private_data.is_null();
                // SAFETY: as above: at least one byte.
                let reason = given.then(|| unsafe { *conn.private_data.cast::<u8>() });
                CmEventKind::Rejected { reason }
            }
            kind::RDMA_CM_EVENT_ADDR_ERROR => CmEventKind::AddrUnresolved,
            kind::RDMA_CM_EVENT_UNREACHABLE | kind::RDMA_CM_EVENT_ROUTE_ERROR => CmEventKind::Unreachable,
            kind::RDMA_CM_EVENT_CONNECT_ERROR => CmEventKind::Failed,
            kind::RDMA_CM_EVENT_DISCONNECTED => CmEventKind::Disconnected,
            kind::RDMA_CM_EVENT_DEVICE_REMOVAL => CmEventKind::DeviceRemoved,
            _ => CmEventKind::Other,
        };
        Self { token, status: event.status, what }
    }

    /// What is different of datagrams.
    ///
    /// # Safety
    /// As for [`copy`](CmEvent::copy), and the event is of an id in the port space of datagrams.
    unsafe fn of_datagrams(event: &rdma_cm_event) -> Option<CmEventKind> {
        use rdma_cm_event_type as kind;
        // SAFETY: the events of this port space carry datagram parameters (rdma_get_cm_event(3)).
        let param = || unsafe { event.param.ud };
        let data = |param: rdma_ud_param| {
            let mut data = [0; PRIVATE_DATA];
            if !param.private_data.is_null() {
                let len = usize::from(param.private_data_len).min(PRIVATE_DATA);
                // SAFETY: private data is `private_data_len` bytes, valid until the event is acknowledged.
                unsafe { std::ptr::copy_nonoverlapping(param.private_data.cast::<u8>(), data.as_mut_ptr(), len) };
            }
            PrivateData(data)
        };
        Some(match event.event {
            kind::RDMA_CM_EVENT_CONNECT_REQUEST => {
                CmEventKind::DatagramRequest { id: NewId(event.id), data: data(param()) }
            }
            kind::RDMA_CM_EVENT_ESTABLISHED => {
                let param = param();
                CmEventKind::DatagramAnswer { way: param.ah_attr, data: data(param) }
            }
            kind::RDMA_CM_EVENT_UNREACHABLE if event.status > 0 => {
                let reason = (event.status == SIDR_REJECT).then(|| data(param()).0[0]);
                CmEventKind::DatagramRefused { reason }
            }
            _ => return None,
        })
    }
}

/// The id of a request, not yet owned: [`CmId::adopt`] it.
#[derive(Debug)]
pub(crate) struct NewId(*mut rdma_cm_id);

/// One end of a connection, or a listener.
pub(crate) struct CmId {
    id: NonNull<rdma_cm_id>,
    _channel: Arc<CmChannel>,
}

// SAFETY: librdmacm lets any thread call on any id (rdma_cm(7)).
unsafe impl Send for CmId {}
// SAFETY: as above.
unsafe impl Sync for CmId {}

impl CmId {
    /// For connections.
    pub(crate) fn new(channel: &Arc<CmChannel>, token: u64) -> io::Result<Self> {
        Self::in_space(channel, token, rdma_port_space::RDMA_PS_TCP)
    }

    /// For datagrams.
    pub(crate) fn of_datagrams(channel: &Arc<CmChannel>, token: u64) -> io::Result<Self> {
        Self::in_space(channel, token, rdma_port_space::RDMA_PS_UDP)
    }

    fn in_space(channel: &Arc<CmChannel>, token: u64, space: rdma_port_space::Type) -> io::Result<Self> {
        let mut id = null_mut();
        let context = token as usize as *mut c_void;
        // SAFETY: the channel is alive and is kept so by the new id; the out-pointer is valid for the call.
        check(unsafe { rdma_create_id(channel.0.as_ptr(), &mut id, context, space) })?;
        let id = NonNull::new(id).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Self { id, _channel: Arc::clone(channel) })
    }

    /// Owns the id of a request, which so far carries the token of its listener.
    pub(crate) fn adopt(new: NewId, channel: &Arc<CmChannel>, token: u64) -> Option<Self> {
        let mut id = NonNull::new(new.0)?;
        // SAFETY: a request's id belongs to whoever took the event, which is us; nobody else refers to it. Its events
        // are read by the thread that calls this, so none is in the making with the old token.
        unsafe { id.as_mut().context = token as usize as *mut c_void };
        Some(Self { id, _channel: Arc::clone(channel) })
    }

    pub(crate) fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        let mut addr = RawAddr::from(addr);
        // SAFETY: the id is alive, and the address is a complete socket address that lives across the call.
        check(unsafe { rdma_bind_addr(self.id.as_ptr(), addr.as_mut_ptr()) })
    }

    pub(crate) fn listen(&self, backlog: i32) -> io::Result<()> {
        // SAFETY: the id is alive.
        check(unsafe { rdma_listen(self.id.as_ptr(), backlog) })
    }

    /// The type of service of what this id sends, its connection's path included. Before the route is resolved.
    pub(crate) fn set_tos(&self, tos: u8) -> io::Result<()> {
        let mut tos = tos;
        let value = (&raw mut tos).cast();
        // SAFETY: the id is alive; this option takes one byte, which lives across the call (rdma_set_option(3)).
        check(unsafe { rdma_set_option(self.id.as_ptr(), OPTION_ID, OPTION_ID_TOS, value, 1) })
    }

    pub(crate) fn resolve_addr(&self, from: Option<SocketAddr>, to: SocketAddr, timeout: Duration) -> io::Result<()> {
        let mut from = from.map(RawAddr::from);
        let mut to = RawAddr::from(to);
        let source = from.as_mut().map_or(null_mut(), RawAddr::as_mut_ptr);
        // SAFETY: the id is alive; both addresses are complete and live across the call; null means any source.
        check(unsafe { rdma_resolve_addr(self.id.as_ptr(), source, to.as_mut_ptr(), millis(timeout)) })
    }

    pub(crate) fn resolve_route(&self, timeout: Duration) -> io::Result<()> {
        // SAFETY: the id is alive.
        check(unsafe { rdma_resolve_route(self.id.as_ptr(), millis(timeout)) })
    }

    /// Asks the peer, on behalf of queue pair `param.qp_num`.
    pub(crate) fn connect(&self, param: &mut rdma_conn_param) -> io::Result<()> {
        // SAFETY: the id is alive; `param` carries no private data, so holds no pointer.
        check(unsafe { rdma_connect(self.id.as_ptr(), param) })
    }

    pub(crate) fn accept(&self, param: &mut rdma_conn_param) -> io::Result<()> {
        // SAFETY: as for connect.
        check(unsafe { rdma_accept(self.id.as_ptr(), param) })
    }

    /// Asks the peer for the way to its datagrams, on behalf of queue pair `number`.
    pub(crate) fn ask(&self, number: u32, data: &PrivateData) -> io::Result<()> {
        // SAFETY: the id is alive; the private data that the parameters point to lives across the call.
        check(unsafe { rdma_connect(self.id.as_ptr(), &mut with_data(number, data)) })
    }

    /// Answers a peer that asks.
    pub(crate) fn answer(&self, number: u32, data: &PrivateData) -> io::Result<()> {
        // SAFETY: as for ask.
        check(unsafe { rdma_accept(self.id.as_ptr(), &mut with_data(number, data)) })
    }

    /// Tells the peer that its acceptance was received.
    pub(crate) fn establish(&self) -> io::Result<()> {
        // SAFETY: the id is alive.
        check(unsafe { rdma_establish(self.id.as_ptr()) })
    }

    /// Says no, with one byte that says why.
    pub(crate) fn reject(&self, reason: u8) -> io::Result<()> {
        // SAFETY: the id is alive; one readable byte that lives across the call.
        check(unsafe { rdma_reject(self.id.as_ptr(), (&raw const reason).cast(), 1) })
    }

    pub(crate) fn disconnect(&self) -> io::Result<()> {
        // SAFETY: the id is alive.
        check(unsafe { rdma_disconnect(self.id.as_ptr()) })
    }

    /// What a queue pair needs to go to `state` on this connection, and the mask of it.
    pub(crate) fn qp_attr(&self, state: ibv_qp_state::Type) -> io::Result<(ibv_qp_attr, i32)> {
        let mut attr = blank_attr();
        attr.qp_state = state;
        let mut mask = 0;
        // SAFETY: the id is alive; both out-pointers are valid for the call.
        check(unsafe { rdma_init_qp_attr(self.id.as_ptr(), &mut attr, &mut mask) })?;
        Ok((attr, mask))
    }

    /// The name of the device to which the id was bound, if it was.
    pub(crate) fn device_name(&self) -> Option<String> {
        // SAFETY: the id is alive; `verbs` is null, or a context that librdmacm keeps open.
        let device = unsafe { self.id.as_ref().verbs.as_ref()?.device };
        // SAFETY: the device belongs to that context; the name is part of it.
        let name = unsafe { ibv_get_device_name(device) };
        if name.is_null() {
            return None;
        }
        // SAFETY: a C string inside the device, alive as long as it is.
        Some(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
    }

    /// The port of the device through which the connection goes, once that is known; 0 before.
    pub(crate) fn port(&self) -> u8 {
        // SAFETY: the id is alive.
        unsafe { self.id.as_ref().port_num }
    }

    pub(crate) fn local(&self) -> Option<SocketAddr> {
        // SAFETY: the id is alive; the reference points into its storage of a whole sockaddr_storage.
        unsafe { sockaddr::read(rdma_get_local_addr(self.id.as_ref())) }
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        // SAFETY: as for local.
        unsafe { sockaddr::read(rdma_get_peer_addr(self.id.as_ref())) }
    }
}

impl Drop for CmId {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once. No queue pair is attached to it: ours are made outside the connection manager.
        // Waits for events under way to be acknowledged, which `next_event` does before anything else.
        unsafe { rdma_destroy_id(self.id.as_ptr()) };
    }
}

/// Connection parameters with nothing in them.
pub(crate) fn blank_param() -> rdma_conn_param {
    let param = MaybeUninit::<rdma_conn_param>::zeroed();
    // SAFETY: plain integers and a pointer that may be null: all zero is a valid value.
    unsafe { param.assume_init() }
}

/// Parameters that point to `data`.
fn with_data(number: u32, data: &PrivateData) -> rdma_conn_param {
    let mut param = blank_param();
    param.qp_num = number;
    param.private_data = data.0.as_ptr().cast();
    param.private_data_len = PRIVATE_DATA as u8;
    param
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}
