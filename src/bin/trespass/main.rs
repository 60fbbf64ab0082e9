//! The program `trespass`: what helps on a machine that RDMA is to run on.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod doctor;
mod perf;
mod ping;

/// RDMA for Rust: helpers for the machine.
#[derive(Debug, Parser)]
#[command(name = "trespass", version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Doctor(doctor::Options),
    Perf(perf::Options),
    Ping(ping::Options),
}

fn main() -> ExitCode {
    match Options::parse().command {
        Command::Doctor(options) => doctor::run(&options),
        Command::Perf(options) => perf::run(&options),
        Command::Ping(options) => ping::run(&options),
    }
}
