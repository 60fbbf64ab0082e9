//! The program, whatever the fabric: a server, clients, or both.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

use futures_executor::block_on;
use trespass::carriers::MessageConfig;
use trespass::core::{InOrder, Lossless, ThreadFabric, ThreadTrack, Track};

use crate::dataset::Dataset;
use crate::options::Options;
use crate::report;
use crate::store::{Client, Server, ServerConfig};
use crate::tally::Problems;
use crate::workload::{Mix, Phase, Step, Worker};

/// Which parts of the store this process is, and where.
pub(crate) enum Place<A> {
    Server {
        listen: A,
    },
    Clients {
        connect: A,
    },
    /// Without an address of their own, the clients connect to where the server listens.
    Both {
        listen: A,
        connect: Option<A>,
    },
}

/// Runs it. Whether nothing was wrong.
pub(crate) fn run<F>(fabric: &F, place: Place<F::Addr>, options: &Options) -> Result<bool, Box<dyn Error>>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    match place {
        Place::Server { listen } => {
            let server = Server::start(fabric, &listen, ServerConfig::default())?;
            announce(server.addr())?;
            server.wait()?;
            Ok(true)
        }
        Place::Clients { connect } => run_clients(fabric, &connect, options),
        Place::Both { listen, connect } => {
            let server = Server::start(fabric, &listen, ServerConfig::default())?;
            run_clients(fabric, connect.as_ref().unwrap_or(server.addr()), options)
        }
    }
}

/// The line that another program waits for.
fn announce(addr: &impl std::fmt::Display) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "listening on {addr}")?;
    out.flush()
}

fn run_clients<F>(fabric: &F, addr: &F::Addr, options: &Options) -> Result<bool, Box<dyn Error>>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let config = MessageConfig::default();
    // Keys of this run alone: runs at the same time share a server without mistaking each other's updates for faults.
    let prefix = format!("{:08x}/", rand::random::<u32>());
    let dataset = read_dataset(options, &prefix, Client::<F::Track>::longest_value(&config))?;
    let mut workers = Vec::new();
    for id in 0..options.clients {
        let client = block_on(Client::connect(fabric, addr, config.clone()))
            .map_err(|error| format!("client {id} cannot connect to {addr}: {error}"))?;
        workers.push(Worker::new(id, client));
    }
    println!("{} clients connected to {addr}", workers.len());

    let (phases, mut problems) = run_phases(&mut workers, &dataset, options);
    for worker in workers {
        block_on(worker.close(&mut problems));
    }

    report::print_problems(&problems);
    // Again, where it is not scrolled away.
    warn_of_left_out(&dataset);
    if let Some(path) = &options.json {
        fs::write(path, format!("{:#}\n", report::json(options, &phases, &problems)))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(problems.errors() == 0 && problems.mismatches() == 0)
}

fn run_phases<T>(workers: &mut [Worker<T>], dataset: &Dataset, options: &Options) -> (Vec<Phase>, Problems)
where
    T: ThreadTrack + Track<Delivery: Lossless + InOrder>,
{
    let mix = Mix { operations: options.operations, read_share: options.read_share, skew: options.skew };
    let (mut phases, mut problems) = (Vec::new(), Problems::default());
    report::print_head();
    for step in Step::ALL {
        let mut phase = step.run(workers, dataset, &mix);
        report::print_phase(&phase);
        problems.merge(std::mem::take(&mut phase.problems));
        phases.push(phase);
        // What a phase left undone, the next would take for a mismatch.
        if problems.errors() > 0 {
            break;
        }
    }
    (phases, problems)
}

fn read_dataset(options: &Options, prefix: &str, longest: usize) -> Result<Dataset, Box<dyn Error>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = options.load.as_deref().unwrap_or(repository);
    let mut dataset = Dataset::read(root, prefix, longest).map_err(|error| format!("{}: {error}", root.display()))?;
    let files = dataset.items.len();
    if options.load.is_none() {
        dataset.fill_up(prefix);
    }
    if dataset.items.is_empty() {
        return Err(format!("{}: no file to load", root.display()).into());
    }
    println!("{files} files of {}, {:.1} MiB in all", root.display(), dataset.bytes() as f64 / f64::from(1 << 20));
    for what in &dataset.made_up {
        println!("  with {what}, made up because no file is like that");
    }
    warn_of_left_out(&dataset);
    Ok(dataset)
}

fn warn_of_left_out(dataset: &Dataset) {
    for (path, why) in &dataset.left_out {
        eprintln!("NOT LOADED: {}: {why}", path.display());
    }
}
