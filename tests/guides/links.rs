//! Links lead somewhere.
//!
//! A document that is a page of rustdoc too links by name: the definition at its end is for code hosts, that in
//! `src/guides/links.md` for rustdoc, which checks it.

use std::collections::BTreeSet;

use super::documents::{Document, pages, read, readmes, root};

/// The targets of `[text](target)` in a line, without those of other hosts.
fn inline(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).filter(is_here)
}

/// The names of `[text][name]` and `[name][]` in a line.
fn names(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("][").filter_map(|(at, _)| {
        let name = line[at + 2..].split_once(']')?.0;
        let text = line[..at].rsplit_once('[')?.1;
        Some(if name.is_empty() { text } else { name })
    })
}

/// The definitions `[name]: target` of a text.
fn definitions(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let defined = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    defined.filter(|(name, target)| !name.contains(']') && is_here(target))
}

fn is_here(target: &&str) -> bool {
    !target.starts_with("http")
}

/// What hosts and rustdoc make of the headings of a document.
fn anchors(document: &Document) -> BTreeSet<String> {
    let headings =
        document.prose().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
        kept.map(|char| if char == ' ' { '-' } else { char.to_ascii_lowercase() }).collect()
    };
    headings.map(anchor).collect()
}

/// Where a link of a document leads, without its anchor.
fn exists(document: &Document, target: &str) -> bool {
    let path = target.split('#').next().unwrap_or_default();
    root().join(&document.path).parent().expect("a folder").join(path).exists()
}

#[test]
fn links_lead_somewhere_on_a_code_host() {
    let mut links = 0;
    for document in pages().into_iter().chain(readmes()) {
        let anchors = anchors(&document);
        for target in document.prose().flat_map(inline).chain(definitions(&document.text).map(|(_, target)| target)) {
            let leads = match target.strip_prefix('#') {
                Some(anchor) => anchors.contains(anchor),
                None => exists(&document, target),
            };
            assert!(leads, "{}: nothing is at {target}", document.name());
            links += 1;
        }
    }
    assert!(links > 60, "only {links} links were found");
}

#[test]
fn pages_link_by_names_that_rustdoc_knows() {
    let known = read("src/guides/links.md");
    let known: BTreeSet<_> =
        known.lines().filter_map(|line| Some(line.strip_prefix('[')?.split_once("]: ")?.0)).collect();
    for page in pages() {
        let defined: BTreeSet<_> = definitions(&page.text).map(|(name, _)| name).collect();
        for name in &defined {
            assert!(known.contains(name), "{}: add [{name}] to src/guides/links.md", page.name());
        }
        for name in page.prose().flat_map(names) {
            assert!(defined.contains(name), "{}: define [{name}] at its end", page.name());
        }
        let by_path = page.prose().flat_map(inline).find(|target| !target.starts_with('#'));
        assert_eq!(by_path, None, "{}: rustdoc has no such file: link by a name, as its other links do", page.name());
    }
}

#[test]
fn the_front_page_leads_to_each_page() {
    let rustdoc = read("src/guides/mod.rs");
    let pages = pages();
    let front = pages.iter().find(|page| page.name() == "README.md").expect("the front page");
    let linked: BTreeSet<_> = front.prose().flat_map(names).collect();
    let named = |name: &str| definitions(&front.text).find(|(_, target)| *target == name).map(|(label, _)| label);
    for page in pages.iter().filter(|page| page.name() != "README.md") {
        let name = page.name();
        let label = named(&name).unwrap_or_else(|| panic!("README.md does not define a link to {name}"));
        assert!(linked.contains(label), "README.md does not lead to {name}");
        assert!(rustdoc.contains(&format!("\"{name}\"")), "{name} is no page of rustdoc");
        let module = label.replace('-', "_");
        let listed =
            rustdoc.lines().filter(|line| line.starts_with("//!")).any(|line| line.contains(&format!("]({module})")));
        assert!(listed, "the page of all guides does not list {name}");
    }
}
