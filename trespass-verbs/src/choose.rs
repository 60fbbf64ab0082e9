//! Which device a fabric takes, and from which of its addresses it connects. The one place that decides it: opening a
//! fabric and surveying a machine both ask here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sideway::ibverbs::device::{DeviceInfo, DeviceList};
use sideway::ibverbs::device_context::DeviceContext;

use crate::config::VerbsConfig;
use crate::error::{OsCause, VerbsError};
use crate::port::{Gid, GidKind, Port, is_link_local};
use crate::raw::cm::{CmChannel, CmId};

/// A device that will do, open.
pub(crate) struct Chosen {
    pub(crate) name: String,
    pub(crate) context: Arc<DeviceContext>,
    pub(crate) ports: Vec<Port>,
    pub(crate) sources: Sources,
    /// Why this one.
    pub(crate) why: String,
    /// Those before it in the list, and why not them.
    pub(crate) passed_over: Vec<String>,
}

/// The device that was named, or that has the address that was named, or the first with an active port.
pub(crate) fn choose(config: &VerbsConfig, cm: &Arc<CmChannel>) -> Result<Chosen, VerbsError> {
    // The connection manager knows nothing of a link-local address without its interface; the GID tables do.
    let owner = config.local.filter(|ip| !is_scoped(*ip)).map(|ip| owner_of(ip, cm)).transpose()?;
    let devices = DeviceList::new().map_err(|error| VerbsError::sideway("list the devices", error))?;
    let mut passed_over = Vec::new();
    for device in &devices {
        let name = device.name();
        if config.device.as_ref().is_some_and(|wanted| *wanted != name) {
            passed_over.push(format!("{name} (not the one asked for)"));
            continue;
        }
        if let (Some(local), true) = (config.local, owner.as_ref().is_some_and(|owner| *owner != name)) {
            passed_over.push(format!("{name} (does not have {local})"));
            continue;
        }
        let (context, ports) = match open(&device) {
            Ok(opened) => opened,
            Err(error) => {
                passed_over.push(format!("{name} ({error})"));
                continue;
            }
        };
        if let Some(local) = config.local.filter(|ip| is_scoped(*ip) && source_of(&ports, *ip).is_none()) {
            passed_over.push(format!("{name} (does not have {local})"));
            continue;
        }
        if !ports.iter().any(Port::is_active) {
            passed_over.push(format!("{name} (no active port: is its link up?)"));
            continue;
        }
        let sources = Sources::new(config, &name, &ports)?;
        check_path_mtu(config, &name, &ports, &sources)?;
        let why = match (&config.device, config.local) {
            (Some(_), _) => "it is the device that was asked for".to_owned(),
            (None, Some(local)) => format!("it has {local}"),
            (None, None) => "it is the first with an active port".to_owned(),
        };
        return Ok(Chosen { name, context, ports, sources, why, passed_over });
    }
    Err(VerbsError::Unavailable {
        why: if passed_over.is_empty() {
            "there is no RDMA device; see `rdma link`, and for soft-RoCE `rdma link add rxe0 type rxe netdev eth0`"
                .into()
        } else {
            format!("none of the devices will do: {}", passed_over.join(", "))
        },
    })
}

/// Opens a device and reads its ports.
pub(crate) fn open(
    device: &sideway::ibverbs::device::Device<'_>,
) -> Result<(Arc<DeviceContext>, Vec<Port>), VerbsError> {
    let context = device.open().map_err(|error| match error.os_cause() {
        // libibverbs looks in a second place when the first is closed to it, and tells of that.
        Ok(os) if os.raw_os_error() == Some(libc::ENOENT) => VerbsError::Unavailable {
            why: "its file in /dev/infiniband is not there, or this user may not read and write it".into(),
        },
        Ok(os) => VerbsError::os("open the device", &os),
        Err(why) => VerbsError::Device { action: "open the device", why },
    })?;
    let attr = context.query_device().map_err(|error| VerbsError::sideway("query the device", error))?;
    let ports = Port::all(&context, attr.phys_port_cnt())
        .map_err(|error| VerbsError::os("read the ports and GIDs of the device", &error))?;
    Ok((context, ports))
}

