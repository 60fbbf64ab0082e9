//! What needs verbs: the devices as libibverbs has them, what a fabric takes of them, and an echo through a track.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trespass_core::{Fabric, Incoming, Listener, ListenerExt, RecvSideExt, SendSide, SendSideExt};
use trespass_verbs::survey::{Choice, Details, Gid, LinkLayer, Port, Survey};
use trespass_verbs::{ReliableTrack, VerbsConfig, VerbsError, VerbsFabric, survey};

use super::report::Report;
use super::{Options, system};

/// How long looking may take.
const LOOK: Duration = Duration::from_secs(10);
/// Echoes of each size.
const ROUNDS: usize = 20;

pub(crate) fn look(options: &Options, report: &mut Report) {
    let mut config = VerbsConfig::default();
    config.device.clone_from(&options.device);
    config.local = options.local;
    let asked = config.clone();
    let Some(survey) = within(LOOK, move || survey(&asked)) else {
        report.section("devices");
        report.missing("devices", format!("looking at them took longer than {LOOK:?}: a driver hangs; see dmesg"), &[]);
        return;
    };
    devices(report, &survey);
    system::locked_memory(report, Some((survey.locked_at_first, survey.locked_per_track)));
    report.section("choice");
    match &survey.choice {
        Ok(choice) => {
            chosen(report, choice);
            try_a_track(report, options, config, choice);
        }
        Err(error) => report.missing("device", error.to_string(), &[]),
    }
}

fn devices(report: &mut Report, survey: &Survey) {
    report.section("devices");
    let listed = match &survey.devices {
        Ok(devices) => devices.as_slice(),
        Err(error) => {
            report.missing("devices", error.to_string(), &[]);
            &[]
        }
    };
    for device in listed {
        match &device.details {
            Ok(details) => device_in_detail(report, &device.name, details, survey.choice.is_err()),
            Err(error) => report.missing(device.name.clone(), error.to_string(), &[]),
        }
    }
    let in_kernel = system::device_names();
    for name in in_kernel.iter().filter(|name| listed.iter().all(|device| device.name != **name)) {
        let text = "the kernel has it, and libibverbs does not: its provider is missing, or its device file";
        report.missing(name.clone(), text, &["apt-get install ibverbs-providers rdma-core"]);
    }
    if in_kernel.is_empty() && listed.is_empty() {
        system::no_device(report);
    }
    let facts = listed.iter().map(|device| {
        let ports = device.details.iter().flat_map(|details| &details.ports).map(port_fact);
        json!({ "name": device.name, "ports": ports.collect::<Value>() })
    });
    report.fact("devices", facts.collect());
}

/// A port that is down is missed where nothing else will do (`in_need`).
fn device_in_detail(report: &mut Report, name: &str, details: &Details, in_need: bool) {
    let Details { max_queue_pairs, max_slots, completion_vectors, .. } = details;
    let text =
        format!("up to {max_queue_pairs} queue pairs of {max_slots} slots, {completion_vectors} completion vectors");
    report.good(name, text);
    for port in &details.ports {
        let what = format!("{name}, port {}", port.number);
        let text = format!("{}, {}, packets of up to {} bytes", port.state, port.link, port.active_mtu);
        let mend = match port.link {
            LinkLayer::InfiniBand => "apt-get install opensm   # where the fabric has no subnet manager".to_owned(),
            _ => format!("ip link set {} up", interface(port)),
        };
        match (port.is_active(), in_need) {
            (true, _) => report.good(what, text),
            (false, true) => report.missing(what, text, &[&mend]),
            (false, false) => report.note(what, text, &[&mend]),
        }
        for gid in &port.gids {
            report.note(format!("{name}, port {}, GID {}", port.number, gid.index), gid.to_string(), &[]);
        }
        if port.link == LinkLayer::Ethernet && port.gids.iter().all(|gid| gid.ip().is_none_or(|ip| ip.is_ipv6())) {
            let mend = format!("ip address add 192.0.2.1/24 dev {}", interface(port));
            report.note(format!("{name}, port {}", port.number), "no IPv4 address among its GIDs", &[&mend]);
        }
    }
}

/// The network interface of a port, as far as its GIDs tell.
fn interface(port: &Port) -> &str {
    port.gids.iter().find_map(|gid| gid.interface.as_deref()).unwrap_or("INTERFACE")
}

fn port_fact(port: &Port) -> Value {
    let gids = port.gids.iter().map(gid_fact);
    json!({
        "number": port.number,
        "state": port.state.to_string(),
        "link": port.link.to_string(),
        "active_mtu": port.active_mtu,
        "max_mtu": port.max_mtu,
        "gids": gids.collect::<Value>(),
    })
}

