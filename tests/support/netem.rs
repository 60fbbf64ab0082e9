//! Networks that lose, delay and reorder, where there is one to spoil.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;
use std::process::Command;

use crate::rdma;

/// Why the links here are not to be spoilt, if so.
pub(crate) fn foreign() -> Option<String> {
    // The network that scripts/with-rdma makes, to be changed at will.
    let owns = Path::new("/sys/class/net/veth0").exists();
    (!owns).then(|| "this machine has devices of its own, and their links are not ours to spoil".to_owned())
}

const LINKS: [&str; 2] = ["veth0", "veth1"];

/// Both links treat packets so until this is dropped.
pub(crate) struct Spoilt;

impl Spoilt {
    pub(crate) fn links(how: &str) -> Self {
        for link in LINKS {
            tc(&format!("qdisc add dev {link} root netem {how}"));
        }
        Self
    }

    /// From now on `link` treats them so.
    pub(crate) fn change(&self, link: &str, how: &str) {
        tc(&format!("qdisc change dev {link} root netem {how}"));
    }

    /// What was done to packets of the first link, as the kernel tells it.
    pub(crate) fn told() -> String {
        told(LINKS[0])
    }

    /// How many packets each link has dropped since it is spoilt.
    pub(crate) fn lost(&self) -> [u64; 2] {
        LINKS.map(|link| {
            let told = told(link);
            let count = told.split_once("dropped ").and_then(|(_, rest)| rest.split_once(','));
            count.and_then(|(count, _)| count.parse().ok()).unwrap_or_else(|| panic!("no count of drops: {told}"))
        })
    }
}

impl Drop for Spoilt {
    fn drop(&mut self) {
        for link in LINKS {
            tc(&format!("qdisc del dev {link} root"));
        }
    }
}

fn told(link: &str) -> String {
    rdma::run(Command::new("tc").args(["-s", "qdisc", "show", "dev", link]))
}

fn tc(args: &str) {
    rdma::run(Command::new("tc").args(args.split(' ')));
}
