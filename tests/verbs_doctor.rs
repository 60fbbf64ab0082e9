//! `trespass doctor` where there is RDMA.
#![cfg(all(feature = "verbs", feature = "cli"))]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

const PROGRAM: &str = env!("CARGO_BIN_EXE_trespass");

/// There is one network: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn doctor(args: &[&str]) -> Output {
    Command::new(PROGRAM).arg("doctor").args(args).output().expect("the program")
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn own_network() -> bool {
    let own = Path::new("/sys/class/net/veth0").exists();
    if !own {
        eprintln!("SKIPPED: this machine has devices of its own, and they are not ours to change");
    }
    own
}

#[test]
fn tracks_work_and_an_echo_shows_it() {
    needs_rdma!();
    let _alone = alone();
    let local = rdma::addresses().0.to_string();
    let output = doctor(&["--local", &local]);
    let said = said(&output);
    eprintln!("{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
    for part in ["echo of 1 bytes: 20 round trips", "echo of 16384 bytes: ", &local, "Tracks work here"] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    for device in std::fs::read_dir("/sys/class/infiniband").expect("devices") {
        let name = device.expect("a device").file_name().into_string().expect("a name");
        assert!(said.contains(&format!("{name}, port 1")), "{name} is not in\n{said}");
    }
}

#[test]
fn machines_are_told_the_same() {
    needs_rdma!();
    let _alone = alone();
    let local = rdma::addresses().1.to_string();
    let output = doctor(&["--json", "--local", &local]);
    assert_eq!(output.status.code(), Some(0));
    let whole: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&whole["works"], &whole["built_with_verbs"]), (&true.into(), &true.into()));
    assert_eq!(whole["choice"]["address"], local.as_str());
    let chosen =
        whole["devices"].as_array().expect("devices").iter().find(|device| device["name"] == whole["choice"]["device"]);
    assert_eq!(chosen.expect("the chosen device")["ports"][0]["state"], "active");
    let echoes = whole["echo"].as_array().expect("echoes");
    let sizes: Vec<_> = echoes.iter().map(|echo| echo["bytes"].as_u64().expect("a size")).collect();
    assert_eq!(sizes, [1, 64, 1024, 16384]);
    assert!(echoes.iter().all(|echo| echo["median_us"].as_f64().is_some_and(|time| time > 0.0)));
}

#[test]
fn what_is_asked_for_and_is_not_there_is_told() {
    needs_rdma!();
    let _alone = alone();
    for (args, part) in [
        (["--local", "203.0.113.7"], "no RDMA device has 203.0.113.7"),
        (["--device", "nonesuch0"], "not the one asked for"),
    ] {
        let output = doctor(&args);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

#[test]
fn a_port_that_is_down_comes_with_the_line_that_mends_it() {
    needs_rdma!();
    let _alone = alone();
    if !own_network() {
        return;
    }
    let ip = |args: &str| rdma::run(Command::new("ip").args(args.split(' ')));
    let (local, _) = rdma::addresses();
    let found = said(&doctor(&["--json", "--local", &local.to_string()]));
    let found: Value = serde_json::from_str(&found).expect("JSON");
    let device = found["choice"]["device"].as_str().expect("a device").to_owned();
    ip("link set veth0 down");
    let output = doctor(&["--device", &device]);
    ip("link set veth0 up");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("MISSING  {device}, port 1: down")) && said.contains("ip link set veth0 up"),
        "{said}"
    );
    // As it was, for the others.
    let deadline = Instant::now() + Duration::from_secs(30);
    while doctor(&["--local", &local.to_string()]).status.code() != Some(0) {
        assert!(Instant::now() < deadline, "the link is up again, and tracks do not work");
    }
}

#[test]
fn too_little_locked_memory_comes_with_the_line_that_mends_it() {
    needs_rdma!();
    let _alone = alone();
    if !own_network() {
        return;
    }
    // The limit does not bind root.
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
        .args(["prlimit", "--memlock=65536", PROGRAM, "doctor", "--local", &rdma::addresses().0.to_string()])
        .output()
        .expect("the program");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "locked memory: 64 KiB, and a fabric of the default size begins with 4 MiB",
        "ulimit -l unlimited",
        "MISSING  echo",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}
