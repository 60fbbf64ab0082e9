//! Where there is RDMA to test with, and what to do where there is none.
#![allow(dead_code)]

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
