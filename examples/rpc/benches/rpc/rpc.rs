//! Calls over verbs. One thread does everything: it drives the device itself, and looks for a while before it sleeps.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use trespass::core::{Fabric, Spin, block_on};
use trespass::layers::Spun;
use trespass::verbs::{VerbsConfig, VerbsDriver, VerbsFabric};
use trespass_example_rpc::{CallError, Channel, ChannelConfig, RpcServer, ServeConfig, arith, serve_connection};

use crate::options::{Options, Work};
use crate::{nanos, report, share};

/// Longer than anything that is waited for while it is measured.
const LOOK: Duration = Duration::from_millis(5);

type Looking = Spun<VerbsFabric>;

fn open(options: &Options) -> Result<(Looking, VerbsDriver), Box<dyn Error>> {
    let patience = Duration::from_secs(60);
    let config = VerbsConfig::default().with_local(options.local).with_timeouts(patience, patience);
    let (fabric, driver) = VerbsFabric::open_manual(config)?;
    Ok((Spun::over(fabric, Spin::up_to(LOOK)), driver))
}

/// Serves one client.
pub(crate) fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let (fabric, mut driver) = open(options)?;
    let listener = fabric.listen(&std::net::SocketAddr::new(options.local, options.peer.port()))?;
    let service = arith::service(fabric.timer());
    let mut server = RpcServer::new(listener, fabric.timer(), service, ServeConfig::default())?;
    println!("listening");
    block_on(&mut driver, async {
        let (service, config) = server.service();
        if let Some(accepted) = server.accept().await? {
            serve_connection(accepted, Arc::clone(&service), config).await;
        }
        Ok(())
    })
}

pub(crate) fn call(options: &Options) -> Result<(), Box<dyn Error>> {
    let (fabric, mut driver) = open(options)?;
    let channel = Channel::new(fabric, options.peer, ChannelConfig::default());
    // A length goes before the bytes.
    let request = vec![7; options.size.saturating_sub(1)];
    block_on(&mut driver, channel.call(arith::Echo, &request))?;
    match options.work {
        Work::RoundTrip => round_trips(&channel, &request, options)?,
        Work::Rate => {
            block_on(&mut driver, many(&channel, &request, options.under_way, 1 + options.warmup / options.under_way))?;
            let began = Instant::now();
            block_on(&mut driver, many(&channel, &request, options.under_way, share(options)))?;
            report(share(options) * options.under_way, began.elapsed(), Vec::new());
        }
    }
    block_on(&mut driver, channel.close());
    Ok(())
}

/// One call after another, by a thread that polls.
fn round_trips(channel: &Channel<Looking>, request: &Vec<u8>, options: &Options) -> Result<(), CallError> {
    let mut taken = Vec::with_capacity(options.count as usize);
    let mut began = Instant::now();
    for number in 0..options.warmup + options.count {
        if number == options.warmup {
            began = Instant::now();
        }
        let begin = Instant::now();
        let mut call = pin!(channel.call(arith::Echo, request));
        let reply = loop {
            match call.try_poll() {
                std::task::Poll::Ready(reply) => break reply?,
                std::task::Poll::Pending => std::thread::yield_now(),
            }
        };
        if number >= options.warmup {
            taken.push(nanos(begin));
        }
        assert_eq!(reply.len(), request.len());
    }
    report(options.count, began.elapsed(), taken);
    Ok(())
}

/// So many callers at once, each with so many calls.
async fn many(channel: &Channel<Looking>, request: &Vec<u8>, callers: u64, calls: u64) -> Result<(), CallError> {
    let mut callers: FuturesUnordered<_> = (0..callers)
        .map(|_| async {
            for _ in 0..calls {
                channel.call(arith::Echo, request).await?;
            }
            Ok(())
        })
        .collect();
    while let Some(ended) = callers.next().await {
        ended?;
    }
    Ok(())
}
