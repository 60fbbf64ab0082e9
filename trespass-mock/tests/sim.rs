//! The simulation itself: the same seed makes the same run, and a run that fails says how and how to have it again.

use std::future::{pending, poll_fn};
use std::process::Command;
use std::task::Poll;
use std::time::Duration;

use trespass_core::{Fabric, Incoming, ListenerExt, RecvSideExt, SendSide, SendSideExt, Timer};
use trespass_mock::{MockAddr, MockConfig, MockPlan, MockSim, MockSimEnd, MockSimReport, explore};

fn addr() -> MockAddr {
    "server".parse().unwrap()
}

/// Three clients and a server that echoes, under the plan of the seed.
fn echoes(seed: u64) -> MockSimReport {
    let mut sim = MockSim::new(seed, MockPlan::seeded(seed, 2));
    let config = MockConfig::default().with_max_message(256).with_send_slots(4).with_recv_slots(4);
    let [server, client] = [(); 2].map(|()| sim.net().fabric(config.clone()).unwrap());
    let mut listener = server.listen(&addr()).unwrap();
    let spawner = sim.spawner();
    sim.spawn("listener", async move {
        for number in 0..3 {
            let mut track = listener.incoming().await.unwrap().accept().await.unwrap();
            spawner.spawn(format!("server {number}"), async move {
                while let Ok(message) = track.recv().await {
                    let mut buf = track.reserve(message.len()).await.unwrap();
                    buf.copy_from_slice(&message);
                    track.send(buf).unwrap();
                    track.flush().unwrap();
                }
            });
        }
    });
    let clients = [0_u8, 1, 2].map(|number| {
        let client = client.clone();
        sim.spawn(format!("client {number}"), async move {
            let mut track = client.connect(&addr()).await.unwrap();
            for round in 0..10_u8 {
                let mut buf = track.reserve(usize::from(round)).await.unwrap();
                buf.fill(number);
                track.send(buf).unwrap();
                assert_eq!(*track.recv().await.unwrap(), vec![number; round.into()]);
            }
            track.close().await.unwrap();
        })
    });
    let report = sim.run().unwrap();
    assert!(clients.into_iter().all(|client| client.output().is_some()));
    report
}

#[test]
fn a_seed_is_a_run_bit_for_bit_and_another_seed_another() {
    let mut traces = Vec::new();
    for seed in 0..50 {
        let report = echoes(seed);
        assert_eq!(report, echoes(seed), "seed {seed}");
        traces.push(report.trace);
    }
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 50, "two seeds made the same run");
}

/// What an earlier process found, a later one must find again.
#[test]
fn a_seed_is_the_same_run_in_another_process() {
    const CHILD: &str = "TRESPASS_TEST_TRACE";
    let trace = format!("trace {}", echoes(7).trace);
    if std::env::var_os(CHILD).is_some() {
        println!("{trace}");
        return;
    }
    let test = "a_seed_is_the_same_run_in_another_process";
    let output =
        Command::new(std::env::current_exe().unwrap()).args([test, "--nocapture"]).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(&trace), "{trace}: {text}");
}

#[test]
fn a_minute_takes_no_time() {
    let mut sim = MockSim::new(0, MockPlan::default());
    let timer = sim.timer();
    sim.spawn("sleeper", async move {
        for _ in 0..60 {
            timer.sleep(Duration::from_secs(1)).await;
        }
    });
    let start = std::time::Instant::now();
    let report = sim.run().unwrap();
    assert!(report.elapsed >= Duration::from_secs(60) && report.elapsed < Duration::from_secs(61));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_hang_names_those_that_wait() {
    let mut sim = MockSim::new(5, MockPlan::default());
    sim.spawn("patient", pending::<()>());
    sim.spawn("done", async {});
    sim.spawn("stuck", pending::<()>());
    let failure = sim.run().unwrap_err();
    let MockSimEnd::Hang { waiting, .. } = &failure.end else { panic!("{failure}") };
    assert_eq!(*waiting, ["patient", "stuck"]);
    let text = failure.to_string();
    // Which package it is cargo says, where it runs this.
    assert!(text.contains("TRESPASS_SEED=5 cargo test "), "{text}");
    assert!(text.contains(" --test sim a_hang_names_those_that_wait"), "{text}");
    assert!(text.contains("MockPlan"), "{text}");
    assert_eq!(format!("{failure:?}"), text);
}

#[test]
fn what_goes_on_for_ever_is_found() {
    let mut sim = MockSim::new(0, MockPlan::default()).with_limit(Duration::from_secs(10));
    let timer = sim.timer();
    sim.spawn("clock", async move {
        loop {
            timer.sleep(Duration::from_secs(1)).await;
        }
    });
    let end = sim.run().unwrap_err().end;
    assert_eq!(end, MockSimEnd::TooLong { limit: Duration::from_secs(10), waiting: vec!["clock".into()] });

    let mut sim = MockSim::new(0, MockPlan::default()).with_most_polls(1000);
    sim.spawn(
        "busy",
        poll_fn(|cx| -> Poll<()> {
            cx.waker().wake_by_ref();
            Poll::Pending
        }),
    );
    let end = sim.run().unwrap_err().end;
    assert_eq!(end, MockSimEnd::TooManyPolls { most: 1000, waiting: vec!["busy".into()] });
}

#[test]
fn a_panic_is_told_with_its_task() {
    let mut sim = MockSim::new(0, MockPlan::default());
    sim.spawn("careless", async { panic!("oh no") });
    let end = sim.run().unwrap_err().end;
    assert_eq!(end, MockSimEnd::Panicked { task: "careless".into(), message: "oh no".into() });
}

/// A test that fails for one seed in a thousand says for which, and how to see only that; and that line does.
#[test]
fn the_seed_that_fails_is_printed_and_replays() {
    const CHILD: &str = "TRESPASS_TEST_FAILS";
    let test = "the_seed_that_fails_is_printed_and_replays";
    if std::env::var_os(CHILD).is_some() {
        explore(1000, |seed| {
            eprintln!("tried {seed}.");
            if seed == 567 { Err("bad luck") } else { Ok(()) }
        });
        return;
    }
    let run = |seed: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--nocapture"]).env(CHILD, "1").env_remove("TRESPASS_SEED").env_remove("TRESPASS_SEEDS");
        let output = command.envs(seed.map(|seed| ("TRESPASS_SEED", seed))).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let all = run(None);
    assert!(all.contains("bad luck\nseed 567\nreplay it: TRESPASS_SEED=567 cargo test"), "{all}");
    assert!(all.lines().any(|line| line.ends_with(test)), "{all}");
    let one = run(Some("567"));
    assert!(one.contains("bad luck") && one.matches("tried").count() == 1, "{one}");
}
