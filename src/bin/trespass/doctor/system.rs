//! What can be seen without verbs: files of the system.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::report::Report;

/// Libraries, and the packages of Debian that they are in.
const LIBRARIES: [(&str, &str); 2] = [("libibverbs.so.1", "libibverbs1"), ("librdmacm.so.1", "librdmacm1")];

/// Kernel modules, and what is there when they work, built in or loaded.
const MODULES: [(&str, &str); 3] = [
    ("ib_uverbs", "/sys/class/infiniband_verbs"),
    ("rdma_cm", "/sys/class/misc/rdma_cm"),
    ("rdma_ucm", "/sys/class/misc/rdma_cm"),
];

const DEVICES: &str = "/sys/class/infiniband";

/// The bit of CAP_IPC_LOCK, which no limit binds (capabilities(7)).
const CAP_IPC_LOCK: u32 = 14;

pub(crate) fn look(report: &mut Report) {
    libraries(report);
    kernel(report);
    nodes(report);
}

fn libraries(report: &mut Report) {
    report.section("libraries");
    for (name, package) in LIBRARIES {
        let mend = format!("apt-get install {package}");
        match (loaded(name), installed(name)) {
            (Some(path), _) => report.good(name, path),
            (None, Some(path)) if cfg!(feature = "verbs") => {
                let text = format!("{} is there, and could not be loaded: of another architecture?", path.display());
                report.missing(name, text, &["ldconfig", &mend]);
            }
            (None, Some(path)) => report.good(name, path.display().to_string()),
            (None, None) => report.missing(name, "not found", &[&mend]),
        }
    }
    let mut providers: Vec<_> = entries("/etc/libibverbs.d")
        .into_iter()
        .filter_map(|name| Some(name.strip_suffix(".driver")?.to_owned()))
        .collect();
    providers.sort();
    if providers.is_empty() {
        report.missing("providers", "none in /etc/libibverbs.d", &["apt-get install ibverbs-providers"]);
    } else {
        report.good("providers", providers.join(", "));
    }
}

/// Where a library was loaded into this process from.
fn loaded(name: &str) -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let paths = maps.lines().filter_map(|line| Some(&line[line.find('/')?..]));
    let stem = name.trim_end_matches(".1");
    let mut of_it = paths.filter(|path| path.rsplit('/').next().is_some_and(|file| file.starts_with(stem)));
    of_it.next().map(str::to_owned)
}

/// Where a library lies in the usual folders.
fn installed(name: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> =
        ["/usr/lib", "/lib", "/usr/lib64", "/lib64", "/usr/local/lib"].iter().map(PathBuf::from).collect();
    folders.extend(
        entries("/usr/lib").iter().filter(|name| name.contains("-linux-")).map(|name| Path::new("/usr/lib").join(name)),
    );
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.exists())
}

fn kernel(report: &mut Report) {
    report.section("kernel");
    for (name, trace) in MODULES {
        let loaded = Path::new("/sys/module").join(name).exists();
        match (loaded, Path::new(trace).exists()) {
            (true, _) => report.good(name, "loaded"),
            (false, true) => report.good(name, "built in"),
            (false, false) => report.missing(name, "not loaded", &[&format!("modprobe {name}")]),
        }
    }
    if Path::new("/sys/module/rdma_rxe").exists() {
        report.good("rdma_rxe", "loaded");
    } else {
        report.note("rdma_rxe", "not loaded as a module; only soft-RoCE needs it", &[]);
    }
}

fn nodes(report: &mut Report) {
    report.section("device files");
    let mut names: Vec<_> =
        entries("/sys/class/infiniband_verbs").into_iter().filter(|name| name.starts_with("uverbs")).collect();
    names.sort();
    if Path::new("/sys/class/misc/rdma_cm").exists() {
        names.push("rdma_cm".into());
    }
    if names.is_empty() {
        report.note("/dev/infiniband", "nothing to look for: no device, and no connection manager", &[]);
    }
    for name in names {
        let path = Path::new("/dev/infiniband").join(&name);
        let shown = path.display().to_string();
        let Ok(about) = fs::metadata(&path) else {
            let mend = [
                "apt-get install rdma-core",
                "udevadm trigger --subsystem-match=infiniband_verbs --subsystem-match=misc",
            ];
            report.missing(shown, "not there: udev makes it, by rules that come with rdma-core", &mend);
            continue;
        };
        let rights = format!("mode {:04o}, owner {}:{}", about.permissions().mode() & 0o7777, about.uid(), about.gid());
        // Opening is the one test that knows of groups, capabilities and containers.
        match fs::OpenOptions::new().read(true).write(true).open(&path) {
            Ok(_) => report.good(shown, rights),
            Err(error) => {
                report.missing(shown, format!("{rights}: {error}"), &[&format!("chmod 0666 {}", path.display())])
            }
        }
    }
}

