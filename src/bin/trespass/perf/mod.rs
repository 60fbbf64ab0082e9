//! `trespass perf`: what tracks and carriers do on the fabric that is here, in perftest's vocabulary.
//!
//! A client says what is measured (`plan`, `said`), over a connection beside that of the test; then both ends have the
//! conversation (`session`, `talk`, `memory`) over what is measured (`tracks`, `carriers`), waiting as they were told (`pace`).

#![cfg_attr(not(any(feature = "mock", feature = "verbs")), allow(dead_code, unused, reason = "nothing to run on"))]

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) mod backend;
mod carriers;
pub(crate) mod client;
pub(crate) mod error;
pub(crate) mod link;
mod memory;
pub(crate) mod options;
pub(crate) mod pace;
pub(crate) mod plan;
mod plot;
mod progress;
mod report;
pub(crate) mod said;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod stop;
mod table;
pub(crate) mod talk;
mod tracks;

#[cfg(all(test, feature = "mock"))]
mod tests;

pub(crate) use options::Options;

use backend::Backend;
use client::Client;
use error::PerfError;
use options::{Ends, Kind, Test};
use pace::Gauge;
use plan::Plan;
use progress::Watcher;
use report::Row;
use server::Server;
use talk::Measure;

pub(crate) fn run(options: &Options) -> ExitCode {
    match stop::heed_signals().map_err(|error| PerfError::Options(error.to_string())).and_then(|()| start(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where both ends are told to stop, each may hear of it from the other first.
            let error = if stop::stopped() { PerfError::Interrupted } else { error };
            eprintln!("trespass perf: {error}");
            error.exit_code()
        }
    }
}

fn start(options: &Options) -> Result<(), PerfError> {
    // A line that cannot be is refused before anybody is asked.
    let plans = if options.is_table() { Vec::new() } else { options.plans()? };
    between(&options.ends, &Perf { options, plans })
}

/// Something that a client does, whatever the fabric.
pub(crate) trait Errand {
    /// `connect` gives a client of the server, and another one if that is lost.
    fn run<B: Backend + Clone>(
        &self,
        addr: &B::Addr,
        connect: &dyn Fn() -> Result<Client<B>, PerfError>,
    ) -> Result<(), PerfError>;
}

/// Chooses the fabric, and is the end that `ends` says: the server, the client with its `errand`, or both.
pub(crate) fn between(ends: &Ends, errand: &impl Errand) -> Result<(), PerfError> {
    match ends.kind() {
        #[cfg(feature = "mock")]
        Kind::Mock => in_process(ends, errand),
        #[cfg(feature = "verbs")]
        Kind::Verbs => {
            let (device, local) = (ends.device.clone(), ends.local);
            apart(backend::verbs::Verbs { device, local, patience: ends.patience() }, ends, errand)
        }
        #[cfg(not(feature = "mock"))]
        Kind::Mock => Err(PerfError::Options("built without the mock: build with `--features cli,mock`".into())),
        #[cfg(not(feature = "verbs"))]
        Kind::Verbs => Err(PerfError::Options(
            "built without verbs: build with `--features cli,verbs`; or leave out --listen and --connect, to measure in process"
                .into(),
        )),
    }
}

/// A server on a thread, and the client here.
#[cfg(feature = "mock")]
fn in_process(ends: &Ends, errand: &impl Errand) -> Result<(), PerfError> {
    if ends.listen.is_some() || ends.connect.is_some() {
        return Err(PerfError::Options("the mock is in process: --listen and --connect are for --fabric verbs".into()));
    }
    let backend = backend::mock::Mock::new(ends.patience());
    let addr = backend::mock::addr("perf")?;
    let mut server = Server::listen(backend.clone(), &addr, ends.patience())?;
    // Serves until the process ends, which does not wait for it.
    std::thread::Builder::new()
        .name("server".into())
        .spawn(move || server.serve(false, &mut std::io::sink()))
        .map_err(|error| PerfError::Options(error.to_string()))?;
    errand.run(&addr, &|| Client::connect(backend.clone(), &addr, ends.patience()))
}

