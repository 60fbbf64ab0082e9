//! What this process holds, so that a test can show that nothing is left behind.
#![allow(dead_code, reason = "each test uses its part")]

use std::process::Command;
use std::time::{Duration, Instant};

use super::rdma;

/// What this process holds of the devices, as the kernel counts it, and of the system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holdings {
    /// Queue pairs, memory regions, completion queues and connection identifiers, a line for each device.
    rdma: String,
    /// What each descriptor is of, without the numbers that make each one different.
    descriptors: Vec<String>,
}

impl Holdings {
    pub(crate) fn now() -> Self {
        let links = std::fs::read_dir("/proc/self/fd").expect("the descriptors");
        let target = |link: std::io::Result<std::fs::DirEntry>| std::fs::read_link(link.ok()?.path()).ok();
        let mut descriptors: Vec<_> = links
            .filter_map(target)
            .map(|path| path.display().to_string().replace(|c: char| c.is_ascii_digit(), ""))
            .collect();
        descriptors.sort();
        Self { rdma: rdma::run(Command::new("rdma").args(["resource", "show"])), descriptors }
    }

    /// The driver tears down in its own time: what it holds now, once that is `self` or time is up.
    pub(crate) fn or_latest(&self) -> Self {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let now = Self::now();
            if now == *self || Instant::now() > deadline {
                return now;
            }
            std::thread::yield_now();
        }
    }
}

/// The resident memory of this process, in KiB. Without huge pages: the kernel makes one of many small ones, most of them
/// never touched, whenever it likes.
pub(crate) fn resident() -> usize {
    resident_of(std::process::id())
}

/// The same, of another process.
pub(crate) fn resident_of(process: u32) -> usize {
    let of = |file: &str, name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_whitespace().nth(1).and_then(|number| number.parse::<usize>().ok())
    };
    let resident = of("status", "VmRSS:").expect("the memory of a process");
    // Not every kernel tells of them, and those that do not have none.
    resident.saturating_sub(of("smaps_rollup", "AnonHugePages:").unwrap_or(0))
}
