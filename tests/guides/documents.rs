//! The documents, and what they are made of.

use std::fs;
use std::path::{Path, PathBuf};

/// A document of the repository.
pub(crate) struct Document {
    /// From the root.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A block of code.
pub(crate) struct Block<'a> {
    pub(crate) language: &'a str,
    pub(crate) lines: Vec<&'a str>,
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Those that are pages of rustdoc too.
pub(crate) fn pages() -> Vec<Document> {
    let mut pages = vec!["README.md".into(), "ARCHITECTURE.md".into()];
    pages.extend(markdown("docs"));
    pages.extend(markdown("docs/guide"));
    pages.into_iter().map(Document::open).collect()
}

/// The READMEs of the examples.
pub(crate) fn readmes() -> Vec<Document> {
    let folders = entries("examples").into_iter().map(|folder| folder.join("README.md"));
    folders.filter(|path| root().join(path).exists()).map(Document::open).collect()
}

fn markdown(folder: &str) -> impl Iterator<Item = PathBuf> {
    entries(folder).into_iter().filter(|path| path.extension() == Some("md".as_ref()))
}

pub(crate) fn entries(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let folder = folder.as_ref();
    let listed = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = listed.map(|entry| folder.join(entry.expect("an entry").file_name())).collect();
    names.sort();
    names
}

impl Document {
    fn open(path: PathBuf) -> Self {
        let text = read(&path);
        Self { path, text }
    }

    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub(crate) fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            if let Some(language) = line.strip_prefix("```") {
                blocks.push(Block { language, lines: lines.by_ref().take_while(|line| *line != "```").collect() });
            }
        }
        blocks
    }

    /// The lines that are not in a block of code.
    pub(crate) fn prose(&self) -> impl Iterator<Item = &str> {
        let mut in_code = false;
        self.text.lines().filter(move |line| {
            in_code ^= line.starts_with("```");
            !in_code && !line.starts_with("```")
        })
    }
}

impl Block<'_> {
    /// The file that a piece of code names in its first line.
    pub(crate) fn file(&self) -> Option<&str> {
        let first = self.lines.first()?;
        first.strip_prefix("// ").or(first.strip_prefix("# ")).filter(|name| name.contains('.') && !name.contains(' '))
    }

    /// The piece itself.
    pub(crate) fn piece(&self) -> &[&str] {
        &self.lines[1..]
    }
}

/// Every kind of error has its line, and every knob its word.
#[test]
fn no_kind_and_no_knob_is_left_out() {
    let errors = read("docs/guide/errors.md");
    for kind in trespass::core::ErrorKind::ALL {
        assert!(errors.contains(&format!("\n| `{kind:?}` |")), "errors.md has no line for {kind:?}");
    }
    let tuning = read("docs/guide/tuning.md");
    let (mut fields, mut missing) = (0, Vec::new());
    for file in [
        "trespass-verbs/src/config.rs",
        "trespass-verbs/src/datagram/config.rs",
        "trespass-verbs/src/shared/config.rs",
        "trespass-carriers/src/config.rs",
        "trespass-carriers/src/stream/config.rs",
        "trespass-carriers/src/datagram/config.rs",
        "trespass-carriers/src/server/config.rs",
    ] {
        let source = read(file);
        let public = source.lines().filter_map(|line| Some(line.strip_prefix("    pub ")?.split_once(": ")?.0));
        for field in public.filter(|name| !name.contains(' ')) {
            fields += 1;
            if !tuning.contains(&format!("`{field}`")) {
                missing.push(format!("{field} of {file}"));
            }
        }
    }
    assert!(missing.is_empty(), "tuning.md says nothing of {}", missing.join(", "));
    assert!(fields > 50, "only {fields} settings were found");
}
