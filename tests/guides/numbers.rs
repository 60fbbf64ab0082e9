//! Numbers in the guides are those of the code, and of the documents that they were measured for.

use std::time::Duration;

use trespass::carriers::{Excess, MessageConfig, RendezvousConfig, ServerConfig, StreamConfig};

use super::documents::read;

/// What `docs/guide/tuning.md` says is the default of a knob.
fn said(section: &str, knob: &str) -> String {
    let text = read("docs/guide/tuning.md");
    let section = text.split("\n## ").find(|text| text.lines().next().is_some_and(|head| head.contains(section)));
    let rows = section.expect("the section").lines().filter(|line| line.starts_with('|'));
    let mut cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let row = cells.find(|cells| cells[1].contains(&format!("`{knob}`")));
    row.unwrap_or_else(|| panic!("no row of `{knob}`"))[2].to_owned()
}

fn bytes(bytes: usize) -> String {
    match bytes.trailing_zeros() {
        30.. => format!("{} GiB", bytes >> 30),
        20..30 => format!("{} MiB", bytes >> 20),
        10..20 => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

fn time(time: impl Into<Option<Duration>>) -> String {
    time.into().map_or("none".to_owned(), |time| format!("{} s", time.as_secs()))
}

fn check(section: &str, defaults: &[(&str, String)]) {
    for (knob, default) in defaults {
        assert_eq!(said(section, knob), *default, "the default of {knob} of {section}");
    }
}

#[test]
fn defaults_are_what_the_guide_says() {
    let messages = MessageConfig::default();
    let deadlines = time(messages.open_timeout);
    assert_eq!(deadlines, time(messages.close_timeout));
    check(
        "`MessageConfig`",
        &[
            ("max_message", bytes(messages.max_message)),
            ("spill_limit", bytes(messages.spill_limit)),
            ("pool_limit", bytes(messages.pool_limit)),
            ("open_timeout", deadlines),
            ("keepalive", time(messages.keepalive)),
            ("idle_timeout", time(messages.idle_timeout)),
        ],
    );
    check("`StreamConfig`", &[("coalesce", if StreamConfig::default().coalesce { "on" } else { "off" }.to_owned())]);
    check("`RendezvousConfig`", &[("lend_from", bytes(RendezvousConfig::new(()).lend_from))]);
    let server = ServerConfig::default();
    assert_eq!((server.max_memory, server.excess), (usize::MAX, Excess::Busy));
    check(
        "`ServerConfig`",
        &[
            ("max_peers", server.max_peers.to_string()),
            ("max_handshakes", server.max_handshakes.to_string()),
            ("max_memory", "no limit".to_owned()),
            ("excess", "`Busy`".to_owned()),
        ],
    );
}

#[cfg(feature = "verbs")]
#[test]
fn defaults_of_verbs_are_what_the_guide_says() {
    let verbs = trespass::verbs::VerbsConfig::default();
    assert_eq!(verbs.handshake_timeout, verbs.close_timeout);
    check(
        "`VerbsConfig`",
        &[
            ("max_message", bytes(verbs.max_message)),
            ("send_slots", verbs.send_slots.to_string()),
            ("recv_slots", verbs.recv_slots.to_string()),
            ("inline", bytes(verbs.inline)),
            ("handshake_timeout", time(verbs.handshake_timeout)),
            ("backlog", verbs.backlog.to_string()),
            ("pool_limit", bytes(verbs.pool_limit)),
            ("region_cache", bytes(verbs.region_cache)),
            ("remote_access", verbs.remote_access.to_string()),
            ("ack_timeout", format!("{}, {}", verbs.ack_timeout, verbs.retries)),
            ("min_rnr_timer", format!("{} (0.64 ms)", verbs.min_rnr_timer)),
            ("completion_vector", verbs.completion_vector.to_string()),
        ],
    );
    let shared = trespass::verbs::SharedConfig::default();
    check("`SharedConfig`", &[("tracks", shared.tracks.to_string()), ("quota", shared.quota.to_string())]);
}

#[test]
fn memory_is_what_was_measured() {
    let (memory, choosing) = (read("docs/MEMORY.md"), read("docs/guide/choosing.md"));
    for (shape, said) in [("32 of 4096 bytes", ["341 KiB", "53 KiB"]), ("4 of 256 bytes", ["29", "13 KiB"])] {
        let row = memory.lines().find(|line| line.starts_with(&format!("| {shape} |")) && line.contains("| 1,000 |"));
        let cells: Vec<&str> = row.expect("the row").split('|').map(str::trim).collect();
        let measured = [cells[4], cells[6]];
        for (said, measured) in said.iter().zip(measured) {
            assert_eq!(said.trim_end_matches(" KiB"), measured, "of {shape}");
            assert!(choosing.contains(said), "choosing.md does not say {said} of {shape}");
        }
    }
}
