//! The program of `examples/kv`: that it does what its options say, and that it would notice if something were wrong.
#![cfg(feature = "mock")]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;
use trespass::mock::{MockAddr, MockFabric};

#[path = "../examples/kv/app.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod app;
#[path = "../examples/kv/dataset.rs"]
mod dataset;
#[path = "../examples/kv/means.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod means;
#[path = "../examples/kv/options.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod options;
#[path = "../examples/kv/progress.rs"]
mod progress;
#[path = "../examples/kv/record.rs"]
mod record;
#[path = "../examples/kv/report.rs"]
mod report;
#[path = "../examples/kv/store/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod store;
#[path = "../examples/kv/tally.rs"]
mod tally;
#[path = "../examples/kv/worker.rs"]
mod worker;
#[path = "../examples/kv/workload.rs"]
mod workload;
#[path = "../examples/kv/ycsb.rs"]
mod ycsb;

use app::Place;
use dataset::{Dataset, Item};
use options::Options;
use record::{History, Mismatch, Stamp};
use store::{Server, ServerConfig};

fn addr() -> MockAddr {
    "kv".parse().expect("an address")
}

/// An empty directory of this test's own.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // There is something only after a run before this one.
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a directory");
    path
}

fn options(arguments: &[&str]) -> Options {
    Options::parse_from([&["kv"], arguments].concat())
}

/// The program on the mock, in one process.
fn run(fabric: &MockFabric, place: Place<MockAddr>, options: &Options) -> bool {
    let means = means::Memory::new(options, Some("table".parse().expect("an address"))).expect("a layout");
    app::run(fabric, &means, place, options).expect("runs")
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("the file is there")).expect("it is JSON")
}

#[test]
fn a_run_finds_nothing_wrong_and_says_so_in_numbers() {
    let root = directory("a_run");
    let tree = root.join("tree");
    fs::create_dir_all(tree.join("below")).unwrap();
    fs::write(tree.join("empty"), b"").unwrap();
    fs::write(tree.join("below/short"), b"short").unwrap();
    fs::write(tree.join("below/long"), vec![7; 3 << 20]).unwrap();
    let json = root.join("report.json");

    let (tree, json) = (tree.to_str().unwrap(), json.to_str().unwrap());
    let arguments = ["--operations", "300", "--clients", "3", "--read-share", "0.5", "--files-only"];
    let options = options(&[&arguments[..], &["--load", tree, "--json", json]].concat());
    assert!(run(&MockFabric::new(), Place::Both { listen: addr(), connect: None }, &options));

    let report = read_json(Path::new(json));
    assert_eq!(report["operations"], 300);
    assert_eq!(report["errors"], 0);
    assert_eq!(report["mismatches"], 0);
    assert!(report["throughput"].as_f64().unwrap() > 0.0);
    let count = |operation: &str| report[operation]["count"].as_u64().unwrap();
    assert_eq!(count("get") + count("put"), 300);
    assert!((110..=190).contains(&count("get")), "half of them are reads");
    for operation in ["get", "put"] {
        let [p50, p99, p999] = ["p50_ns", "p99_ns", "p999_ns"].map(|name| report[operation][name].as_u64().unwrap());
        assert!(0 < p50 && p50 <= p99 && p99 <= p999);
    }
    let phases = report["phases"].as_array().unwrap();
    assert_eq!(phases[0]["put"]["count"], 3, "each file is put");
    assert_eq!(phases[1]["get"]["count"], 3, "each is read back");
    assert_eq!(phases[1]["bytes"], 5 + (3 << 20));
    assert_eq!(phases[3]["delete"]["count"], 3, "each is deleted");
}

