//! The program that `scripts/bench-verbs` measures: one end of a conversation over real verbs.
//!
//! It is an ordinary application, generic over the fabric ([`talk`] and [`link`]), and this file alone names verbs. One
//! thread does everything: a manual fabric is driven by [`block_on`] where the work waits for events, and by nobody while
//! it polls. Both ends get the same arguments and know when it is over.
#![forbid(unsafe_code)]

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use trespass::carriers::{
    MessageCarrier, MessageConfig, RendezvousCarrier, RendezvousConfig, StreamCarrier, StreamConfig,
};
use trespass::core::{Fabric, Incoming, ListenerExt, RemoteWindow, Role, block_on};
use trespass::verbs::{DatagramConfig, SharedConfig, VerbsConfig, VerbsDriver, VerbsFabric};
use trespass_example_table::Directory;

use bytes::BytesLink;
use large::{LentLink, SegmentsLink};
use link::{CarrierLink, TrackLink};
use options::{Options, Over, Side, Work};

mod bytes;
mod clock;
mod gets;
mod large;
#[path = "../support/link.rs"]
mod link;
mod many;
mod memory;
mod options;
mod port;
mod talk;

/// What a carrier adds to each message; a slot is that much longer, so that a message is one frame.
const CARRIER_ROOM: usize = 64;
/// The slots of a track whose messages are longer, and of one with bytes: what a fabric has by default.
const SEGMENT: usize = 16 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let Some(options) = Options::from_args()? else {
        println!("nothing to do: scripts/bench-verbs runs this, with two ends\n{}", options::USAGE);
        return Ok(());
    };
    let message = match (options.work, options.over) {
        (Work::Read | Work::Write | Work::Add, _) => RemoteWindow::ENCODED,
        (Work::Get, _) => Directory::ENCODED,
        (Work::PingPong | Work::Bursts | Work::Stream, Over::Carrier) => options.size + CARRIER_ROOM,
        (Work::PingPong | Work::Bursts | Work::Stream, Over::Segments | Over::Lent | Over::Bytes) => SEGMENT,
        (Work::PingPong | Work::Bursts | Work::Stream | Work::Many, _) => options.size,
    };
    // Emulated machines are slow to shake hands.
    let patience = Duration::from_secs(60);
    let mut config = VerbsConfig::default()
        .with_local(options.local)
        .with_slots(message, options.send_slots, options.recv_slots)
        .with_timeouts(patience, patience);
    if let Some(inline) = options.inline {
        config.inline = inline;
    }
    let (fabric, mut driver) = VerbsFabric::open_manual(config)?;
    match options.over {
        Over::Track => over_tracks(&fabric, &mut driver, &options),
        Over::Carrier | Over::Segments | Over::Lent | Over::Bytes => {
            over_carriers(&fabric, &mut driver, &options, patience)
        }
        Over::Datagrams => {
            let datagrams = fabric.datagrams(datagram_config(&options))?;
            let track = block_on(&mut driver, meet_once(&datagrams, &options))?;
            talk::run(TrackLink::new(track), &mut driver, &options)
        }
        Over::Port => {
            let datagrams = fabric.datagrams(datagram_config(&options))?;
            talk::run(block_on(&mut driver, port::meet(&datagrams, &options))?, &mut driver, &options)
        }
        Over::Shared => {
            let shared = fabric.shared(SharedConfig::default().with_tracks(options.tracks, options.recv_slots))?;
            many::run(block_on(&mut driver, meet(&shared, &options))?, &mut driver, &options)
        }
    }
}

fn over_carriers(
    fabric: &VerbsFabric,
    driver: &mut VerbsDriver,
    options: &Options,
    patience: Duration,
) -> Result<(), Box<dyn Error>> {
    let track = block_on(driver, meet_once(fabric, options))?;
    let role = if options.side == Side::Client { Role::Connector } else { Role::Acceptor };
    if options.over == Over::Bytes {
        let config = StreamConfig::default().with_open_timeout(patience);
        let stream = block_on(driver, StreamCarrier::open(track, role, config))?;
        return talk::run(BytesLink::new(stream, options.size), driver, options);
    }
    let config = MessageConfig::default().with_open_timeout(patience);
    if options.over == Over::Lent {
        let config = RendezvousConfig::new(fabric.clone()).with_messages(config).with_lend_from(options.size);
        let carrier = block_on(driver, RendezvousCarrier::open(track, role, config))?;
        return talk::run(LentLink::new(carrier), driver, options);
    }
    let carrier = block_on(driver, MessageCarrier::open(track, role, config))?;
    match options.over {
        Over::Segments => talk::run(SegmentsLink::new(carrier), driver, options),
        _ => talk::run(CarrierLink::new(carrier), driver, options),
    }
}

fn over_tracks(fabric: &VerbsFabric, driver: &mut VerbsDriver, options: &Options) -> Result<(), Box<dyn Error>> {
    match options.work {
        Work::Read | Work::Write | Work::Add => {
            memory::run(fabric, block_on(driver, meet_once(fabric, options))?, driver, options)
        }
        Work::Get => gets::run(fabric, block_on(driver, meet_once(fabric, options))?, driver, options),
        Work::Many => many::run(block_on(driver, meet(fabric, options))?, driver, options),
        _ => talk::run(TrackLink::new(block_on(driver, meet_once(fabric, options))?), driver, options),
    }
}

fn datagram_config(options: &Options) -> DatagramConfig {
    let mut config =
        DatagramConfig::default().with_slots(options.send_slots, options.recv_slots).with_peers(options.send_slots + 1);
    if let Some(inline) = options.inline {
        config.inline = inline;
    }
    config
}

async fn meet_once<F>(fabric: &F, options: &Options) -> Result<F::Track, Box<dyn Error>>
where
    F: Fabric<Addr = SocketAddr>,
{
    let tracks = meet(fabric, &Options { tracks: 1, ..options.clone() }).await?;
    tracks.into_iter().next().ok_or_else(|| "no track".into())
}

/// The tracks between the two ends, in the same order at both.
async fn meet<F>(fabric: &F, options: &Options) -> Result<Vec<F::Track>, Box<dyn Error>>
where
    F: Fabric<Addr = SocketAddr>,
{
    let mut tracks = Vec::with_capacity(options.tracks);
    match options.side {
        Side::Client => {
            for _ in 0..options.tracks {
                tracks.push(fabric.connect(&options.peer).await?);
            }
        }
        Side::Server => {
            let mut listener = fabric.listen(&SocketAddr::new(options.local, options.peer.port()))?;
            println!("listening");
            for _ in 0..options.tracks {
                tracks.push(listener.incoming().await?.accept().await?);
            }
        }
    }
    Ok(tracks)
}
