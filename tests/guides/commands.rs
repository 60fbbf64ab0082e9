//! Commands in documents name what there is: packages, targets, features, options, scripts, and packages of Debian.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::documents::{Document, entries, pages, read, readmes, root};

/// A target of a package of the workspace.
struct Target {
    package: String,
    kind: String,
    name: String,
    needs: BTreeSet<String>,
    /// What the package has, and what it has by default.
    features: BTreeSet<String>,
    default: BTreeSet<String>,
}

/// What cargo knows of the workspace.
fn targets() -> Vec<Target> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| env!("CARGO").to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let strings = |value: &Value| -> BTreeSet<String> {
        value.as_array().into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
    };
    let mut targets = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        for target in package["targets"].as_array().expect("targets") {
            targets.push(Target {
                package: package["name"].as_str().expect("a name").to_owned(),
                kind: target["kind"][0].as_str().expect("a kind").to_owned(),
                name: target["name"].as_str().expect("a name").to_owned(),
                needs: strings(&target["required-features"]),
                features: package["features"].as_object().expect("features").keys().cloned().collect(),
                default: strings(&package["features"]["default"]),
            });
        }
    }
    targets
}

/// The commands of the blocks for a shell: without comments, and what they set.
fn commands(document: &Document) -> Vec<Vec<String>> {
    let shell = document.blocks().into_iter().filter(|block| matches!(block.language, "sh" | ""));
    let lines: Vec<&str> = shell.flat_map(|block| block.lines).collect();
    let words = |line: &&str| -> Vec<String> {
        let line = if line.starts_with('#') { "" } else { line.split(" #").next().unwrap_or_default() };
        let words = line.split_whitespace().skip_while(|word| word.contains('=')).map(str::to_owned);
        words.collect()
    };
    lines.iter().map(words).filter(|words| !words.is_empty()).collect()
}

/// What is asked of cargo. Says what is wrong with it.
fn check_cargo(words: &[String], targets: &[Target]) -> Result<(), String> {
    let (mut package, mut wanted, mut features) = (None, None, BTreeSet::new());
    let (mut all, mut words) = (false, words.iter().map(String::as_str));
    let command = words.next().ok_or("no command")?;
    if ["new", "add"].contains(&command) {
        return Ok(());
    }
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} has no value"));
        match word {
            "--" => break,
            "-p" | "--package" => package = Some(value()?),
            "--example" | "--bin" | "--test" | "--bench" => wanted = Some((&word[2..], value()?)),
            "--features" => features.extend(value()?.split(',').map(str::to_owned)),
            "--all-features" => all = true,
            "--release" | "--no-run" | "--quiet" | "--lib" | "--doc" | "--exact" => {}
            other if !other.starts_with('-') && command == "test" => {}
            other => return Err(format!("nobody knows whether {other} is right: teach tests/guides")),
        }
    }
    let of_package = |target: &&Target| package.map_or(target.package == "trespass", |name| target.package == name);
    let any = targets.iter().find(of_package).ok_or(format!("there is no package {package:?}"))?;
    let missing: Vec<_> = features.difference(&any.features).collect();
    if !missing.is_empty() {
        return Err(format!("{} has no features {missing:?}", any.package));
    }
    let Some((kind, name)) = wanted else { return Ok(()) };
    let found = targets.iter().filter(of_package).find(|target| target.kind == kind && target.name == name);
    let found = found.ok_or(format!("there is no {kind} {name}"))?;
    let on: BTreeSet<_> = features.union(&found.default).cloned().collect();
    if !all && !found.needs.is_subset(&on) {
        return Err(format!("{name} needs the features {:?}", found.needs));
    }
    check_options(kind, name, &words.collect::<Vec<_>>())
}

/// What is asked of programs whose options are known here.
fn check_options(kind: &str, name: &str, words: &[&str]) -> Result<(), String> {
    match (kind, name, words) {
        ("example", "kv", words) => has_options(&[PathBuf::from("examples/kv/options.rs")], words),
        ("bin", "trespass", [command, rest @ ..]) => {
            let folders = entries("src/bin/trespass").into_iter().filter(|path| root().join(path).is_dir());
            let folders: Vec<_> = folders.collect();
            if !folders.iter().any(|folder| folder.ends_with(command)) {
                return Err(format!("there is no trespass {command}"));
            }
            // Commands may share options.
            has_options(&folders.iter().flat_map(entries).collect::<Vec<_>>(), rest)
        }
        _ => Ok(()),
    }
}

