//! How datagrams are set up on a device.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::header::HEADER;
use super::hello::KEYS;
use crate::config::VerbsConfig;
use crate::device::{Device, cq_depth};
use crate::error::VerbsError;
use crate::pool::Pool;
use crate::port::{Gid, GidKind, LinkLayer, Port};
use crate::raw::cq::Cq;
use crate::raw::qp::{Depths, Qp};

/// How much memory for datagrams is registered at a time.
const CHUNK: usize = 1 << 20;

/// The settings of [`VerbsDatagrams`](crate::VerbsDatagrams). Checked when they are opened; a bad one is refused with the
/// reason.
///
/// Memory: a track takes `send_slots + recv_slots` times the MTU of the device and some 64 bytes, registered when it is
/// made (in pieces of 1 MiB), from a pool that goes up to the `pool_limit` of the fabric once more for sends and once
/// for receives. Tracks of one listener keep the largest number of them that there was at once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatagramConfig {
    /// Datagrams reserved or under way, for each track and port: 1 to 2^15, default 32.
    pub send_slots: usize,
    /// Datagrams that wait or are held, for each track and port; what arrives beyond it is dropped. 1 to
    /// 2^15, default 64.
    pub recv_slots: usize,
    /// Tracks that a listener gives at once; the next request is refused with kind `Busy`. 1 to 2^15, default 64.
    pub tracks: usize,
    /// Peers of a port whose address handles are kept; beyond it the one that was sent to least recently makes room. More
    /// than `send_slots`, so that there always is one with nothing under way, up to 2^20; default 128.
    pub peers: usize,
    /// Datagrams up to this many bytes go inline with their work request, if the device takes that many; else as many as
    /// it takes. 0 to 4096, default 256.
    pub inline: usize,
    /// What datagrams for ports of this fabric have to show, below 2^31: no secret, but it keeps strays off. Ports whose
    /// keys differ cannot answer each other. (Tracks draw their own.)
    pub key: u32,
}

impl Default for DatagramConfig {
    fn default() -> Self {
        Self { send_slots: 32, recv_slots: 64, tracks: 64, peers: 128, inline: 256, key: 0x5472_5564 }
    }
}

impl DatagramConfig {
    /// The same, with tracks and ports of this shape.
    #[must_use]
    pub fn with_slots(self, send_slots: usize, recv_slots: usize) -> Self {
        Self { send_slots, recv_slots, ..self }
    }

    /// The same, with so many tracks for each listener at once.
    #[must_use]
    pub fn with_tracks(self, tracks: usize) -> Self {
        Self { tracks, ..self }
    }

    /// The same, with address handles for so many peers of a port.
    #[must_use]
    pub fn with_peers(self, peers: usize) -> Self {
        Self { peers, ..self }
    }

    fn check(&self) -> Result<(), VerbsError> {
        let range = |setting, value: usize, from: usize, to: usize| {
            if (from..=to).contains(&value) {
                return Ok(());
            }
            Err(VerbsError::Config { setting, why: format!("is {value}; it has to be from {from} to {to}") })
        };
        range("send_slots", self.send_slots, 1, 1 << 15)?;
        range("recv_slots", self.recv_slots, 1, 1 << 15)?;
        range("tracks", self.tracks, 1, 1 << 15)?;
        range("peers", self.peers, self.send_slots + 1, 1 << 20)?;
        range("inline", self.inline, 0, 4096)?;
        range("key", self.key as usize, 0, KEYS as usize)
    }
}

/// What all ports of a fabric have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) send_slots: usize,
    pub(crate) recv_slots: usize,
    pub(crate) inline: usize,
    /// The longest datagram: the MTU of the device's port, or less where the fabric is told so.
    pub(crate) mtu: usize,
    pub(crate) traffic_class: u8,
    /// The device's port.
    pub(crate) port: u8,
}

impl Shape {
    /// What the device may write for one datagram.
    pub(crate) fn slot_len(&self) -> usize {
        self.mtu + HEADER
    }

    /// The memory of one slot, rounded up to a cache line.
    pub(crate) fn slot_size(&self) -> usize {
        self.slot_len().next_multiple_of(64)
    }
}

/// Registered memory for datagrams.
pub(crate) struct Pools {
    /// An arena is the send slots of one track or port.
    pub(crate) sends: Arc<Pool>,
    /// An arena is the receive slots of one seat.
    pub(crate) receives: Arc<Pool>,
}

impl Pools {
    pub(crate) fn new(device: &Device, shape: &Shape, limit: usize) -> Result<Self, VerbsError> {
        let pool = |slots: usize| {
            let arena = slots * shape.slot_size();
            if arena > limit {
                let why = format!("is {limit} bytes, and the slots of one track take {arena}; raise it");
                return Err(VerbsError::Config { setting: "pool_limit", why });
            }
            Pool::with_chunk(&device.pd, arena, CHUNK, limit)
        };
        Ok(Self { sends: pool(shape.send_slots)?, receives: pool(shape.recv_slots)? })
    }
}

