//! Ports and their GIDs, as the device tells of them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rdma_mummy_sys::{
    IBV_GID_TYPE_IB, IBV_GID_TYPE_ROCE_V1, IBV_GID_TYPE_ROCE_V2, IBV_LINK_LAYER_ETHERNET, IBV_LINK_LAYER_INFINIBAND,
    ibv_port_state,
};
use sideway::ibverbs::device_context::DeviceContext;

use crate::raw::port::{RawGid, interface_name, query_gids, query_port};

/// A port of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Port {
    /// From 1.
    pub number: u8,
    /// Whether it carries anything.
    pub state: PortState,
    /// What it is plugged into.
    pub link: LinkLayer,
    /// The longest packet just now, in bytes of payload: that of its network interface, rounded down to a power of two
    /// from 256 to 4096. 0 where the device does not say.
    pub active_mtu: u16,
    /// The longest packet that the port could carry, in the same way.
    pub max_mtu: u16,
    /// Its GIDs: those that are set.
    pub gids: Vec<Gid>,
}

/// The state of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortState {
    /// No link.
    Down,
    /// A link that the subnet manager has not set up yet.
    Initializing,
    /// A link that the subnet manager is setting up.
    Armed,
    /// Everything works.
    Active,
    /// The link failed, and may recover.
    ActiveDefer,
    /// A code that is not known here.
    Other(u32),
}

/// What a port is plugged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkLayer {
    /// An InfiniBand fabric, with a subnet manager.
    InfiniBand,
    /// An Ethernet: RoCE or iWARP.
    Ethernet,
    /// A code that is not known here; providers that know of InfiniBand only give 0.
    Other(u8),
}

/// An entry of a port's GID table: one address that the port has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gid {
    /// Its place in the table of the port: what `ib_send_lat -x` and [`VerbsConfig::gid_index`] take.
    ///
    /// [`VerbsConfig::gid_index`]: crate::VerbsConfig::gid_index
    pub index: u32,
    /// The 16 bytes, as an IPv6 address would be written.
    pub raw: Ipv6Addr,
    /// What travels on the wire.
    pub kind: GidKind,
    /// The index of its network interface; 0 where it has none.
    pub interface_index: u32,
    /// The name of its network interface.
    pub interface: Option<String>,
}

/// What travels on the wire for a GID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GidKind {
    /// InfiniBand (or iWARP, where a GID says nothing).
    InfiniBand,
    /// RoCE v1: Ethernet frames of a type of their own, which no router passes on.
    RoceV1,
    /// RoCE v2: UDP, port 4791.
    RoceV2,
    /// A code that is not known here.
    Other(u32),
}

impl Port {
    /// All ports of a device.
    pub(crate) fn all(context: &DeviceContext, count: u8) -> io::Result<Vec<Self>> {
        let mut ports = Vec::new();
        let mut entries = 0;
        for number in 1..=count {
            let attr = query_port(context, number)?;
            entries += usize::try_from(attr.gid_tbl_len).unwrap_or(0);
            ports.push(Self {
                number,
                state: PortState::from_code(attr.state),
                link: LinkLayer::from_code(attr.link_layer),
                active_mtu: mtu_bytes(attr.active_mtu),
                max_mtu: mtu_bytes(attr.max_mtu),
                gids: Vec::new(),
            });
        }
        for gid in query_gids(context, entries)? {
            if let Some(port) = ports.iter_mut().find(|port| u32::from(port.number) == gid.port) {
                port.gids.push(Gid::from_raw(&gid));
            }
        }
        Ok(ports)
    }

    /// Whether tracks can go through it now.
    pub fn is_active(&self) -> bool {
        self.state == PortState::Active
    }
}

impl PortState {
    pub(crate) fn from_code(code: u32) -> Self {
        match code {
            ibv_port_state::IBV_PORT_DOWN => Self::Down,
            ibv_port_state::IBV_PORT_INIT => Self::Initializing,
            ibv_port_state::IBV_PORT_ARMED => Self::Armed,
            ibv_port_state::IBV_PORT_ACTIVE => Self::Active,
            ibv_port_state::IBV_PORT_ACTIVE_DEFER => Self::ActiveDefer,
            code => Self::Other(code),
        }
    }
}

impl LinkLayer {
    fn from_code(code: u8) -> Self {
        match code {
            IBV_LINK_LAYER_INFINIBAND => Self::InfiniBand,
            IBV_LINK_LAYER_ETHERNET => Self::Ethernet,
            code => Self::Other(code),
        }
    }
}

impl GidKind {
    fn from_code(code: u32) -> Self {
        match code {
            IBV_GID_TYPE_IB => Self::InfiniBand,
            IBV_GID_TYPE_ROCE_V1 => Self::RoceV1,
            IBV_GID_TYPE_ROCE_V2 => Self::RoceV2,
            code => Self::Other(code),
        }
    }
}