/// How much memory may be locked, and whether that is enough: `needed` to begin with, and `each` for a track.
pub(crate) fn locked_memory(report: &mut Report, needed: Option<(usize, usize)>) {
    report.section("limits");
    let what = "locked memory";
    let limit = match fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(parse_limit) {
        Some(limit) => limit,
        None => return report.note(what, "the limit cannot be read", &[]),
    };
    let Some(bytes) = limit else { return report.good(what, "unlimited") };
    if may_lock_anything() {
        return report.good(what, format!("{}, which does not bind this user (CAP_IPC_LOCK)", size(bytes)));
    }
    match needed {
        None => report.note(what, format!("{}; a build with verbs says whether that is enough", size(bytes)), &[]),
        Some((first, each)) if bytes >= first as u64 => {
            let tracks = bytes / (each as u64).max(1);
            report.good(what, format!("{}: enough for {tracks} tracks of the default size", size(bytes)));
        }
        Some((first, _)) => report.missing(
            what,
            format!("{}, and a fabric of the default size begins with {}", size(bytes), size(first as u64)),
            &[
                "ulimit -l unlimited",
                "echo '* - memlock unlimited' > /etc/security/limits.d/rdma.conf   # as root, for later logins",
            ],
        ),
    }
}

/// The soft limit of locked memory in the words of /proc/self/limits: `Some(None)` where there is none.
fn parse_limit(limits: &str) -> Option<Option<u64>> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(None),
        bytes => Some(Some(bytes.parse().ok()?)),
    }
}

fn may_lock_anything() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    bits & (1 << CAP_IPC_LOCK) != 0
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=0xfffff => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// The devices that the kernel has, and their ports as it shows them.
#[cfg(not(feature = "verbs"))]
pub(crate) fn devices(report: &mut Report) {
    report.section("devices");
    let names = device_names();
    for name in &names {
        let ports = Path::new(DEVICES).join(name).join("ports");
        for number in entries(&ports) {
            let read =
                |file: &str| fs::read_to_string(ports.join(&number).join(file)).unwrap_or_default().trim().to_owned();
            report.note(format!("{name}, port {number}"), format!("{}, {}", read("state"), read("link_layer")), &[]);
        }
    }
    if names.is_empty() {
        no_device(report);
    }
    locked_memory(report, None);
}

/// The devices that the kernel has.
pub(crate) fn device_names() -> Vec<String> {
    let mut names = entries(DEVICES);
    names.sort();
    names
}

/// There is none, and what makes one.
pub(crate) fn no_device(report: &mut Report) {
    let mut interfaces = entries("/sys/class/net");
    interfaces.sort();
    let is_up = |name: &&String| {
        let state = fs::read_to_string(Path::new("/sys/class/net").join(name).join("operstate"));
        **name != "lo" && state.is_ok_and(|state| state.trim() != "down")
    };
    let interface = interfaces.iter().find(is_up).map_or("eth0", String::as_str);
    report.missing(
        "device",
        "the kernel has none; load the driver of the NIC, or make one in software (soft-RoCE)",
        &["apt-get install iproute2", "modprobe rdma_rxe", &format!("rdma link add rxe0 type rxe netdev {interface}")],
    );
}

fn entries(folder: impl AsRef<Path>) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_read_as_the_kernel_writes_it() {
        let limits = |soft: &str| {
            format!(
                "Limit   Soft Limit   Hard Limit   Units\nMax processes  1  1  processes\nMax locked memory         {soft}              8388608              bytes     \n"
            )
        };
        assert_eq!(parse_limit(&limits("8388608")), Some(Some(8 << 20)));
        assert_eq!(parse_limit(&limits("unlimited")), Some(None));
        assert_eq!(parse_limit("Max processes 1 1"), None);
        assert_eq!(parse_limit(&limits("nonsense")), None);
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!((size(65_536).as_str(), size(8 << 20).as_str()), ("64 KiB", "8 MiB"));
    }
}