/// The name of the device that has `ip`. The connection manager knows it of every kind of device; GIDs tell it of some.
fn owner_of(ip: IpAddr, cm: &Arc<CmChannel>) -> Result<String, VerbsError> {
    let nobody = |why: &str| VerbsError::Unavailable { why: format!("no RDMA device has {ip}{why}; see `rdma link`") };
    let id = CmId::new(cm, 0).map_err(|error| VerbsError::os("look for the device", &error))?;
    id.bind(SocketAddr::new(ip, 0)).map_err(|error| nobody(&format!(" ({error})")))?;
    id.device_name().ok_or_else(|| nobody(""))
}

/// Whether an address means something only together with an interface.
fn is_scoped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if is_link_local(ip))
}

fn gids(ports: &[Port]) -> impl Iterator<Item = &Gid> {
    // Active ports first.
    let of = |active| ports.iter().filter(move |port| port.is_active() == active).flat_map(|port| &port.gids);
    of(true).chain(of(false))
}

/// `ip` with its interface, if the device has it.
fn source_of(ports: &[Port], ip: IpAddr) -> Option<SocketAddr> {
    gids(ports).find(|gid| gid.ip() == Some(ip)).and_then(Gid::source)
}

/// The addresses to connect from: the first that fits the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources {
    addrs: Vec<SocketAddr>,
    /// The GID to which everything is confined.
    pinned: Option<u8>,
}