#[test]
fn workloads_by_both_ways_to_get_values() {
    let json = directory("workloads").join("report.json");
    // So many buckets that none is full.
    let arguments = ["--workload", "a,b,c,d,e,f", "--records", "500", "--buckets", "20000", "--value-bytes", "90"];
    let more = ["--workload-operations", "400", "--clients", "3", "--json", json.to_str().unwrap()];
    for batch in ["1", "7"] {
        let options = options(&[&arguments[..], &more, &["--batch", batch]].concat());
        assert!(run(&MockFabric::new(), Place::Both { listen: addr(), connect: None }, &options));

        let report = read_json(&json);
        assert_eq!((&report["errors"], &report["mismatches"]), (&0.into(), &0.into()));
        let runs = report["workloads"].as_array().unwrap();
        assert_eq!(runs.len(), 12);
        for run in runs {
            let count = |operation: &str| run[operation]["count"].as_u64().unwrap_or(0);
            let number = |name: &str| run[name].as_u64().unwrap();
            let [gets, puts, inserts, scans, modifies] = ["get", "put", "insert", "scan", "modify"].map(count);
            let name = run["workload"].as_str().unwrap();
            let share = |part: u64, of_a_hundred: u64| part.abs_diff(4 * of_a_hundred) < 60;
            match name {
                "a" => assert!(share(gets, 50) && share(puts, 50), "{run}"),
                "b" => assert!(share(gets, 95) && share(puts, 5), "{run}"),
                "c" => assert_eq!(gets, 400),
                "d" => assert!(share(gets, 95) && share(inserts, 5), "{run}"),
                "e" => assert!(share(scans, 95) && share(inserts, 5), "{run}"),
                _ => assert!(share(gets, 50) && share(modifies, 50), "{run}"),
            }
            assert_eq!(gets + puts + inserts + scans + modifies, 400);
            // What the server was asked: all, or what is no get; and what it could not be read.
            let asked = match run["gets_by"].as_str().unwrap() {
                "message" => 400 + modifies,
                _ => puts + inserts + scans + modifies + number("asked"),
            };
            assert_eq!(number("server_messages"), asked, "{run}");
            if run["gets_by"] == "one-sided" {
                assert_eq!(number("reads"), gets + modifies + number("torn"), "{run}");
            }
        }
    }
}

#[test]
fn a_server_that_lends_nothing_is_asked_for_all() {
    let json = directory("lends_nothing").join("report.json");
    let fabric = MockFabric::new();
    let arguments = ["--workload", "c", "--records", "50", "--workload-operations", "200", "--clients", "1"];
    // The server of one run, and clients of another that would rather read.
    let serving = options(&[&arguments[..], &["--get", "message"]].concat());
    let reading = options(&[&arguments[..], &["--get", "one-sided", "--json", json.to_str().unwrap()]].concat());
    let means = means::Memory::new(&serving, None).expect("a layout");
    let shelf = means::Means::shelf(&means, &fabric, 10).expect("none is needed");
    let server = Server::start_with(&fabric, &addr(), ServerConfig::default(), shelf).expect("listens");
    assert!(run(&fabric, Place::Clients { connect: addr() }, &reading));
    drop(server);
    let report = read_json(&json);
    let [run] = report["workloads"].as_array().unwrap().as_slice() else { panic!("one run") };
    // And a few questions for a table: ever fewer.
    let asked = run["server_messages"].as_u64().unwrap();
    assert!((201..=210).contains(&asked), "{asked}");
    assert_eq!((&run["reads"], &run["get"]["count"]), (&0.into(), &200.into()));
}

#[test]
fn a_server_that_dies_under_load_is_an_error_for_every_client() {
    let root = directory("a_server_that_dies");
    fs::write(root.join("file"), b"something").unwrap();
    let json = root.join("report.json");
    let fabric = MockFabric::new();
    let server = Server::start(&fabric, &addr(), ServerConfig::default()).expect("listens");

    let client = {
        let (load, json) = (root.join("file"), json.clone());
        thread::spawn(move || {
            let (load, json) = (load.to_str().unwrap(), json.to_str().unwrap());
            // More operations than there is time for.
            let options = options(&["--load", load, "--operations", "1000000000", "--clients", "3", "--json", json]);
            run(&fabric, Place::Clients { connect: addr() }, &options)
        })
    };
    thread::sleep(Duration::from_millis(500));
    drop(server);
    assert!(!client.join().expect("no panic"), "the exit status says that something was wrong");

    let report = read_json(&json);
    assert_eq!(report["errors_by_kind"]["Disconnected"], 3);
    assert_eq!(report["errors"], 3);
    assert_eq!(report["mismatches"], 0);
}

