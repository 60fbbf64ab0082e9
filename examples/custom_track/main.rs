//! A fabric of one's own, over TCP, and the key-value store of `examples/kv` on it, between two processes. See the README
//! beside this file.
#![forbid(unsafe_code)]

#[path = "../kv/store/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the load of `examples/kv` uses the rest")]
mod store;
#[allow(dead_code, reason = "the conformance kit uses the rest")]
mod tcp;

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass::carriers::MessageConfig;
use trespass::core::Fabric;

use store::{Client, Server, ServerConfig};
use tcp::{TcpConfig, TcpFabric};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => both(),
        ["--serve", addr] => serve(addr),
        ["--connect", addr] => addr.parse().map_err(Into::into).and_then(talk),
        _ => Err("usage: custom_track [--serve ADDR | --connect ADDR], with an ADDR such as 127.0.0.1:7471".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("custom_track: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The server in a process of its own, the client here; then the server dies.
fn both() -> Result<(), Box<dyn Error>> {
    let mut server = Process::serve()?;
    println!("process {} serves a key-value store at {}", server.child.id(), server.addr);
    talk(server.addr)?;

    let fabric = TcpFabric::open(TcpConfig::default())?;
    let mut client = block_on(Client::connect(&fabric, &server.addr, MessageConfig::default()))?;
    server.child.kill()?;
    server.child.wait()?;
    let killed = Instant::now();
    match block_on(client.get(b"greeting")) {
        Err(error) => println!("the server was killed; seen within {:.1?}: {error}", killed.elapsed()),
        Ok(_) => return Err("a server that was killed has answered".into()),
    }
    match block_on(fabric.connect(&server.addr)) {
        Err(error) => println!("nobody listens there any more: {error}"),
        Ok(_) => return Err("connected to a server that was killed".into()),
    }
    Ok(())
}

/// The store's server, until it is killed.
fn serve(addr: &str) -> Result<(), Box<dyn Error>> {
    let fabric = TcpFabric::open(TcpConfig::default())?;
    let server = Server::start(&fabric, &addr.parse()?, ServerConfig::default())?;
    let mut out = std::io::stdout();
    writeln!(out, "{LISTENING}{}", server.addr())?;
    out.flush()?;
    server.wait()?;
    Ok(())
}

const LISTENING: &str = "listening on ";

/// The store's client: what `examples/kv` does on the mock or on verbs, with another type of fabric.
fn talk(addr: SocketAddr) -> Result<(), Box<dyn Error>> {
    let fabric = TcpFabric::open(TcpConfig::default())?;
    let config = MessageConfig::default();
    let mut client = block_on(Client::connect(&fabric, &addr, config))?;
    for len in [0, 12, 1 << 20] {
        let value = vec![b'x'; len];
        block_on(client.put(b"greeting", &value))?;
        let found = block_on(client.get(b"greeting"))?.ok_or("what was put is not there")?;
        if found[..] != value[..] {
            return Err(format!("a value of {len} bytes has come back as another").into());
        }
        println!("put and got a value of {len} bytes");
    }
    block_on(client.put(b"greeting", &[b'x'; 64]))?;
    println!("a get of 64 bytes takes {:.1?} in the median of {ROUNDS}", median_get(&mut client)?);
    block_on(client.close())?;
    Ok(())
}

const ROUNDS: usize = 2000;

fn median_get(client: &mut Client<tcp::track::TcpTrack>) -> Result<Duration, Box<dyn Error>> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        block_on(client.get(b"greeting"))?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}

/// This program again, as the server. Killed when this is dropped.
struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    fn serve() -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(["--serve", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        match line.trim().strip_prefix(LISTENING).map(str::parse) {
            Some(Ok(addr)) => Ok(Self { child, addr }),
            _ => Err("the server does not say where it listens".into()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