impl Gid {
    fn from_raw(raw: &RawGid) -> Self {
        Self {
            index: raw.index,
            raw: Ipv6Addr::from(raw.gid),
            kind: GidKind::from_code(raw.kind),
            interface_index: raw.interface,
            interface: interface_name(raw.interface),
        }
    }

    /// The IP address that it is; `None` where it is none: on InfiniBand a GID is made of the port's own number, and on
    /// iWARP of its MAC.
    pub fn ip(&self) -> Option<IpAddr> {
        if !matches!(self.kind, GidKind::RoceV1 | GidKind::RoceV2) || self.raw.is_unspecified() {
            return None;
        }
        Some(self.raw.to_ipv4_mapped().map_or(IpAddr::V6(self.raw), IpAddr::V4))
    }

    /// The address to bind to, without a port: for a link-local one that names the interface too.
    pub(crate) fn source(&self) -> Option<SocketAddr> {
        match self.ip()? {
            IpAddr::V6(ip) if is_link_local(ip) => Some(SocketAddrV6::new(ip, 0, 0, self.interface_index).into()),
            ip => Some(SocketAddr::new(ip, 0)),
        }
    }
}

/// Whether the address means something only together with an interface.
pub(crate) fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

/// The bytes behind a code of the specification (`enum ibv_mtu`), 0 for an unknown one.
pub(crate) fn mtu_bytes(code: u32) -> u16 {
    if (1..=5).contains(&code) { 128 << code } else { 0 }
}

/// The code of a path MTU; `None` where there is none.
pub(crate) fn mtu_code(bytes: u16) -> Option<u32> {
    (1..=5).find(|code| mtu_bytes(*code) == bytes)
}

impl fmt::Display for PortState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("down"),
            Self::Initializing => f.write_str("initializing"),
            Self::Armed => f.write_str("armed"),
            Self::Active => f.write_str("active"),
            Self::ActiveDefer => f.write_str("active, deferred"),
            Self::Other(code) => write!(f, "in state {code}"),
        }
    }
}

impl fmt::Display for LinkLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InfiniBand => f.write_str("InfiniBand"),
            Self::Ethernet => f.write_str("Ethernet"),
            Self::Other(code) => write!(f, "link layer {code}"),
        }
    }
}

impl fmt::Display for GidKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InfiniBand => f.write_str("InfiniBand"),
            Self::RoceV1 => f.write_str("RoCE v1"),
            Self::RoceV2 => f.write_str("RoCE v2"),
            Self::Other(code) => write!(f, "kind {code}"),
        }
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            Some(ip) => write!(f, "{ip}, {}", self.kind)?,
            None => write!(f, "{}, {}", self.raw, self.kind)?,
        }
        match &self.interface {
            Some(name) => write!(f, ", {name}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn gid(index: u32, raw: &str, kind: GidKind) -> Gid {
        let raw = raw.parse().unwrap();
        Gid { index, raw, kind, interface_index: 3, interface: Some("eth0".into()) }
    }

    pub(crate) fn port(number: u8, gids: Vec<Gid>) -> Port {
        let (state, link) = (PortState::Active, LinkLayer::Ethernet);
        Port { number, state, link, active_mtu: 1024, max_mtu: 4096, gids }
    }

    #[test]
    fn mtu_codes_and_bytes() {
        for (code, bytes) in [(1, 256), (2, 512), (3, 1024), (4, 2048), (5, 4096)] {
            assert_eq!(mtu_bytes(code), bytes);
            assert_eq!(mtu_code(bytes), Some(code));
        }
        for bytes in [0, 128, 255, 1500, 8192] {
            assert_eq!(mtu_code(bytes), None);
        }
        assert_eq!((mtu_bytes(0), mtu_bytes(6), mtu_bytes(u32::MAX)), (0, 0, 0));
    }

    #[test]
    fn a_gid_is_an_address_where_it_is_of_roce() {
        let v4 = gid(1, "::ffff:10.9.0.1", GidKind::RoceV2);
        assert_eq!(v4.ip(), Some("10.9.0.1".parse().unwrap()));
        assert_eq!(v4.to_string(), "10.9.0.1, RoCE v2, eth0");
        assert_eq!(v4.source(), Some("10.9.0.1:0".parse().unwrap()));
        assert_eq!(gid(0, "fe80::1", GidKind::RoceV2).source(), Some("[fe80::1%3]:0".parse().unwrap()));
        assert_eq!(gid(0, "fd09::1", GidKind::RoceV1).source(), Some("[fd09::1]:0".parse().unwrap()));
        assert_eq!(gid(0, "fe80::1", GidKind::InfiniBand).ip(), None);
        assert_eq!(gid(0, "::", GidKind::RoceV2).ip(), None);
    }

    #[test]
    fn codes_of_later_years_are_kept() {
        assert_eq!(PortState::from_code(77).to_string(), "in state 77");
        assert_eq!(LinkLayer::from_code(9).to_string(), "link layer 9");
        assert_eq!(GidKind::from_code(5).to_string(), "kind 5");
    }
}
