//! The cache on real verbs: five nodes as processes, on two devices. See `support/processes.rs`. Then a hot key, which is read one-sided,
//! also from a node that stands still, and only as long as nobody else serves it.
#![cfg(feature = "verbs")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/history.rs"]
mod history;
#[path = "support/processes.rs"]
mod processes;

use std::net::IpAddr;

use trespass::verbs::{VerbsConfig, VerbsFabric};

/// Two addresses of RDMA devices; the same twice where there is only one. `None`, loudly, where there is none.
fn addresses() -> Option<(IpAddr, IpAddr)> {
    let Ok(addrs) = std::env::var("TRESPASS_RDMA_ADDRS") else {
        let why = "no RDMA device here: run it by scripts/with-rdma";
        assert!(std::env::var_os("TRESPASS_REQUIRE_RDMA").is_none_or(|value| value != "1"), "{why}");
        eprintln!("SKIPPED: {why}");
        return None;
    };
    let mut addrs = addrs.split_whitespace().map(|addr| addr.parse().expect("TRESPASS_RDMA_ADDRS: IP addresses"));
    let first = addrs.next().expect("TRESPASS_RDMA_ADDRS: at least one address");
    Some((first, addrs.next().unwrap_or(first)))
}

fn fabric(ip: IpAddr) -> VerbsFabric {
    let config = VerbsConfig::default().with_slots(16 << 10, 32, 32).with_local(ip);
    VerbsFabric::open(config).unwrap_or_else(|error| panic!("the device of {ip}: {error}"))
}

#[test]
fn nodes_die_are_cut_off_and_return_and_nothing_acknowledged_is_lost() {
    let Some((near, far)) = addresses() else { return };
    let texts = [near, far].map(|ip| ip.to_string());
    let arguments = |text| vec!["--fabric", "verbs", "--local", text];
    let nodes = [(near, arguments(texts[0].as_str())), (far, arguments(texts[1].as_str()))];
    processes::exercise("verbs_cache", &fabric(near), &nodes);
}

#[test]
fn hot_keys_are_read_from_a_node_that_stands_still_while_nobody_else_serves_them() {
    let Some((near, far)) = addresses() else { return };
    let (text, any) = (far.to_string(), format!("{far}:0"));
    let node = (far, vec!["--fabric", "verbs", "--local", text.as_str(), "--hot", any.as_str()]);
    processes::hot("verbs_cache_hot", &fabric(near), &node);
}
