//! Calls between two ends: both in this process, or one here and one elsewhere. See the README beside this package.
#![forbid(unsafe_code)]

mod ask;

use std::error::Error;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use trespass::core::{InOrder, Lossless, ThreadFabric, Track, wait};
use trespass_example_rpc::{Channel, RpcServer, ServeConfig, arith};

/// A service of numbers over RDMA, and a client that calls all of its methods, checks what they say, and counts.
#[derive(Debug, Parser)]
#[command(name = "rpc")]
struct Options {
    /// What to run on: in process, or real RDMA
    #[arg(long, value_enum, default_value_t = Backend::Mock)]
    fabric: Backend,

    /// Be the server, at this address of an RDMA device, until standard input ends (verbs)
    #[arg(long, value_name = "ADDR", conflicts_with = "connect")]
    listen: Option<String>,

    /// Be the client of the server at this address (verbs)
    #[arg(long, value_name = "ADDR")]
    connect: Option<String>,

    /// The local address whose RDMA device the client uses (verbs)
    #[arg(long, value_name = "IP", requires = "connect")]
    #[cfg_attr(not(feature = "verbs"), allow(dead_code, reason = "the mock has no devices"))]
    local: Option<IpAddr>,

    /// How many calls to count, of all threads together
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    calls: u64,

    /// How many threads call at once, all on one connection
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// In this process, both ends
    Mock,
    /// Real RDMA
    Verbs,
}

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.fabric {
        Backend::Mock => in_process(&options),
        Backend::Verbs => between_processes(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rpc: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "mock")]
fn in_process(options: &Options) -> Outcome {
    if options.listen.is_some() || options.connect.is_some() {
        return Err("the mock is in one process: --listen and --connect take --fabric verbs".into());
    }
    // The one line that names a fabric.
    let fabric = trespass::mock::MockFabric::new();
    let mut server = server(&fabric, &"server".parse()?)?;
    let (addr, handle) = (server.local(), server.handle());
    let serving = std::thread::spawn(move || wait(server.run()).map_err(|error| error.to_string()));
    let asked = ask::ask(&Channel::new(fabric, addr, ask::config()), options.calls, options.threads);
    handle.drain(GOODBYES);
    let drained = serving.join().map_err(|_| "the server panicked")??;
    asked?;
    ended(&drained.cut_off)
}

#[cfg(not(feature = "mock"))]
fn in_process(_: &Options) -> Outcome {
    Err("built without the mock: build with it, or give --fabric verbs and --listen or --connect".into())
}

#[cfg(feature = "verbs")]
fn between_processes(options: &Options) -> Outcome {
    use std::net::SocketAddr;
    use trespass::verbs::{VerbsConfig, VerbsFabric};

    if let Some(listen) = &options.listen {
        let addr: SocketAddr = listen.parse()?;
        // And the other line.
        let fabric = VerbsFabric::open(VerbsConfig::default().with_local(addr.ip()))?;
        return serve(&fabric, &addr);
    }
    let addr: SocketAddr = options.connect.as_ref().ok_or("--listen or --connect says which end this is")?.parse()?;
    let config = VerbsConfig::default();
    let fabric = VerbsFabric::open(match options.local {
        Some(ip) => config.with_local(ip),
        None => config,
    })?;
    ask::ask(&Channel::new(fabric, addr, ask::config()), options.calls, options.threads)
}

#[cfg(not(feature = "verbs"))]
fn between_processes(_: &Options) -> Outcome {
    Err("built without verbs: build with `--features verbs`".into())
}

/// How long clients have to go.
const GOODBYES: Duration = Duration::from_secs(10);

fn server<F>(
    fabric: &F,
    addr: &F::Addr,
) -> Result<RpcServer<F::Listener, impl trespass_example_rpc::Service + use<F>>, Box<dyn Error + Send + Sync>>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let listener = fabric.listen(addr)?;
    Ok(RpcServer::new(listener, fabric.timer(), arith::service(fabric.timer()), ServeConfig::default())?)
}

/// Serves until standard input ends, and then until all clients have gone.
#[cfg_attr(not(feature = "verbs"), allow(dead_code, reason = "the mock is in one process"))]
fn serve<F>(fabric: &F, addr: &F::Addr) -> Outcome
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let mut server = server(fabric, addr)?;
    let handle = server.handle();
    std::thread::spawn(move || {
        // However it ends, nobody says any more that this is to go on.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        handle.drain(GOODBYES);
    });
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", server.local())?;
    out.flush()?;
    let drained = wait(server.run())?;
    println!("served {} clients", server.stats().accepted);
    ended(&drained.cut_off)
}

fn ended<P>(cut_off: &[P]) -> Outcome {
    match cut_off.len() {
        0 => Ok(()),
        count => Err(format!("{count} clients had not gone in time").into()),
    }
}
