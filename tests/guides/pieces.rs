//! Pieces of code that no doc test compiles are those of a file that is compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::documents::{entries, pages, read, root};

/// The crate that the guides write, whose files they name from its root.
const TOY: &str = "examples/toy_fabric";

/// Where a file is that a guide names.
fn place(file: &str) -> PathBuf {
    let of_the_toy = PathBuf::from(TOY).join(file);
    if root().join(&of_the_toy).exists() { of_the_toy } else { file.into() }
}

#[test]
fn what_no_doc_test_compiles_is_a_piece_of_a_file() {
    let mut pieces = 0;
    for page in pages() {
        for block in page.blocks() {
            match block.language {
                // Doc tests, and what is no Rust.
                "rust" | "rust,no_run" | "sh" | "text" => {}
                "toml" if block.file().is_none() => {}
                "rust,ignore" | "toml" => {
                    let file = block.file().unwrap_or_else(|| panic!("{}: a block without a file", page.name()));
                    let source = in_a_clone(&read(place(file)));
                    let source: Vec<&str> = source.lines().map(str::trim).collect();
                    let piece: Vec<&str> = block.piece().iter().map(|line| line.trim()).collect();
                    let found = source.windows(piece.len()).any(|window| window == piece);
                    assert!(found, "{} shows what is not in {file}:\n{}", page.name(), piece.join("\n"));
                    pieces += 1;
                }
                other => panic!("{}: a block of {other:?}, which no test looks at", page.name()),
            }
        }
    }
    assert!(pieces > 30, "only {pieces} pieces were found");
}

#[test]
fn the_guides_show_the_whole_of_what_they_write() {
    let mut shown: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    // In the order in which they are read.
    for name in ["docs/guide/own-track.md", "docs/guide/own-fabric.md", "docs/guide/own-carrier.md"] {
        let pages = pages();
        let page = pages.iter().find(|page| page.name() == name).expect("the guide");
        for block in page.blocks() {
            if let Some(file) = block.file() {
                shown.entry(place(file)).or_default().push(block.piece().join("\n"));
            }
        }
    }
    for (file, pieces) in &shown {
        let whole = in_a_clone(&read(file));
        let pieces = pieces.join("\n\n") + "\n";
        let differs = pieces.lines().zip(whole.lines()).find(|(shown, there)| shown != there);
        assert_eq!(differs, None, "shown, and there, in {}", file.display());
        assert_eq!(pieces.len(), whole.len(), "the pieces of {} are not the whole of it", file.display());
    }
    let mut files = BTreeSet::from([PathBuf::from("tests/lines.rs")]);
    files.extend(
        ["", "src", "tests", "tests/harness"].iter().flat_map(|folder| entries(PathBuf::from(TOY).join(folder))),
    );
    files.retain(|file| root().join(file).is_file() && file.extension() != Some("md".as_ref()));
    let shown: BTreeSet<_> = shown.into_keys().collect();
    assert_eq!(shown, files);
}

/// A manifest as it is beside a clone of this repository, and not within it.
fn in_a_clone(text: &str) -> String {
    text.replace("path = \"../../", "path = \"../trespass/")
}