/// The addresses of a device by which RoCE v2 finds it.
pub(crate) struct Addresses(Vec<Address>);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub(crate) gid: Ipv6Addr,
    pub(crate) index: u8,
    pub(crate) port: u8,
}

impl Addresses {
    /// Those of `ports`; the one at `pinned` alone, where that is set.
    fn of(ports: &[Port], pinned: Option<u8>) -> Self {
        let address = |port: u8, gid: &Gid| Some(Address { gid: gid.raw, index: u8::try_from(gid.index).ok()?, port });
        let all = ports.iter().flat_map(|port| port.gids.iter().map(move |gid| (port.number, gid)));
        let routable = all.filter(|(_, gid)| gid.kind == GidKind::RoceV2);
        let addresses = routable.filter_map(|(port, gid)| address(port, gid));
        Self(addresses.filter(|address| pinned.is_none_or(|index| address.index == index)).collect())
    }

    pub(crate) fn find(&self, gid: Ipv6Addr) -> Option<Address> {
        self.0.iter().find(|address| address.gid == gid).copied()
    }
}

/// An address as a GID.
pub(crate) fn gid_of(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Looks at what the device has for `config`: the shape of ports on it.
pub(crate) fn shape_of(
    config: &DatagramConfig,
    fabric: &VerbsConfig,
    device: &Device,
) -> Result<(Shape, Addresses, Address), VerbsError> {
    config.check()?;
    let missing = |why: String| VerbsError::Unavailable { why: format!("datagrams on {}: {why}", device.name) };
    let limits = device.context.query_device().map_err(|error| VerbsError::sideway("query the device", error))?;
    let ports = Port::all(&device.context, limits.phys_port_cnt())
        .map_err(|error| VerbsError::os("read the ports and GIDs of the device", &error))?;
    let addresses = Addresses::of(&ports, fabric.gid_index);
    let ours = device.sources.first().map(|addr| addr.ip());
    let local = ours.map(gid_of).and_then(|gid| addresses.find(gid)).ok_or_else(|| {
        let ours = ours.map_or("its address".into(), |ip| ip.to_string());
        missing(format!("{ours} is no RoCE v2 address, the only sort that is supported; see `rdma link`"))
    })?;
    let port = ports.iter().find(|port| port.number == local.port && port.link == LinkLayer::Ethernet);
    let port = port.ok_or_else(|| missing("the link is no Ethernet, and only RoCE is supported".into()))?;
    let mtu = fabric.path_mtu.map_or(port.active_mtu, |most| most.min(port.active_mtu));
    for (setting, slots) in [("send_slots", config.send_slots), ("recv_slots", config.recv_slots)] {
        let all = slots * config.tracks;
        let most = limits.max_qp_wr().min(limits.max_cqe() - 1);
        if usize::try_from(most).is_ok_and(|most| all > most) {
            let why = format!("times `tracks` is {all}, and {} has queues of {most} at most", device.name);
            return Err(VerbsError::Config { setting, why });
        }
    }
    let shape = Shape {
        send_slots: config.send_slots,
        recv_slots: config.recv_slots,
        inline: probe(config, device)?,
        mtu: mtu.into(),
        traffic_class: fabric.traffic_class.unwrap_or(0),
        port: local.port,
    };
    Ok((shape, addresses, local))
}

/// Makes a queue pair as a listener's will be, to learn how much may go inline: no attribute of a device says so.
fn probe(config: &DatagramConfig, device: &Device) -> Result<usize, VerbsError> {
    let (sends, receives) = (config.send_slots * config.tracks, config.recv_slots * config.tracks);
    let send_cq = Cq::new(&device.context, &device.channel, cq_depth(sends), device.vector, 0)?;
    let recv_cq = Cq::new(&device.context, &device.channel, cq_depth(receives), device.vector, 0)?;
    let mut depths = Depths { send: sends as u32, recv: receives as u32, inline: config.inline as u32 };
    loop {
        match Qp::datagram(&device.pd, &send_cq, &recv_cq, depths) {
            Ok((qp, got)) => {
                drop(qp);
                return Ok(got.inline.min(depths.inline) as usize);
            }
            Err(VerbsError::Unavailable { .. }) if depths.inline == 0 => {
                let why = format!("{} has no unreliable datagrams", device.name);
                return Err(VerbsError::Unavailable { why });
            }
            Err(error) if depths.inline == 0 => return Err(error),
            Err(_) => depths.inline /= 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_setting_is_named() {
        let refused = |config: DatagramConfig| match config.check() {
            Err(VerbsError::Config { setting, .. }) => setting,
            other => panic!("{other:?}"),
        };
        assert_eq!(DatagramConfig::default().check(), Ok(()));
        assert_eq!(refused(DatagramConfig::default().with_slots(0, 1)), "send_slots");
        assert_eq!(refused(DatagramConfig::default().with_slots(1, 0)), "recv_slots");
        assert_eq!(refused(DatagramConfig::default().with_tracks(0)), "tracks");
        assert_eq!(refused(DatagramConfig::default().with_peers(32)), "peers");
        assert_eq!(refused(DatagramConfig { key: 1 << 31, ..DatagramConfig::default() }), "key");
    }
}
