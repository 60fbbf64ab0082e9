//! Ports and GID tables. sideway's types panic on codes that they do not know, and a device may give any.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;

use rdma_mummy_sys::{
    ibv_atomic_cap, ibv_device_attr, ibv_gid_entry, ibv_port_attr, ibv_query_device, ibv_query_gid_table,
    ibv_query_port, ibv_transport_type,
};
use sideway::ibverbs::device_context::DeviceContext;

/// What a device says of one of its ports.
pub(crate) fn query_port(context: &DeviceContext, port: u8) -> io::Result<ibv_port_attr> {
    let mut attr = MaybeUninit::<ibv_port_attr>::zeroed();
    // SAFETY: the context is alive, and `attr` has room for one set of attributes (ibv_query_port(3)).
    match unsafe { ibv_query_port(context.context().as_ptr(), port, attr.as_mut_ptr()) } {
        // SAFETY: plain integers, all zero before the call: initialised whatever the call wrote.
        0 => Ok(unsafe { attr.assume_init() }),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// An entry of a GID table, with its codes as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawGid {
    pub(crate) gid: [u8; 16],
    pub(crate) index: u32,
    pub(crate) port: u32,
    pub(crate) kind: u32,
    /// Of its network interface; 0 where it has none.
    pub(crate) interface: u32,
}

/// The entries of the GID tables of all ports, `most` at most.
pub(crate) fn query_gids(context: &DeviceContext, most: usize) -> io::Result<Vec<RawGid>> {
    // The bindings refer to the first entry.
    if most == 0 {
        return Ok(Vec::new());
    }
    let mut table = vec![MaybeUninit::<ibv_gid_entry>::zeroed(); most];
    // SAFETY: the context is alive, and `table` has room for `most` entries (ibv_query_gid_table(3)).
    let found = unsafe { ibv_query_gid_table(context.context().as_ptr(), table.as_mut_ptr().cast(), table.len(), 0) };
    let Ok(found) = usize::try_from(found) else {
        return Err(io::Error::from_raw_os_error(i32::try_from(-found).unwrap_or(libc::EINVAL)));
    };
    let gids = table.iter().take(found).map(|entry| {
        // SAFETY: integers and a union of arrays of them, all zero before the call: initialised whatever it wrote.
        let entry = unsafe { entry.assume_init() };
        RawGid {
            // SAFETY: every view of the union is 16 bytes of plain data.
            gid: unsafe { entry.gid.raw },
            index: entry.gid_index,
            port: entry.port_num,
            kind: entry.gid_type,
            interface: entry.ndev_ifindex,
        }
    });
    Ok(gids.collect())
}

/// Whether the device has atomic operations.
pub(crate) fn has_atomics(context: &DeviceContext) -> bool {
    let mut attr = MaybeUninit::<ibv_device_attr>::zeroed();
    // SAFETY: the context is alive, and `attr` has room for one set of attributes (ibv_query_device(3)).
    if unsafe { ibv_query_device(context.context().as_ptr(), attr.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: plain integers, all zero before the call: initialised whatever the call wrote.
    unsafe { attr.assume_init() }.atomic_cap != ibv_atomic_cap::IBV_ATOMIC_NONE
}

/// Whether the device carries immediate data: InfiniBand and RoCE do, iWARP has none (RFC 7306 adds it to writes, which no
/// device here offers through verbs).
pub(crate) fn has_immediate(context: &DeviceContext) -> bool {
    // SAFETY: the context is alive, and points to its device, which outlives it; what it is is set once.
    let transport = unsafe { (*context.context().as_ref().device).transport_type };
    transport == ibv_transport_type::IBV_TRANSPORT_IB
}

/// How many completion vectors the device has: interrupts that its completion queues can be spread over.
pub(crate) fn completion_vectors(context: &DeviceContext) -> u32 {
    // SAFETY: the context is alive, and the number is set once when the device is opened.
    let vectors = unsafe { context.context().as_ref().num_comp_vectors };
    u32::try_from(vectors).unwrap_or(0).max(1)
}

/// The name of a network interface, if it has that index (still).
pub(crate) fn interface_name(index: u32) -> Option<String> {
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes that if_indextoname(3) asks for.
    if unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) }.is_null() {
        return None;
    }
    Some(CStr::from_bytes_until_nul(&name).ok()?.to_string_lossy().into_owned())
}
