//! Five nodes as processes, with no RDMA: on the fabric over TCP of `examples/custom_track`. See `support/processes.rs`.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/history.rs"]
mod history;
#[path = "support/processes.rs"]
mod processes;
#[path = "../../custom_track/tcp/mod.rs"]
#[allow(dead_code, reason = "the conformance kit uses the rest")]
mod tcp;

use std::net::{IpAddr, Ipv4Addr};

#[test]
fn nodes_die_are_cut_off_and_return_and_nothing_acknowledged_is_lost() {
    let fabric = tcp::TcpFabric::open(tcp::TcpConfig::default()).expect("the defaults will do");
    processes::exercise("processes", &fabric, &[(IpAddr::V4(Ipv4Addr::LOCALHOST), vec!["--fabric", "tcp"])]);
}
