//! `trespass doctor`: what this machine has for RDMA, what it lacks and what mends that, and whether tracks work.

use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;

mod report;
mod system;
#[cfg(feature = "verbs")]
mod tracks;

use report::Report;

/// Look at libraries, kernel, devices and limits, say what is missing and what mends it, and echo messages through a real
/// track
///
/// The exit status is 0 when tracks work, and 1 when they do not. The lines that mend are for Debian; they change
/// nothing unless you run them.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The device to look at, by name [default: the one that a fabric takes by default]
    #[arg(long, value_name = "NAME")]
    device: Option<String>,

    /// The local address to use, and so the device that has it
    #[arg(long, value_name = "IP")]
    local: Option<IpAddr>,

    /// How long the echo may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    let mut report = Report::new();
    system::look(&mut report);
    look_at_tracks(options, &mut report);
    let text = if options.json { report.json() } else { report.text() };
    // Whoever stops reading has read enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    if report.works() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

#[cfg(feature = "verbs")]
fn look_at_tracks(options: &Options, report: &mut Report) {
    tracks::look(options, report);
}

#[cfg(not(feature = "verbs"))]
fn look_at_tracks(_options: &Options, report: &mut Report) {
    system::devices(report);
    report.section("tracks");
    report.missing(
        "verbs",
        "this program was built without them, so it cannot try a track",
        &["apt-get install cmake make libclang-dev", "cargo build --release --features cli,verbs --bin trespass"],
    );
}
