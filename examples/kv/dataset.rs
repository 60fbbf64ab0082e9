//! What is loaded into the store: the files of a tree, each a key and its bytes the value.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One key and the value that it has at first.
pub(crate) struct Item {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Everything to load, shortest value first.
pub(crate) struct Dataset {
    pub(crate) items: Vec<Item>,
    /// Files that are not among the items, and why. Never silently.
    pub(crate) left_out: Vec<(PathBuf, String)>,
    /// Which items are no files but made up here.
    pub(crate) made_up: Vec<&'static str>,
}

/// What no user means by "this tree": version control and build output.
const SKIPPED: [&str; 2] = [".git", "target"];

const SEVERAL_MIB: usize = 4 << 20;

impl Dataset {
    /// Reads the files below `root`, each up to `longest` bytes. Keys begin with `prefix`. Symbolic links are not
    /// followed.
    pub(crate) fn read(root: &Path, prefix: &str, longest: usize) -> io::Result<Self> {
        let mut files = Vec::new();
        if root.is_dir() {
            find_files(root, &mut files)?;
        } else {
            files.push(root.to_path_buf());
        }
        let mut dataset = Self { items: Vec::new(), left_out: Vec::new(), made_up: Vec::new() };
        for path in files {
            let name = path.strip_prefix(root).unwrap_or(&path);
            let key = [prefix.as_bytes(), name.as_os_str().as_encoded_bytes()].concat();
            match read_file(&path, longest) {
                Ok(value) => dataset.items.push(Item { key, value }),
                Err(why) => dataset.left_out.push((path, why)),
            }
        }
        dataset.sort();
        Ok(dataset)
    }

    /// Adds an empty value and one of several MiB where no file is like that, so that both are always tried.
    pub(crate) fn fill_up(&mut self, prefix: &str) {
        if !self.items.iter().any(|item| item.value.is_empty()) {
            self.items.push(Item { key: format!("{prefix}made-up/empty").into_bytes(), value: Vec::new() });
            self.made_up.push("an empty value");
        }
        if !self.items.iter().any(|item| item.value.len() >= SEVERAL_MIB) {
            let value = (0..SEVERAL_MIB / 8).flat_map(|word| mix(word as u64).to_le_bytes()).collect();
            self.items.push(Item { key: format!("{prefix}made-up/4-MiB").into_bytes(), value });
            self.made_up.push("a value of 4 MiB");
        }
        self.sort();
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.value.len() as u64).sum()
    }

    /// Shortest first: an item's place is its popularity, and in real stores it is the short values that are popular.
    fn sort(&mut self) {
        self.items.sort_by(|a, b| (a.value.len(), &a.key).cmp(&(b.value.len(), &b.key)));
    }
}

fn find_files(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir() && !SKIPPED.iter().any(|name| entry.file_name() == *name) {
            find_files(&entry.path(), files)?;
        }
    }
    Ok(())
}

fn read_file(path: &Path, longest: usize) -> Result<Vec<u8>, String> {
    // The length is looked at first: a file that is too long may also be too long for this machine's memory.
    let len = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if len > longest as u64 {
        return Err(format!("{len} bytes, and {longest} are the most that a value can have"));
    }
    let value = fs::read(path).map_err(|error| error.to_string())?;
    if value.len() > longest {
        return Err("it grew while it was read".into());
    }
    Ok(value)
}

/// The finalizer of SplitMix64, one to one: bytes without a pattern, the same in every run.
pub(crate) fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
