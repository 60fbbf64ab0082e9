//! A key-value store over RDMA, and a load that checks it. See the README beside this file.
#![forbid(unsafe_code)]

mod app;
mod dataset;
mod means;
mod options;
mod progress;
mod record;
mod report;
#[allow(dead_code, reason = "tests use the rest")]
mod store;
mod tally;
#[path = "../custom_track/tcp/mod.rs"]
#[allow(dead_code, reason = "the conformance kit uses the rest")]
mod tcp;
mod worker;
mod workload;
mod ycsb;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use options::{Backend, Options};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kv: {error}");
            ExitCode::from(2)
        }
    }
}

/// Chooses the fabric: the only place that knows which ones there are. Whether nothing was wrong.
fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    match options.fabric {
        #[cfg(feature = "mock")]
        Backend::Mock => {
            if options.listen.is_some() || options.connect.is_some() {
                return Err("the mock is in process: --listen and --connect need --fabric tcp or verbs".into());
            }
            let fabric = trespass::mock::MockFabric::new();
            let means = means::Memory::new(options, Some("kv-table".parse()?))?;
            app::run(&fabric, &means, app::Place::Both { listen: "kv".parse()?, connect: None }, options)
        }
        Backend::Tcp => {
            let fabric = tcp::TcpFabric::open(tcp::TcpConfig::default())?;
            app::run(&fabric, &means::Messages, options.place()?, options)
        }
        #[cfg(feature = "verbs")]
        Backend::Verbs => {
            let place: app::Place<std::net::SocketAddr> = options.place()?;
            // A server has to be on the device that has the address at which it listens.
            let listening_at = match &place {
                app::Place::Server { listen } | app::Place::Both { listen, .. } => Some(listen.ip()),
                app::Place::Clients { .. } => None,
            };
            let mut config = trespass::verbs::VerbsConfig::default();
            if let Some(device) = &options.device {
                config = config.with_device(device);
            }
            if let Some(local) = options.local.or(listening_at.filter(|ip| !ip.is_unspecified())) {
                config = config.with_local(local);
            }
            let fabric = trespass::verbs::VerbsFabric::open(config)?;
            // Clients are told where, so it has to be somewhere.
            let beside = listening_at.filter(|ip| !ip.is_unspecified()).map(|ip| std::net::SocketAddr::new(ip, 0));
            let lend_at = options::address(options.lend.as_deref())?.or(beside);
            let means = means::Memory::new(options, lend_at)?;
            app::run(&fabric, &means, place, options)
        }
        #[cfg(not(feature = "mock"))]
        Backend::Mock => Err("built without the mock: build with `--features mock`".into()),
        #[cfg(not(feature = "verbs"))]
        Backend::Verbs => Err("built without verbs: build with `--features verbs`".into()),
    }
}
