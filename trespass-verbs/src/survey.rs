//! What there is to open a fabric on, without opening one: for a doctor, and for choosing by hand.

use std::net::SocketAddr;
use std::sync::Arc;

use sideway::ibverbs::device::{DeviceInfo, DeviceList};

use crate::choose::{self, Chosen};
use crate::config::VerbsConfig;
use crate::error::VerbsError;
pub use crate::port::{Gid, GidKind, LinkLayer, Port, PortState};
use crate::raw::cm::CmChannel;
use crate::raw::port::completion_vectors;

/// What this machine has, and what a fabric would take of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Survey {
    /// The devices that libibverbs lists, in its order; or why it lists none at all.
    pub devices: Result<Vec<Device>, VerbsError>,
    /// What [`VerbsFabric::open`](crate::VerbsFabric::open) would take with the same configuration, or why nothing.
    pub choice: Result<Choice, VerbsError>,
    /// The memory that a fabric of this configuration locks when it is opened, in bytes; more comes with more tracks. 0
    /// where the configuration cannot be.
    pub locked_at_first: usize,
    /// The memory that each track takes of it, in bytes. 0 where the configuration cannot be.
    pub locked_per_track: usize,
}

/// A device that libibverbs lists.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Device {
    /// Its name: `mlx5_0`, `rxe0`.
    pub name: String,
    /// What it says of itself, or why it cannot be asked.
    pub details: Result<Details, VerbsError>,
}

/// What a device says of itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Details {
    /// Its ports, with their GIDs.
    pub ports: Vec<Port>,
    /// Queue pairs at most: connections, then.
    pub max_queue_pairs: u64,
    /// Slots of one queue at most.
    pub max_slots: u64,
    /// How many completion vectors it has.
    pub completion_vectors: u32,
}

/// The device that a fabric takes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Choice {
    /// Its name.
    pub device: String,
    /// The address that it connects from where the peer leaves that open, with its interface if it is link-local, and port
    /// 0; `None` leaves it to the routing table.
    pub source: Option<SocketAddr>,
    /// The GID of that address, with its port, where GIDs are addresses.
    pub gid: Option<(u8, Gid)>,
    /// Why this one.
    pub why: String,
    /// The devices before it in the list, and why not they.
    pub passed_over: Vec<String>,
}

/// Looks at everything, and changes nothing. Opens each device for a moment; some milliseconds each.
///
/// # Errors
/// None: what cannot be found out is an error in its place.
///
/// # Examples
/// ```
/// use trespass_verbs::{VerbsConfig, survey};
///
/// match survey(&VerbsConfig::default()).choice {
///     Ok(choice) => println!("{}: {}", choice.device, choice.why),
///     Err(error) => println!("{error}"),
/// }
/// ```
pub fn survey(config: &VerbsConfig) -> Survey {
    let sizes = config.check().is_ok();
    Survey {
        devices: devices(),
        choice: choice(config),
        locked_at_first: if sizes { config.locked_at_first() } else { 0 },
        locked_per_track: if sizes { config.arena_size() } else { 0 },
    }
}

fn devices() -> Result<Vec<Device>, VerbsError> {
    let list = DeviceList::new().map_err(|error| VerbsError::sideway("list the devices", error))?;
    Ok(list.iter().map(|device| Device { name: device.name(), details: details(&device) }).collect())
}

fn details(device: &sideway::ibverbs::device::Device<'_>) -> Result<Details, VerbsError> {
    let (context, ports) = choose::open(device)?;
    let attr = context.query_device().map_err(|error| VerbsError::sideway("query the device", error))?;
    let count = |number: i32| u64::try_from(number).unwrap_or(0);
    Ok(Details {
        ports,
        max_queue_pairs: count(attr.max_qp()),
        max_slots: count(attr.max_qp_wr()),
        completion_vectors: completion_vectors(&context),
    })
}

fn choice(config: &VerbsConfig) -> Result<Choice, VerbsError> {
    config.check()?;
    let channel = CmChannel::new().map_err(|error| VerbsError::os("open the connection manager", &error))?;
    let Chosen { name, ports, sources, why, passed_over, .. } = choose::choose(config, &Arc::new(channel))?;
    let source = sources.first();
    let named =
        |gid: &Gid| gid.source() == source && config.gid_index.is_none_or(|index| gid.index == u32::from(index));
    let gid = source.and_then(|_| {
        ports.iter().find_map(|port| Some((port.number, port.gids.iter().find(|gid| named(gid))?.clone())))
    });
    Ok(Choice { device: name, source, gid, why, passed_over })
}
