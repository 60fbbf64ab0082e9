//! `trespass perf` and `trespass ping` as processes, on the mock; `verbs_perf` runs them on real verbs. What is measured is not looked
//! at: on a machine that does much else it is anything.
#![cfg(all(feature = "cli", feature = "mock"))]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn trespass(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trespass")).args(args).output().expect("the program")
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).expect("text")
}

/// What `args` print, as JSON.
fn json(args: &[&str]) -> Value {
    let output = trespass(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_line_for_each_size_in_perftests_columns() {
    let output = trespass(&["perf", "lat", "-e", "-a", "-s", "1K", "-n", "50", "-w", "5"]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let said = text(&output.stdout);
    let lines: Vec<Vec<_>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..2], ["track,", "latency:"]);
    let columns = ["#bytes", "#iterations", "t_min[us]", "t_max[us]", "t_typical[us]", "t_avg[us]", "t_stdev[us]"];
    assert_eq!(lines[1][..7], columns);
    let sizes: Vec<_> = lines[2..].iter().map(|line| line[0].parse::<usize>().expect("a size")).collect();
    assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]);
    for line in &lines[2..] {
        assert_eq!((line[1], line.len()), ("50", lines[1].len()), "{line:?}");
    }
}

#[test]
fn machines_are_told_by_a_schema() {
    let whole =
        json(&["perf", "bw", "--layer", "message", "-e", "-b", "-n", "60", "-w", "4", "-t", "8", "-l", "2", "--json"]);
    assert_eq!(
        (&whole["schema"], &whole["fabric"], &whole["test"]),
        (&"trespass-perf/1".into(), &"mock".into(), &"bw".into())
    );
    let test = &whole["tests"][0];
    for (name, value) in [
        ("layer", Value::from("message")),
        ("work", "both_ways".into()),
        ("wait", "events".into()),
        ("bytes", 64.into()),
        ("depth", 8.into()),
        ("post_list", 2.into()),
        ("slot_bytes", 16384.into()),
        ("warmup", 4.into()),
        ("iterations", 120.into()),
        ("sent", 64.into()),
        ("received", 64.into()),
        ("lost", 0.into()),
        ("latency", Value::Null),
    ] {
        assert_eq!(test[name], value, "{name}");
    }
    assert!(test["bandwidth"]["messages_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{test}");
}

#[test]
fn every_layer_stands_in_the_table_or_says_why_not() {
    let whole = json(&["perf", "layers", "-e", "-n", "30", "-w", "3", "--turns", "2", "--json"]);
    let layers = whole["layers"].as_array().expect("layers");
    let names: Vec<_> = layers.iter().map(|layer| layer["layer"].as_str().expect("a name")).collect();
    let all = ["track", "shared", "datagrams", "message", "rendezvous", "stream", "datagram-carrier"];
    assert_eq!(names[..7], all);
    assert_eq!(names[7..], ["read", "write", "add", "swap"]);
    for layer in layers {
        match layer["layer"] == "shared" {
            true => assert!(layer["why_not"].as_str().is_some_and(|why| why.contains("share their queues"))),
            false => assert!(layer["medians"]["t_typical_us"].as_f64().is_some_and(|time| time > 0.0), "{layer}"),
        }
    }
    let said = text(&trespass(&["perf", "--layer", "all", "-e", "-n", "30", "--turns", "1"]).stdout);
    assert!(names.iter().all(|name| said.lines().any(|line| line.split_whitespace().next() == Some(name))), "{said}");
}

#[test]
fn a_sweep_is_drawn_as_svg() {
    for (test, unit) in [("lat", "µs"), ("bw", "MiB/s")] {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("perf-{test}.svg"));
        let file = path.to_str().expect("a path");
        let output = trespass(&["perf", test, "-e", "-a", "-s", "256", "-n", "30", "--plot", file]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let svg = std::fs::read_to_string(&path).expect("the file");
        let picture = roxmltree::Document::parse(&svg).expect("well-formed");
        let root = picture.root_element();
        assert_eq!((root.tag_name().name(), root.tag_name().namespace()), ("svg", Some("http://www.w3.org/2000/svg")));
        // A mark for each of nine sizes on each of two curves.
        let marks =
            picture.descendants().filter(|node| node.has_tag_name((root.tag_name().namespace().unwrap(), "circle")));
        assert_eq!(marks.count(), 18);
        let words: Vec<_> = picture.descendants().filter_map(|node| node.text()).map(str::trim).collect();
        assert!(words.contains(&unit) && words.contains(&"bytes"), "{words:?}");
    }
    let nowhere = trespass(&["perf", "-e", "-a", "-s", "2", "-n", "5", "--plot", "/nonesuch/x.svg"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere.stderr).contains("/nonesuch/x.svg: "), "{}", text(&nowhere.stderr));
}

#[test]
fn a_run_by_the_clock_ends_by_itself() {
    let whole = json(&["perf", "bw", "-e", "-D", "1", "--json"]);
    let test = &whole["tests"][0];
    assert!(test["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.9), "{test}");
    assert_eq!(test["sent"], test["received"]);
}

#[test]
fn ping_tells_of_each_answer_and_of_all() {
    for carrier in ["track", "datagrams", "message", "rendezvous", "stream", "datagram-carrier"] {
        let output = trespass(&["ping", "-c", "3", "-i", "0.01", "-W", "60", "--carrier", carrier]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
        assert!(said.starts_with(&format!("PING perf ({carrier}, mock): 64 bytes\n")), "{said}");
        for part in ["64 bytes from perf: seq=2 time=", "3 sent, 3 answered, 0.0000 % lost", "rtt min/avg/max/mdev = "]
        {
            assert!(said.contains(part), "{part:?} is not in\n{said}");
        }
    }
    let whole = json(&["ping", "-f", "-c", "100", "-s", "4K", "-W", "60", "--json"]);
    for (name, value) in [("sent", 100), ("answered", 100), ("lost", 0), ("bytes", 4096)] {
        assert_eq!(whole[name], value, "{name}");
    }
}

#[test]
fn an_interruption_is_told_and_is_no_hang() {
    for (args, code) in [(&["perf", "-D", "3600"][..], 130), (&["ping", "-i", "0.01"], 0)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_trespass"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        // It has begun once it says something; ping has had an answer with its second line.
        let mut out = child.stdout.take().expect("it is piped");
        let mut said = Vec::new();
        while said.iter().filter(|byte| **byte == b'\n').count() < 2 {
            let mut byte = [0];
            assert_eq!(out.read(&mut byte).expect("text"), 1, "{}", text(&said));
            said.push(byte[0]);
        }
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
        out.read_to_end(&mut said).expect("text");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}{}", text(&said), text(&output.stderr));
        match code {
            0 => assert!(text(&said).contains("ping statistics"), "{}", text(&said)),
            _ => assert_eq!(text(&output.stderr), "trespass perf: interrupted\n"),
        }
    }
}

#[test]
fn options_that_cannot_be_are_refused() {
    for args in [
        &["perf", "-n", "0"][..],
        &["perf", "-s", "lots"],
        &["perf", "--layer", "pigeon"],
        &["perf", "throughput"],
        &["perf", "-b"],
        &["perf", "bw", "-b", "--layer", "datagrams"],
        &["perf", "-s", "1024M"],
        &["perf", "--once"],
        &["perf", "--fabric", "mock", "--connect", "there"],
        &["perf", "--fabric", "verbs"],
        &["ping", "-i", "0"],
        &["ping", "-c", "0"],
        &["ping", "--carrier", "read"],
        &["ping", "192.0.2.1:1", "--listen", "192.0.2.2:1"],
    ] {
        let output = trespass(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    for (program, part) in [("perf", "--tx-depth"), ("ping", "exit status")] {
        assert!(text(&trespass(&[program, "--help"]).stdout).contains(part), "{program}");
    }
}
