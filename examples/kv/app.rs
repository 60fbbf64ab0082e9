//! The program, whatever the fabric: a server, clients, or both.

use std::cell::Cell;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

use futures_executor::block_on;
use trespass::carriers::MessageConfig;
use trespass::core::{InOrder, Lossless, ThreadFabric, Track};

use crate::dataset::Dataset;
use crate::means::Means;
use crate::options::{GetPath, Options};
use crate::report;
use crate::store::{ByMessage, Client, Gets, Server, ServerConfig};
use crate::tally::Problems;
use crate::worker::Worker;
use crate::workload::{Mix, Phase, Step};
use crate::ycsb::{self, Plan, Records, Run};

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
pub(crate) fn run<F, M>(fabric: &F, means: &M, place: Place<F::Addr>, options: &Options) -> Result<bool, Box<dyn Error>>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
    M: Means<F>,
{
    let start = |listen: &F::Addr, alone| {
        let config = ServerConfig { alone, ..ServerConfig::default() };
        let shelf = means.shelf(fabric, config.max_connections)?;
        Server::start_with(fabric, listen, config, shelf)
    };
    match place {
        Place::Server { listen } => {
            let server = start(&listen, true)?;
            announce(server.addr())?;
            server.wait()?;
            Ok(true)
        }
        Place::Clients { connect } => run_clients(fabric, means, &connect, options),
        Place::Both { listen, connect } => {
            let server = start(&listen, false)?;
            run_clients(fabric, means, connect.as_ref().unwrap_or(server.addr()), options)
        }
    }
}

/// The line that another program waits for.
fn announce(addr: &impl std::fmt::Display) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "listening on {addr}")?;
    out.flush()
}

fn run_clients<F, M>(fabric: &F, means: &M, addr: &F::Addr, options: &Options) -> Result<bool, Box<dyn Error>>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
    M: Means<F>,
{
    // Keys of this run alone: runs at the same time share a server without mistaking each other's updates for faults.
    let prefix = format!("{:08x}/", rand::random::<u32>());
    let crew = Crew { fabric, addr, clients: options.clients, hired: Cell::new(0) };
    let mut problems = Problems::default();
    let (mut phases, mut left_out) = (Vec::new(), None);
    if options.files() {
        let dataset = read_dataset(options, &prefix, Client::<F::Track>::longest_value(&MessageConfig::default()))?;
        phases = run_files(&crew, &dataset, options, &mut problems)?;
        left_out = Some(dataset);
    }
    let mut runs = Vec::new();
    // What was left undone would be taken for a mismatch.
    if problems.errors() == 0 && !options.workloads().is_empty() {
        runs = run_workloads(&crew, means, &prefix, options, &mut problems)?;
    }

    report::print_problems(&problems);
    // Again, where it is not scrolled away.
    left_out.iter().for_each(warn_of_left_out);
    if let Some(path) = &options.json {
        fs::write(path, format!("{:#}\n", report::json(options, &phases, &runs, &problems)))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(problems.errors() == 0 && problems.mismatches() == 0)
}

/// Where clients come from.
struct Crew<'a, F: ThreadFabric> {
    fabric: &'a F,
    addr: &'a F::Addr,
    clients: u32,
    /// How many there were before: no two say the same of who wrote a value.
    hired: Cell<u32>,
}

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Crew<'_, F> {
    fn hire<G: Gets>(&self, mut gets: impl FnMut() -> G) -> Result<Vec<Worker<F::Track, G>>, String> {
        let config = MessageConfig::default();
        let mut workers = Vec::new();
        for id in 0..self.clients {
            let client = block_on(Client::open(self.fabric, self.addr, config.clone(), gets()))
                .map_err(|error| format!("client {id} cannot connect to {}: {error}", self.addr))?;
            let writer = self.hired.get();
            self.hired.set(writer + 1);
            workers.push(Worker::new(id, writer, client));
        }
        Ok(workers)
    }
}

fn dismiss<T, G>(workers: Vec<Worker<T, G>>, problems: &mut Problems)
where
    T: Track<Delivery: Lossless + InOrder>,
    G: Gets,
{
    workers.into_iter().for_each(|worker| block_on(worker.close(problems)));
}

fn run_files<F>(
    crew: &Crew<'_, F>,
    dataset: &Dataset,
    options: &Options,
    problems: &mut Problems,
) -> Result<Vec<Phase>, String>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let mut workers = crew.hire(|| ByMessage)?;
    println!("{} clients connected to {}", workers.len(), crew.addr);
    let mix = Mix { operations: options.operations, read_share: options.read_share, skew: options.skew };
    let mut phases = Vec::new();
    report::print_head();
    for step in Step::ALL {
        let mut phase = step.run(&mut workers, dataset, &mix);
        report::print_phase(&phase);
        problems.merge(std::mem::take(&mut phase.measured.problems));
        phases.push(phase);
        // What a phase left undone, the next would take for a mismatch.
        if problems.errors() > 0 {
            break;
        }
    }
    dismiss(workers, problems);
    Ok(phases)
}

/// Each workload by each way to get values, one after the other on the same records.
fn run_workloads<F, M>(
    crew: &Crew<'_, F>,
    means: &M,
    prefix: &str,
    options: &Options,
    problems: &mut Problems,
) -> Result<Vec<(GetPath, Run)>, String>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
    M: Means<F>,
{
    let wanted = |path| options.get.is_none_or(|get| get == path);
    let reads = wanted(GetPath::OneSided) && M::READS;
    if !reads && options.get == Some(GetPath::OneSided) {
        return Err("this fabric has no memory to be read: --get message".into());
    }
    let records = Records::new(prefix, options.value_bytes as usize);
    let mut loaders = crew.hire(|| ByMessage)?;
    let mut loaded = ycsb::load(&mut loaders, &records, options.records);
    problems.merge(std::mem::take(&mut loaded.problems));
    dismiss(loaders, problems);
    report::print_workloads_head(options, &loaded);

    let mut runs = Vec::new();
    for workload in options.workloads() {
        let plan = Plan {
            workload: *workload,
            operations: options.workload_operations,
            batch: options.batch as usize,
            skew: options.skew,
        };
        if wanted(GetPath::Message) {
            let run = run_workload(crew, || ByMessage, &records, plan, problems)?;
            report::print_run(GetPath::Message, &run);
            runs.push((GetPath::Message, run));
        }
        if reads {
            let run = run_workload(crew, || means.gets(crew.fabric), &records, plan, problems)?;
            report::print_run(GetPath::OneSided, &run);
            runs.push((GetPath::OneSided, run));
        }
        if problems.errors() > 0 {
            break;
        }
    }
    Ok(runs)
}

fn run_workload<F, G>(
    crew: &Crew<'_, F>,
    gets: impl FnMut() -> G,
    records: &Records,
    plan: Plan,
    problems: &mut Problems,
) -> Result<Run, String>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
    G: Gets + Send,
{
    let mut workers = crew.hire(gets)?;
    let mut run = ycsb::run_workload(&mut workers, records, plan);
    dismiss(workers, problems);
    problems.merge(std::mem::take(&mut run.measured.problems));
    Ok(run)
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
