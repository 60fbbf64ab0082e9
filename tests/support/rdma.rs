//! Where there is RDMA to test with, and what to do where there is none.
#![allow(dead_code, unused_macros, unused_imports, unexpected_cfgs, reason = "each test uses its part")]

use std::net::IpAddr;

/// Why there is nothing to test with here, if so. With `TRESPASS_REQUIRE_RDMA=1` that is a failure instead.
pub(crate) fn unavailable() -> Option<String> {
    if std::env::var_os("TRESPASS_RDMA_ADDRS").is_some() {
        return None;
    }
    let why = "no RDMA device here: run it by scripts/with-rdma";
    assert!(std::env::var_os("TRESPASS_REQUIRE_RDMA").is_none_or(|value| value != "1"), "{why}");
    Some(why.to_owned())
}

/// Two addresses of RDMA devices that reach each other; the same twice where there is only one.
pub(crate) fn addresses() -> (IpAddr, IpAddr) {
    let addrs = std::env::var("TRESPASS_RDMA_ADDRS").unwrap_or_default();
    let mut addrs = addrs.split_whitespace().map(|addr| addr.parse().expect("TRESPASS_RDMA_ADDRS: IP addresses"));
    let first = addrs.next().expect("TRESPASS_RDMA_ADDRS: at least one address");
    (first, addrs.next().unwrap_or(first))
}

/// Skips, loudly, where there is no RDMA.
macro_rules! needs_rdma {
    () => {
        if let Some(why) = rdma::unavailable() {
            eprintln!("SKIPPED: {why}");
            return;
        }
    };
}
pub(crate) use needs_rdma;

/// A fabric on the device that has `ip`.
#[cfg(feature = "verbs")]
pub(crate) fn fabric(ip: IpAddr, config: trespass_verbs::VerbsConfig) -> trespass_verbs::VerbsFabric {
    trespass_verbs::VerbsFabric::open(config.with_local(ip))
        .unwrap_or_else(|error| panic!("the device of {ip}: {error}"))
}

/// Two tracks, joined: the one that connected and the one that accepted.
#[cfg(feature = "verbs")]
pub(crate) fn pair(
    config: trespass_verbs::VerbsConfig,
) -> (trespass_verbs::ReliableTrack, trespass_verbs::ReliableTrack) {
    use trespass_core::{Fabric, Incoming, Listener, ListenerExt};
    let (client, server) = addresses();
    let server = fabric(server, config.clone());
    let mut listener = server.listen(&std::net::SocketAddr::new(addresses().1, 0)).expect("a listener");
    let connecting = fabric(client, config).connect(&listener.local());
    futures_executor::block_on(async {
        let accepted = listener.incoming().await.expect("a request").accept().await;
        match (connecting.await, accepted) {
            (Ok(connected), Ok(accepted)) => (connected, accepted),
            // One end often knows better than the other why not.
            (connected, accepted) => panic!("connecting: {:?}; accepting: {:?}", connected.err(), accepted.err()),
        }
    })
}

/// Runs a program and gives its output; fails, with that, when it fails.
pub(crate) fn run(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}
