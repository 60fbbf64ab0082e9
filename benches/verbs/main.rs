//! The program that `scripts/bench-verbs` measures: one end of a conversation over real verbs.
//!
//! It is an ordinary application, generic over the fabric ([`talk`] and [`link`]), and this file alone names verbs. One
//! thread does everything: a manual fabric is driven by [`block_on`] where the work waits for events, and by nobody while
//! it polls. Both ends get the same arguments and know when it is over.
#![forbid(unsafe_code)]

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use trespass::carriers::{MessageCarrier, MessageConfig};
use trespass::core::{Fabric, Incoming, ListenerExt, Role, block_on};
use trespass::verbs::{VerbsConfig, VerbsFabric};

use link::{CarrierLink, TrackLink};
use options::{Options, Over, Side};

#[path = "../support/link.rs"]
mod link;
mod options;
mod talk;

/// What a carrier adds to each message; a slot is that much longer, so that a message is one frame.
const CARRIER_ROOM: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let Some(options) = Options::from_args()? else {
        println!("nothing to do: scripts/bench-verbs runs this, with two ends\n{}", options::USAGE);
        return Ok(());
    };
    let room = if options.over == Over::Carrier { CARRIER_ROOM } else { 0 };
    // Emulated machines are slow to shake hands.
    let patience = Duration::from_secs(60);
    let mut config = VerbsConfig::default()
        .with_local(options.local)
        .with_slots(options.size + room, options.send_slots, options.recv_slots)
        .with_timeouts(patience, patience);
    if let Some(inline) = options.inline {
        config.inline = inline;
    }
    let (fabric, mut driver) = VerbsFabric::open_manual(config)?;

    let track = block_on(&mut driver, meet(&fabric, &options))?;
    let role = if options.side == Side::Client { Role::Connector } else { Role::Acceptor };
    match options.over {
        Over::Track => talk::run(TrackLink::new(track), &mut driver, &options),
        Over::Carrier => {
            let opening = MessageCarrier::open(track, role, MessageConfig::default().with_open_timeout(patience));
            talk::run(CarrierLink::new(block_on(&mut driver, opening)?), &mut driver, &options)
        }
    }
}

/// The track between the two ends.
async fn meet<F>(fabric: &F, options: &Options) -> Result<F::Track, Box<dyn Error>>
where
    F: Fabric<Addr = SocketAddr>,
{
    match options.side {
        Side::Client => Ok(fabric.connect(&options.peer).await?),
        Side::Server => {
            let mut listener = fabric.listen(&SocketAddr::new(options.local, options.peer.port()))?;
            println!("listening");
            Ok(listener.incoming().await?.accept().await?)
        }
    }
}
