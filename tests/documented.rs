//! What the pages of the traits say of who implements them is so: each implementer of the workspace is named there, and there
//! is an example, or the way to one.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn sources(of: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(of).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension() == Some("rs".as_ref()) => {
                    found.push(fs::read_to_string(&path).expect("a source"));
                }
                false => {}
            }
        }
    }
    found
}

/// The public traits of a source, each with its documentation.
fn traits(source: &str) -> Vec<(String, String)> {
    let lines: Vec<_> = source.lines().collect();
    let mut traits = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix("pub trait ") else { continue };
        let name = word(rest);
        // Attributes may lie between.
        let begin =
            lines[..at].iter().rposition(|line| line.is_empty() || line.starts_with('}')).map_or(0, |at| at + 1);
        let docs = lines[begin..at].iter().filter_map(|line| line.strip_prefix("///"));
        traits.push((name, docs.collect::<Vec<_>>().join("\n")));
    }
    traits
}

/// The name with which `text` begins.
fn word(text: &str) -> String {
    text.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
}

/// Who implements what, by the first lines of implementations: a trait and a type.
fn implementations(source: &str) -> impl Iterator<Item = (String, String)> {
    source.lines().filter(|line| line.starts_with("impl")).filter_map(|line| {
        let (of, by) = line.rsplit_once(" for ")?;
        // Of generic traits, without their parameters; after those of the implementation.
        let of = of.rsplit(' ').next()?;
        Some((word(of), word(by))).filter(|(of, by)| !of.is_empty() && !by.is_empty())
    })
}

#[test]
fn implementers_are_named_where_the_trait_is_explained() {
    let crates = ["core", "carriers", "mock", "verbs", "layers"].map(|name| sources(&format!("trespass-{name}")));
    let public: BTreeSet<_> = crates
        .iter()
        .flatten()
        .flat_map(|source| source.lines())
        .filter_map(|line| ["pub struct ", "pub enum "].iter().find_map(|start| line.trim().strip_prefix(start)))
        .map(word)
        .collect();
    let implemented: BTreeSet<_> = crates.iter().flatten().flat_map(|source| implementations(source)).collect();
    let (mut checked, mut unnamed) = (0, Vec::new());
    for (name, docs) in crates[0].iter().flat_map(|source| traits(source)).filter(|(name, _)| name != "Sealed") {
        let Some((_, named)) = docs.split_once("mplemented") else { panic!("{name} does not say who implements it") };
        let has_example = docs.contains("```") || docs.contains("toy") || docs.contains("example");
        assert!(has_example, "{name} has no example, and says of none");
        // These say "every track", and the like.
        if ["Endpoint", "RecvBuf", "Address"].contains(&&*name) {
            continue;
        }
        for (_, by) in implemented.iter().filter(|(of, by)| *of == name && public.contains(by)) {
            if !named.contains(&format!("`{by}`")) {
                unnamed.push(format!("{name} by {by}"));
            }
            checked += 1;
        }
    }
    assert!(unnamed.is_empty(), "not said on the page of the trait: {}", unnamed.join(", "));
    assert!(checked > 90, "only {checked} implementations were found");
}
