//! The device: which one, which address, and what it can do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use sideway::ibverbs::completion::CompletionChannel;
use sideway::ibverbs::device::{DeviceInfo, DeviceList};
use sideway::ibverbs::device_context::{DeviceContext, PortState};
use sideway::ibverbs::protection_domain::ProtectionDomain;

use crate::config::VerbsConfig;
use crate::error::VerbsError;
use crate::raw::cm::{CmChannel, CmId};
use crate::raw::cq::Cq;
use crate::raw::events::async_fd;
use crate::raw::fd::set_nonblocking;
use crate::raw::qp::{Depths, Qp};

/// An open device with its protection domain: one trust domain.
pub(crate) struct Device {
    pub(crate) name: String,
    /// An address of the device to connect from, where it has one.
    pub(crate) local: Option<IpAddr>,
    pub(crate) depths: Depths,
    /// How many reads and atomics of a peer may be in flight at once, either way.
    pub(crate) read_atomic: u8,
    pub(crate) channel: Arc<CompletionChannel>,
    pub(crate) pd: Arc<ProtectionDomain>,
    pub(crate) context: Arc<DeviceContext>,
}

impl Device {
    /// Chooses and opens a device, and asks it for what `config` wants.
    pub(crate) fn open(config: &VerbsConfig, cm: &Arc<CmChannel>) -> Result<Self, VerbsError> {
        let (name, local, context) = choose(config, cm)?;
        let attr = context.query_device().map_err(|error| VerbsError::sideway("query the device", error))?;
        within("send_slots", config.send_slots, attr.max_qp_wr(), &name)?;
        within("recv_slots", config.recv_slots, attr.max_qp_wr(), &name)?;
        within("send_slots", cq_depth(config.send_slots) as usize, attr.max_cqe(), &name)?;
        within("recv_slots", cq_depth(config.recv_slots) as usize, attr.max_cqe(), &name)?;
        let pd = context.alloc_pd().map_err(|error| VerbsError::sideway("make a protection domain", error))?;
        let channel =
            context.create_comp_channel().map_err(|error| VerbsError::sideway("make a completion channel", error))?;
        channel
            .set_nonblocking(true)
            .and_then(|()| set_nonblocking(async_fd(&context)))
            .map_err(|error| VerbsError::os("make the event channels non-blocking", &error))?;
        let depths = probe(config, &context, &channel, &pd)?;
        let read_atomic = attr.max_qp_rd_atom().min(attr.max_qp_init_rd_atom()).clamp(1, 16) as u8;
        Ok(Self { name, local, depths, read_atomic, channel, pd, context })
    }
}

/// Completions that a queue of `slots` can have at once: one each, when all of them fail.
pub(crate) fn cq_depth(slots: usize) -> u32 {
    slots as u32 + 1
}

fn within(setting: &'static str, value: usize, most: i32, device: &str) -> Result<(), VerbsError> {
    if usize::try_from(most).is_ok_and(|most| value <= most) {
        return Ok(());
    }
    Err(VerbsError::Config { setting, why: format!("asks for queues of {value}, and {device} has {most} at most") })
}

/// The device that was named, or that has the address that was named, or the first with an active port.
fn choose(
    config: &VerbsConfig,
    cm: &Arc<CmChannel>,
) -> Result<(String, Option<IpAddr>, Arc<DeviceContext>), VerbsError> {
    let owner = config.local.map(|ip| owner_of(ip, cm)).transpose()?;
    let devices = DeviceList::new().map_err(|error| VerbsError::sideway("list the devices", error))?;
    let mut seen = Vec::new();
    for device in &devices {
        let name = device.name();
        if config.device.as_ref().is_some_and(|wanted| *wanted != name) {
            seen.push(format!("{name} (not the one asked for)"));
            continue;
        }
        if let (Some(local), true) = (config.local, owner.as_ref().is_some_and(|owner| *owner != name)) {
            seen.push(format!("{name} (does not have {local})"));
            continue;
        }
        let context = match device.open() {
            Ok(context) => context,
            Err(error) => {
                seen.push(format!("{name} (cannot be opened: {})", VerbsError::sideway("open it", error)));
                continue;
            }
        };
        if !has_active_port(&context) {
            seen.push(format!("{name} (no active port: is its link up?)"));
            continue;
        }
        let local = config.local.or_else(|| addresses(&context).first().copied());
        return Ok((name, local, context));
    }
    Err(VerbsError::Unavailable {
        why: if seen.is_empty() {
            "there is no RDMA device; see `rdma link`, and for soft-RoCE `rdma link add rxe0 type rxe netdev eth0`"
                .into()
        } else {
            format!("none of the devices will do: {}", seen.join(", "))
        },
    })
}

/// The name of the device that has `ip`. The connection manager knows it of every kind of device; GIDs tell it of some.
fn owner_of(ip: IpAddr, cm: &Arc<CmChannel>) -> Result<String, VerbsError> {
    let nobody = |why: &str| VerbsError::Unavailable { why: format!("no RDMA device has {ip}{why}; see `rdma link`") };
    let id = CmId::new(cm, 0).map_err(|error| VerbsError::os("look for the device", &error))?;
    id.bind(SocketAddr::new(ip, 0)).map_err(|error| nobody(&format!(" ({error})")))?;
    id.device_name().ok_or_else(|| nobody(""))
}

fn has_active_port(context: &DeviceContext) -> bool {
    let Ok(attr) = context.query_device() else { return false };
    (1..=attr.phys_port_cnt()).any(|port| context.query_port(port).is_ok_and(|p| p.port_state() == PortState::Active))
}

/// The addresses behind the GIDs of a device, those that route first: IPv4, then IPv6, then link-local.
fn addresses(context: &DeviceContext) -> Vec<IpAddr> {
    let mut addrs: Vec<IpAddr> = Vec::new();
    for entry in context.query_gid_table().unwrap_or_default() {
        let v6 = Ipv6Addr::from(entry.gid().raw);
        let addr = v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4);
        if !addrs.contains(&addr) && addr != IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
            addrs.push(addr);
        }
    }
    addrs.sort_by_key(|addr| match addr {
        IpAddr::V4(_) => 0,
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80 => 2,
        IpAddr::V6(_) => 1,
    });
    addrs
}

/// Makes a queue pair as tracks will have it, to learn how much may go inline: no attribute of a device says so.
fn probe(
    config: &VerbsConfig,
    context: &Arc<DeviceContext>,
    channel: &Arc<CompletionChannel>,
    pd: &Arc<ProtectionDomain>,
) -> Result<Depths, VerbsError> {
    let send_cq = Cq::new(context, channel, cq_depth(config.send_slots), 0)?;
    let recv_cq = Cq::new(context, channel, cq_depth(config.recv_slots), 0)?;
    let mut depths =
        Depths { send: config.send_slots as u32, recv: config.recv_slots as u32, inline: config.inline as u32 };
    loop {
        match Qp::new(pd, &send_cq, &recv_cq, depths) {
            Ok((qp, got)) => {
                drop(qp);
                return Ok(Depths { inline: got.inline.min(depths.inline), ..depths });
            }
            Err(error) if depths.inline == 0 => return Err(error),
            Err(_) => depths.inline /= 2,
        }
    }
}