#[cfg_attr(not(feature = "verbs"), allow(dead_code, reason = "there is nothing but this process then"))]
fn apart<B: Backend + Clone>(backend: B, ends: &Ends, errand: &impl Errand) -> Result<(), PerfError> {
    let address = |text: &str| {
        text.parse::<B::Addr>().map_err(|_| PerfError::Options(format!("`{text}` is not an address of this fabric")))
    };
    match (&ends.listen, &ends.connect) {
        (Some(listen), _) => {
            let mut server = Server::listen(backend, &address(listen)?, ends.patience())?;
            let mut out = std::io::stdout();
            // The line that another program waits for.
            let _ = writeln!(out, "listening on {}", server.local());
            match server.serve(ends.once, &mut out) {
                // How a server ends.
                Err(PerfError::Interrupted) => Ok(()),
                ended => ended,
            }
        }
        (None, Some(connect)) => {
            let addr = address(connect)?;
            errand.run(&addr, &|| Client::connect(backend.clone(), &addr, ends.patience()))
        }
        (None, None) => Err(PerfError::Options("this fabric needs --listen ADDR or --connect ADDR".into())),
    }
}

/// The client of `trespass perf`.
struct Perf<'a> {
    options: &'a Options,
    plans: Vec<Plan>,
}

impl Errand for Perf<'_> {
    fn run<B: Backend + Clone>(
        &self,
        _: &B::Addr,
        connect: &dyn Fn() -> Result<Client<B>, PerfError>,
    ) -> Result<(), PerfError> {
        match self.options.is_table() {
            true => self.table(connect),
            false => self.sweep(connect()?),
        }
    }
}

impl Perf<'_> {
    /// One test, or one for each size.
    fn sweep<B: Backend>(&self, mut client: Client<B>) -> Result<(), PerfError> {
        let mut rows = Vec::new();
        let shown = !self.options.json;
        if let Some(plan) = self.plans.first().filter(|_| shown) {
            say(&report::head(plan));
        }
        for plan in &self.plans {
            match measured(&mut client, plan, self.options.duration()) {
                Ok(row) => rows.push(row),
                // A sweep ends with what there is room for.
                Err(error @ PerfError::TooLong { .. }) if !rows.is_empty() => {
                    eprintln!("trespass perf: {error}; the sweep ends here");
                    break;
                }
                Err(error) => return Err(error),
            }
            if let Some(row) = rows.last().filter(|_| shown) {
                say(&report::line(row));
            }
        }
        if !shown {
            let test = if self.options.test == Test::Bw { "bw" } else { "lat" };
            let tests: Value = rows.iter().map(report::row_json).collect();
            let more = json!({ "test": test, "tests": tests });
            say(report::json(B::NAME, client.device(), more).trim_end());
        }
        if let Some(path) = &self.options.plot {
            self.draw(path, &rows, B::NAME)?;
        }
        client.close();
        Ok(())
    }

    fn draw(&self, path: &Path, rows: &[Row], fabric: &str) -> Result<(), PerfError> {
        let failed = |why: String| PerfError::File { path: path.display().to_string(), why };
        let what = if self.options.test == Test::Bw { "bandwidth" } else { "latency" };
        let title = format!("{} on {fabric}: {what}", self.options.layer().name());
        let svg = plot::svg(&title, rows).map_err(failed)?;
        std::fs::write(path, svg).map_err(|error| failed(error.to_string()))
    }

    fn table<B: Backend>(&self, connect: &dyn Fn() -> Result<Client<B>, PerfError>) -> Result<(), PerfError> {
        let (size, turns) = (self.options.size(), self.options.turns);
        let mut client = Some(connect()?);
        let entries = table::measure(&plan::Layer::ALL, turns, |layer, work| {
            let plan = self.options.plan(layer, work, size)?;
            let mut mine = match client.take() {
                Some(client) => client,
                None => connect()?,
            };
            let row = measured(&mut mine, &plan, self.options.duration())?;
            // After a failure the server wants another one.
            client = Some(mine);
            Ok(row)
        })?;
        match self.options.json {
            false => say(&table::text(&entries, size, turns)),
            true => {
                let device = client.as_ref().and_then(Client::device);
                say(report::json(B::NAME, device, table::json(&entries, size, turns)).trim_end());
            }
        }
        if let Some(client) = client {
            client.close();
        }
        Ok(())
    }
}

/// One test, watched.
fn measured<B: Backend>(client: &mut Client<B>, plan: &Plan, duration: Option<Duration>) -> Result<Row, PerfError> {
    let gauge = Arc::new(Gauge::default());
    let watcher = Watcher::start(&gauge, plan, duration).map_err(|error| PerfError::Options(error.to_string()))?;
    let tested = client.test(plan, &gauge, &mut Measure);
    let peak = watcher.finish();
    let (tally, server) = tested?;
    Ok(Row::new(plan, &tally, &server, peak))
}

/// A line for whoever reads. One who has stopped has read enough.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