/// Whether all long options among `words` are fields of options in one of these files.
fn has_options(files: &[PathBuf], words: &[&str]) -> Result<(), String> {
    let sources = files.iter().filter(|file| file.extension() == Some("rs".as_ref())).map(read).collect::<String>();
    let unknown = words.iter().filter_map(|word| word.strip_prefix("--")).find(|option| {
        let field = option.replace('-', "_");
        !sources.contains(&format!(" {field}: "))
    });
    unknown.map_or(Ok(()), |option| Err(format!("there is no option --{option}")))
}

fn check(words: &[String], targets: &[Target]) -> Result<(), String> {
    let has = |text: String, what: &str| if text.contains(what) { Ok(()) } else { Err(format!("{what} is not there")) };
    match words[0].as_str() {
        "cargo" => check_cargo(&words[1..], targets),
        "trespass" => check_options("bin", "trespass", &words[1..].iter().map(String::as_str).collect::<Vec<_>>()),
        script if script.starts_with("scripts/") => {
            if !root().join(script).is_file() {
                return Err("there is no such script".into());
            }
            let options = words[1..].iter().take_while(|word| word.starts_with('-') || script.contains("bench"));
            options.filter(|word| word.starts_with("--")).try_for_each(|option| has(read(script), option))
        }
        "apt-get" => {
            let setup = read("scripts/setup");
            let known =
                setup.split_once("packages=(").and_then(|(_, rest)| rest.split_once("\n)")).ok_or("no packages")?.0;
            let unknown = words[2..].iter().find(|package| !known.split_whitespace().any(|known| known == *package));
            unknown.map_or(Ok(()), |package| Err(format!("scripts/setup knows no package {package}")))
        }
        // The same words as of those who look at a machine, and of the one that is made for tests.
        "rdma" if words[1..] != ["link"] => {
            let known = read("src/bin/trespass/doctor/system.rs").replace("{interface}", "eth0");
            has(known, &words.join(" "))
        }
        "modprobe" => {
            let known = read("src/bin/trespass/doctor/system.rs") + &read("scripts/rdma/init");
            let known: BTreeSet<_> = known.split(|char: char| !char.is_alphanumeric() && char != '_').collect();
            let unknown = words[1..].iter().find(|word| *word != "-a" && !known.contains(word.as_str()));
            unknown.map_or(Ok(()), |module| Err(format!("nobody here loads {module}")))
        }
        "$cache" => {
            let options: Vec<_> = words[1..].iter().map(String::as_str).collect();
            has_options(&entries("examples/cache/src"), &options)
        }
        // A loop of a shell is as right as what it does.
        "for" => match words.iter().position(|word| word == "do") {
            Some(at) => check(&words[at + 1..], targets),
            None => Err("a loop without a do".into()),
        },
        "rdma" | "cd" | "ulimit" | "echo" | "kill" | "systemctl" | "PROGRAM" => Ok(()),
        other => Err(format!("nobody knows whether {other} is right: teach tests/guides")),
    }
}

#[test]
fn commands_name_what_there_is() {
    let targets = targets();
    let (mut checked, mut wrong) = (0, Vec::new());
    for document in pages().into_iter().chain(readmes()) {
        for words in commands(&document) {
            if let Err(why) = check(&words, &targets) {
                wrong.push(format!("{}: {}\n  {why}", document.name(), words.join(" ")));
            }
            checked += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 40, "only {checked} commands were found");
}

/// A test of commands that accepts any would show nothing.
#[test]
fn wrong_commands_are_found() {
    let targets = targets();
    for wrong in [
        "cargo run --example nothing",
        "cargo run --features cli,nothing --bin trespass -- doctor",
        "cargo run --bin trespass -- doctor",
        "cargo run --features cli --bin trespass -- doctor --nothing",
        "cargo run --example kv -- --nothing",
        "trespass nothing",
        "trespass doctor --nothing",
        "cargo test -p nothing",
        "scripts/nothing",
        "scripts/bench-verbs --nothing",
        "apt-get install nothing",
        "$cache status --nothing",
        "for i in 1 2; do $cache node --nothing & done",
        "rdma link add rxe0 type nothing netdev eth0",
        "modprobe no_such_module",
        "nothing",
    ] {
        let words: Vec<_> = wrong.split_whitespace().map(str::to_owned).collect();
        assert!(check(&words, &targets).is_err(), "{wrong} was not found");
    }
}