fn gid_fact(gid: &Gid) -> Value {
    json!({
        "index": gid.index,
        "gid": gid.raw.to_string(),
        "kind": gid.kind.to_string(),
        "ip": gid.ip().map(|ip| ip.to_string()),
        "interface": gid.interface,
    })
}

fn chosen(report: &mut Report, choice: &Choice) {
    let from = match (choice.source, &choice.gid) {
        (Some(addr), Some((port, gid))) => {
            format!(", from {} (GID {} of port {port}, {})", addr.ip(), gid.index, gid.kind)
        }
        (Some(addr), None) => format!(", from {}", addr.ip()),
        (None, _) => ", from the address that the routing table says".to_owned(),
    };
    report.good("device", format!("{}{from}: {}", choice.device, choice.why));
    for other in &choice.passed_over {
        report.note("passed over", other.clone(), &[]);
    }
    report.fact(
        "choice",
        json!({
            "device": choice.device,
            "address": choice.source.map(|addr| addr.ip().to_string()),
            "gid_index": choice.gid.as_ref().map(|(_, gid)| gid.index),
            "why": choice.why,
        }),
    );
}

/// Connects to the own address and echoes.
fn try_a_track(report: &mut Report, options: &Options, config: VerbsConfig, choice: &Choice) {
    report.section("tracks");
    let what = "echo";
    let Some(addr) = choice.source else {
        let text = "the device has no address that it tells of; say which to use";
        return report.missing(what, text, &["trespass doctor --local ADDRESS"]);
    };
    let limit = Duration::from_secs(options.timeout);
    let config = config.with_device(&choice.device);
    match within(limit, move || echo(config, addr)) {
        None => report.missing(what, format!("it took longer than {limit:?}"), &[&format!("ping -c 3 {}", addr.ip())]),
        Some(Err(error)) => report.missing(what, error.to_string(), &[]),
        Some(Ok(sizes)) => {
            for Times { bytes, median, worst } in &sizes {
                let text = format!("{ROUNDS} round trips, {median:.1?} in the median, {worst:.1?} at worst");
                report.good(format!("echo of {bytes} bytes"), text);
            }
            let fact = |times: &Times| {
                json!({
                    "bytes": times.bytes,
                    "round_trips": ROUNDS,
                    "median_us": times.median.as_secs_f64() * 1e6,
                    "worst_us": times.worst.as_secs_f64() * 1e6,
                })
            };
            report.fact("echo", sizes.iter().map(fact).collect());
            report.all_is_well();
        }
    }
}

/// Echoes of one size.
struct Times {
    bytes: usize,
    median: Duration,
    worst: Duration,
}

/// A track from `addr` to itself, and messages of several sizes there and back.
fn echo(config: VerbsConfig, addr: SocketAddr) -> Result<Vec<Times>, VerbsError> {
    let longest = config.max_message;
    let (fabric, mut driver) = VerbsFabric::open_manual(config)?;
    trespass_core::block_on(&mut driver, async {
        let mut listener = fabric.listen(&addr)?;
        let connecting = fabric.connect(&listener.local());
        let mut far = listener.incoming().await?.accept().await?;
        let mut near = connecting.await?;
        let mut sizes = Vec::new();
        for bytes in [1, 64, 1024, longest] {
            sizes.push(echoes(&mut near, &mut far, bytes).await?);
        }
        near.close().await?;
        Ok(sizes)
    })
}

async fn echoes(near: &mut ReliableTrack, far: &mut ReliableTrack, bytes: usize) -> Result<Times, VerbsError> {
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let begun = Instant::now();
        send(near, bytes, round as u8).await?;
        let question = far.recv().await?;
        send(far, question.len(), question.first().copied().unwrap_or(0)).await?;
        drop(question);
        let answer = near.recv().await?;
        times.push(begun.elapsed());
        if answer.len() != bytes || answer.iter().any(|byte| *byte != round as u8) {
            let why = format!("{bytes} bytes came back as others: the device or its memory is broken");
            return Err(VerbsError::Device { action: "echo", why });
        }
    }
    times.sort();
    Ok(Times { bytes, median: times[ROUNDS / 2], worst: times[ROUNDS - 1] })
}

async fn send(track: &mut ReliableTrack, bytes: usize, fill: u8) -> Result<(), VerbsError> {
    let mut buf = track.reserve(bytes).await?;
    buf.fill(fill);
    track.send(buf).map_err(|unsent| unsent.error)?;
    track.flush()
}

/// What `work` gives, if it does within `limit`. A thread that hangs in a driver is left behind: the process ends soon.
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || give.send(work()));
    take.recv_timeout(limit).ok()
}
