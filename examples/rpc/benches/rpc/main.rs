//! The program that `scripts/bench-verbs` measures for its part `rpc`: one end of calls, over verbs, or of gRPC over TCP between the same
//! addresses.
#![forbid(unsafe_code)]

mod grpc;
mod options;
mod rpc;

use std::error::Error;
use std::time::{Duration, Instant};

use options::{Options, Over, Side};

fn main() -> Result<(), Box<dyn Error>> {
    let Some(options) = Options::from_args()? else {
        println!("nothing to do: scripts/bench-verbs runs this, with two ends\n{}", options::USAGE);
        return Ok(());
    };
    match (options.over, options.side) {
        (Over::Rpc, Side::Server) => rpc::serve(&options),
        (Over::Rpc, Side::Client) => rpc::call(&options),
        (Over::Grpc, Side::Server) => grpc::serve(&options),
        (Over::Grpc, Side::Client) => grpc::call(&options),
    }
}

/// What a client measured, as one line of JSON.
fn report(calls: u64, elapsed: Duration, mut round_trips: Vec<u64>) {
    round_trips.sort_unstable();
    let median = round_trips.get(round_trips.len() / 2).copied().unwrap_or(0);
    println!("{{\"calls\": {calls}, \"elapsed_ns\": {}, \"median_ns\": {median}}}", elapsed.as_nanos());
}

/// How many calls each of those that go on at once makes.
fn share(options: &Options) -> u64 {
    options.count.div_ceil(options.under_way)
}

fn nanos(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}
