//! Networks that lose, delay and reorder, where there is one to spoil.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::rdma;

/// Why the links here are not to be spoilt, if so.
pub(crate) fn foreign() -> Option<String> {
    // The network that scripts/with-rdma makes, to be changed at will.
    let owns = Path::new("/sys/class/net/veth0").exists();
    (!owns).then(|| "this machine has devices of its own, and their links are not ours to spoil".to_owned())
}

/// Both links treat packets so until this is dropped.
pub(crate) struct Spoilt;

impl Spoilt {
    pub(crate) fn links(how: &str) -> Self {
        for link in ["veth0", "veth1"] {
            tc(&format!("qdisc add dev {link} root netem {how}"));
        }
        Self
    }

    /// From now on `link` treats them so.
    pub(crate) fn change(&self, link: &str, how: &str) {
        tc(&format!("qdisc change dev {link} root netem {how}"));
    }

    /// What was done to packets, as the kernel tells it.
    pub(crate) fn told() -> String {
        rdma::run(Command::new("tc").args(["-s", "qdisc", "show", "dev", "veth0"]))
    }
}

impl Drop for Spoilt {
    fn drop(&mut self) {
        for link in ["veth0", "veth1"] {
            tc(&format!("qdisc del dev {link} root"));
        }
    }
}

fn tc(args: &str) {
    rdma::run(Command::new("tc").args(args.split(' ')));
}

/// A share in links that are spoilt for as long as anybody has one.
pub(crate) struct Share;

static SHARES: Mutex<(usize, Option<Spoilt>)> = Mutex::new((0, None));

impl Share {
    /// The first one spoils the links, as `how` says; others have to say the same.
    pub(crate) fn of(how: &str) -> Self {
        let mut shares = SHARES.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.0 == 0 {
            shares.1 = Some(Spoilt::links(how));
        }
        shares.0 += 1;
        Self
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut shares = SHARES.lock().unwrap_or_else(PoisonError::into_inner);
        shares.0 -= 1;
        if shares.0 == 0 {
            shares.1 = None;
        }
    }
}
