//! The same on real verbs.
#![cfg(feature = "verbs")]

#[path = "support/mod.rs"]
mod support;

use std::net::{IpAddr, SocketAddr};

use support::{exercise, within};
use trespass::verbs::{VerbsConfig, VerbsFabric};

/// Two addresses of RDMA devices that reach each other; `None`, loudly, where there are none, and a failure where there must be.
fn addresses() -> Option<[IpAddr; 2]> {
    let Ok(addrs) = std::env::var("TRESPASS_RDMA_ADDRS") else {
        let required = std::env::var_os("TRESPASS_REQUIRE_RDMA").is_some_and(|value| value == "1");
        assert!(!required, "no RDMA device here: run it by scripts/with-rdma");
        eprintln!("SKIPPED: no RDMA device here: run it by scripts/with-rdma");
        return None;
    };
    let addrs: Vec<IpAddr> = addrs.split_whitespace().map(|addr| addr.parse().expect("an IP address")).collect();
    Some([addrs[0], *addrs.last().expect("at least one address")])
}

#[test]
fn tls_on_verbs() {
    let Some(addrs) = addresses() else { return };
    let [client, server] =
        addrs.map(|ip| VerbsFabric::open(VerbsConfig::default().with_local(ip)).expect("the device"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let addr = SocketAddr::new(addrs[1], 0);
    runtime.expect("a runtime").block_on(within(exercise(&client, &server, &addr)));
}