#[test]
fn a_tree_is_read_whole_and_what_is_not_is_reported() {
    let root = directory("a_tree");
    for skipped in ["target", ".git", "below/target"] {
        fs::create_dir_all(root.join(skipped)).unwrap();
        fs::write(root.join(skipped).join("file"), b"not wanted").unwrap();
    }
    fs::write(root.join("below/file"), b"wanted").unwrap();
    fs::write(root.join("too long"), [0; 101]).unwrap();

    let mut dataset = Dataset::read(&root, "run/", 100).expect("reads");
    let keys = |dataset: &Dataset| -> Vec<String> {
        dataset.items.iter().map(|item| String::from_utf8_lossy(&item.key).into_owned()).collect()
    };
    assert_eq!(keys(&dataset), ["run/below/file"]);
    assert_eq!(dataset.items[0].value, b"wanted");
    assert_eq!(dataset.left_out.len(), 1);
    assert_eq!(dataset.left_out[0].0, root.join("too long"));

    dataset.fill_up("run/");
    assert_eq!(keys(&dataset), ["run/made-up/empty", "run/below/file", "run/made-up/4-MiB"]);
    assert_eq!(dataset.items[2].value.len(), 4 << 20);
}

/// The value that `writer` writes to the item as its `version`.
fn update(item: &Item, writer: u32, version: u64) -> Vec<u8> {
    let mut value = Vec::new();
    record::write(&mut value, &item.key, Stamp { writer, version }, item.value.len());
    value
}

#[test]
fn a_wrong_value_is_a_mismatch() {
    let item = Item { key: b"file".to_vec(), value: vec![9; 200] };
    let check = |value: &[u8]| History::default().check(0, &item, Some(value));
    assert_eq!(check(&item.value), Ok(()));
    let right = update(&item, 1, 3);
    assert_eq!(right.len(), 200);
    assert_eq!(check(&right), Ok(()));

    // Any bit of it.
    for bit in 0..8 * right.len() {
        let mut wrong = right.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(check(&wrong).is_err(), "bit {bit}");
    }
    // Cut short, or longer than it was.
    for len in 0..right.len() {
        assert!(check(&right[..len]).is_err(), "{len} bytes");
    }
    assert_eq!(check(&[&right[..], b"\0"].concat()), Err(Mismatch::Checksum));
    assert_eq!(check(&item.value[1..]), Err(Mismatch::Alien(199)));
    assert_eq!(History::default().check(0, &item, None), Err(Mismatch::Gone));

    let other = Item { key: b"fil".to_vec(), value: Vec::new() };
    assert_eq!(check(&update(&other, 1, 3)), Err(Mismatch::WrongKey));
}

#[test]
fn a_value_that_is_out_of_date_is_a_mismatch() {
    let item = Item { key: b"file".to_vec(), value: Vec::new() };
    let mut history = History::default();
    let mut check = |writer, version| history.check(0, &item, Some(&update(&item, writer, version)));
    let out_of_date = |writer, version| Err(Mismatch::OutOfDate { writer, version });
    assert_eq!(check(1, 5), Ok(()));
    assert_eq!(check(1, 5), Ok(()), "nobody has written since");
    assert_eq!(check(1, 7), Ok(()));
    assert_eq!(check(1, 5), out_of_date(1, 5));
    assert_eq!(check(2, 3), Ok(()), "another writer counts by itself");
    assert_eq!(check(1, 7), out_of_date(1, 7), "writer 2 has overwritten it");
    assert_eq!(check(1, 8), Ok(()));

    assert_eq!(history.check(0, &item, Some(&item.value)), Err(Mismatch::FileAgain));
    assert_eq!(history.check(1, &item, Some(&item.value)), Ok(()), "of another item nothing is known");

    // An update of the client's own that was acknowledged and is lost.
    history.saw(0, Stamp { writer: 3, version: 1 });
    let before = update(&item, 1, 8);
    assert_eq!(history.check(0, &item, Some(&before)), out_of_date(1, 8));
}