impl Sources {
    fn new(config: &VerbsConfig, device: &str, ports: &[Port]) -> Result<Self, VerbsError> {
        if let Some(index) = config.gid_index {
            let source = pinned(index, config.local, device, ports)?;
            return Ok(Self { addrs: vec![source], pinned: Some(index) });
        }
        let mut addrs: Vec<SocketAddr> = Vec::new();
        for addr in gids(ports).filter_map(Gid::source) {
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        // Those that route first: IPv4, then IPv6, then link-local.
        addrs.sort_by_key(|addr| (addr.is_ipv6(), is_scoped(addr.ip())));
        if let Some(local) = config.local {
            let local = source_of(ports, local).unwrap_or(SocketAddr::new(local, 0));
            addrs.retain(|addr| *addr != local);
            addrs.insert(0, local);
        }
        Ok(Self { addrs, pinned: None })
    }

    /// What is connected from where the peer leaves it open.
    pub(crate) fn first(&self) -> Option<SocketAddr> {
        self.addrs.first().copied()
    }

    /// What to connect to `peer` from; `None` leaves it to the routing table.
    pub(crate) fn towards(&self, peer: SocketAddr) -> Result<Option<SocketAddr>, VerbsError> {
        let unreachable = |why| Err(VerbsError::Unreachable { peer, why });
        if let SocketAddr::V6(v6) = peer {
            if is_link_local(*v6.ip()) && v6.scope_id() == 0 {
                return unreachable(no_interface());
            }
        }
        let fits = |source: &&SocketAddr| match (source, peer) {
            (SocketAddr::V4(_), SocketAddr::V4(_)) => true,
            (SocketAddr::V6(source), SocketAddr::V6(peer)) => {
                is_link_local(*source.ip()) == is_link_local(*peer.ip())
                    && (!is_link_local(*peer.ip()) || source.scope_id() == peer.scope_id())
            }
            _ => false,
        };
        let source = self.addrs.iter().find(fits).copied();
        match (source, self.pinned) {
            (None, Some(index)) => {
                let addr = self.first().map(|addr| addr.ip().to_string()).unwrap_or_default();
                unreachable(format!("gid_index {index} is {addr}, from which there is no way to it; use another"))
            }
            (source, _) => Ok(source),
        }
    }

    /// Refuses to listen at what a pinned GID rules out.
    pub(crate) fn check_listen(&self, addr: SocketAddr) -> Result<(), VerbsError> {
        if let SocketAddr::V6(v6) = addr {
            if is_link_local(*v6.ip()) && v6.scope_id() == 0 {
                return Err(VerbsError::Unreachable { peer: addr, why: no_interface() });
            }
        }
        match (self.pinned, self.first()) {
            (Some(index), Some(source)) if !addr.ip().is_unspecified() && addr.ip() != source.ip() => {
                let why =
                    format!("is {index}, which is {}; listen at that, or use the index of {}", source.ip(), addr.ip());
                Err(VerbsError::Config { setting: "gid_index", why })
            }
            _ => Ok(()),
        }
    }

    /// Refuses a connection through another GID than the pinned one. The connection manager has the last word on it.
    pub(crate) fn check_gid(&self, used: u8) -> Result<(), VerbsError> {
        match self.pinned {
            Some(index) if index != used => {
                let why = format!(
                    "is {index}, and the connection manager chose {used} for this connection; use that, or the address of the wanted one"
                );
                Err(VerbsError::Config { setting: "gid_index", why })
            }
            _ => Ok(()),
        }
    }
}

fn no_interface() -> String {
    "a link-local address needs the index of its interface, as in [fe80::1%2]:7471; `ip link` shows it".into()
}

/// The address of GID `index`, if the connection manager would take that GID for it.
fn pinned(index: u8, local: Option<IpAddr>, device: &str, ports: &[Port]) -> Result<SocketAddr, VerbsError> {
    let refused = |why| Err(VerbsError::Config { setting: "gid_index", why });
    let named = |gid: &&Gid| gid.index == u32::from(index);
    let Some(gid) = gids(ports).filter(named).find(|gid| local.is_none() || gid.ip() == local) else {
        if let (Some(local), Some(gid)) = (local, gids(ports).find(named)) {
            return refused(format!("is {index}, which is {gid}, and local is {local}: leave one of them out"));
        }
        let there: Vec<_> = gids(ports).map(|gid| format!("{} ({gid})", gid.index)).collect();
        return refused(format!("is {index}, and {device} has {}", there.join(", ")));
    };
    let Some(source) = gid.source() else {
        return refused(format!(
            "is {index} ({gid}), which is no IP address, and the connection manager knows only those; use local instead"
        ));
    };
    let newer = |other: &&Gid| {
        other.kind == GidKind::RoceV2 && other.raw == gid.raw && other.interface_index == gid.interface_index
    };
    match (gid.kind, gids(ports).find(newer)) {
        (GidKind::RoceV1, Some(v2)) => refused(format!(
            "is {index} ({gid}), and for that address the connection manager takes {} (RoCE v2); use that",
            v2.index
        )),
        _ => Ok(source),
    }
}

fn check_path_mtu(config: &VerbsConfig, device: &str, ports: &[Port], sources: &Sources) -> Result<(), VerbsError> {
    let Some(bytes) = config.path_mtu else { return Ok(()) };
    let first = sources.first();
    let has_it = |port: &&Port| first.is_some() && port.gids.iter().any(|gid| gid.source() == first);
    let port = ports.iter().find(has_it).or_else(|| ports.iter().find(|port| port.is_active()));
    match port {
        // A port that does not say is not held to it.
        Some(port) if port.active_mtu != 0 && bytes > port.active_mtu => Err(VerbsError::Config {
            setting: "path_mtu",
            why: format!(
                "is {bytes}, and port {} of {device} carries {} just now; raise the MTU of its interface (by 100 more than \
                 that, for the headers), or lower this",
                port.number, port.active_mtu
            ),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::tests::{gid, port};

    fn ports() -> Vec<Port> {
        vec![port(
            1,
            vec![
                gid(0, "fe80::1", GidKind::RoceV2),
                gid(1, "::ffff:10.9.0.1", GidKind::RoceV1),
                gid(2, "::ffff:10.9.0.1", GidKind::RoceV2),
                gid(3, "fd09::1", GidKind::RoceV2),
                gid(4, "fe80::2", GidKind::InfiniBand),
            ],
        )]
    }

    fn sources(config: &VerbsConfig) -> Result<Sources, VerbsError> {
        Sources::new(config, "rxe0", &ports())
    }

    fn config() -> VerbsConfig {
        VerbsConfig::default()
    }

    fn towards(sources: &Sources, peer: &str) -> Option<String> {
        sources.towards(peer.parse().unwrap()).expect("a way").map(|source| source.to_string())
    }

    #[test]
    fn each_peer_is_connected_to_from_an_address_of_its_kind() {
        let sources = sources(&config()).unwrap();
        assert_eq!(sources.first(), Some("10.9.0.1:0".parse().unwrap()));
        assert_eq!(towards(&sources, "10.9.0.2:1").as_deref(), Some("10.9.0.1:0"));
        assert_eq!(towards(&sources, "[fd09::2]:1").as_deref(), Some("[fd09::1]:0"));
        assert_eq!(towards(&sources, "[fe80::2%3]:1").as_deref(), Some("[fe80::1%3]:0"));
        assert_eq!(towards(&sources, "[fe80::2%4]:1"), None);
    }

    #[test]
    fn a_link_local_peer_needs_its_interface() {
        let sources = sources(&config()).unwrap();
        for refused in [
            sources.towards("[fe80::2]:1".parse().unwrap()).err(),
            sources.check_listen("[fe80::2]:1".parse().unwrap()).err(),
        ] {
            let error = refused.expect("refused").to_string();
            assert!(error.contains("the index of its interface"), "{error}");
        }
    }

    #[test]
    fn the_local_address_comes_first() {
        let sources = sources(&config().with_local("fd09::1".parse().unwrap())).unwrap();
        assert_eq!(sources.first(), Some("[fd09::1]:0".parse().unwrap()));
        assert_eq!(towards(&sources, "10.9.0.2:1").as_deref(), Some("10.9.0.1:0"));
        // An address that no GID tells of, as on iWARP.
        let sources = Sources::new(&config().with_local("10.0.0.9".parse().unwrap()), "siw0", &ports()).unwrap();
        assert_eq!(towards(&sources, "10.9.0.2:1").as_deref(), Some("10.0.0.9:0"));
    }

    #[test]
    fn a_gid_index_is_an_address_or_refused() {
        let pinned = sources(&config().with_gid_index(2)).unwrap();
        assert_eq!(towards(&pinned, "10.9.0.2:1").as_deref(), Some("10.9.0.1:0"));
        assert!(pinned.towards("[fd09::2]:1".parse().unwrap()).is_err());
        assert_eq!(pinned.check_listen("0.0.0.0:1".parse().unwrap()), Ok(()));
        assert_eq!(pinned.check_listen("10.9.0.1:1".parse().unwrap()), Ok(()));
        assert!(pinned.check_listen("[fd09::1]:1".parse().unwrap()).is_err());
        assert_eq!(pinned.check_gid(2), Ok(()));
        assert!(pinned.check_gid(1).is_err());
        assert_eq!(sources(&config()).unwrap().check_gid(1), Ok(()));

        for (index, why) in [(9, "and rxe0 has 0 (fe80::1,"), (4, "no IP address"), (1, "takes 2 (RoCE v2)")] {
            let error = sources(&config().with_gid_index(index)).expect_err("refused").to_string();
            assert!(error.starts_with(&format!("bad configuration: gid_index is {index}")), "{error}");
            assert!(error.contains(why), "{error}");
        }
        let both = config().with_gid_index(2).with_local("fd09::1".parse().unwrap());
        let error = sources(&both).expect_err("refused").to_string();
        assert!(error.contains("leave one of them out"), "{error}");
        let agreeing = config().with_gid_index(2).with_local("10.9.0.1".parse().unwrap());
        assert!(sources(&agreeing).is_ok());
    }

    #[test]
    fn a_path_mtu_above_that_of_the_port_is_refused() {
        let check = |bytes| {
            let config = config().with_path_mtu(bytes);
            check_path_mtu(&config, "rxe0", &ports(), &sources(&config).unwrap())
        };
        assert_eq!(check(1024), Ok(()));
        let error = check(2048).expect_err("refused").to_string();
        assert!(error.contains("path_mtu is 2048, and port 1 of rxe0 carries 1024"), "{error}");
    }
}
