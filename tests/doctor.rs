//! `trespass doctor` as a process, on a machine without RDMA; `verbs_doctor` runs it on one that has it.
#![cfg(feature = "cli")]

use std::process::{Command, Output};

use serde_json::Value;

fn trespass(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trespass")).args(args).output().expect("the program")
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).expect("text")
}

fn skipped() -> bool {
    let devices = std::fs::read_dir("/sys/class/infiniband").map(|devices| devices.count()).unwrap_or(0);
    if devices > 0 {
        eprintln!("SKIPPED: this machine has RDMA; verbs_doctor tests it there");
    }
    devices > 0
}

#[test]
fn without_rdma_it_says_what_is_missing_and_what_mends_it() {
    if skipped() {
        return;
    }
    let output = trespass(&["doctor"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["libibverbs.so.1", "rdma link add rxe0 type rxe netdev ", "modprobe ", "Tracks do not work here"] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    if !cfg!(feature = "verbs") {
        assert!(said.contains("built without them") && said.contains("--features cli,verbs"), "{said}");
    }
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn machines_read_the_same() {
    if skipped() {
        return;
    }
    let output = trespass(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let whole: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(whole["works"], false);
    assert_eq!(whole["built_with_verbs"], cfg!(feature = "verbs"));
    let checks = whole["checks"].as_array().expect("checks");
    let said = text(&trespass(&["doctor"]).stdout);
    for check in checks {
        let (what, text) = (check["what"].as_str().expect("a name"), check["text"].as_str().expect("words"));
        assert!(["ok", "note", "missing"].contains(&check["state"].as_str().expect("a state")), "{check}");
        assert!(said.contains(&format!("{what}: {text}")), "{check} is not in\n{said}");
        for line in check["mend"].as_array().expect("lines") {
            assert!(said.contains(line.as_str().expect("a line")), "{line} is not in\n{said}");
        }
    }
    let missing = checks.iter().filter(|check| check["state"] == "missing");
    assert!(missing.clone().count() > 0);
    assert!(missing.filter(|check| check["mend"] != Value::Array(Vec::new())).count() > 0);
}

#[test]
fn options_that_cannot_be_are_refused() {
    for args in [&["doctor", "--timeout", "0"][..], &["doctor", "--local", "nowhere"], &["cure"], &[]] {
        let output = trespass(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stdout));
    }
    let help = text(&trespass(&["doctor", "--help"]).stdout);
    assert!(help.contains("exit status") && help.contains("--json"), "{help}");
}
