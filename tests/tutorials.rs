//! The code that the tutorials of `examples/` show is the code that runs: each block says where it is from, and is there.

use std::fs;
use std::path::Path;

/// The blocks of Rust in a document: the file that each names in its first line, and the rest.
fn blocks(document: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if line == "```rust" {
            let file = lines.next().and_then(|line| line.strip_prefix("// ")).expect("a block says where it is from");
            let code = lines.by_ref().take_while(|line| *line != "```").map(|line| line.trim().to_owned()).collect();
            blocks.push((file.to_owned(), code));
        }
    }
    blocks
}

#[test]
fn what_the_tutorials_show_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tutorials = [
        ("examples/custom_track/README.md", 5),
        ("examples/custom_carrier/README.md", 4),
        ("examples/rpc/README.md", 5),
        ("examples/tls/README.md", 4),
    ];
    for (tutorial, least) in tutorials {
        let blocks = blocks(&fs::read_to_string(root.join(tutorial)).expect("the tutorial"));
        assert!(blocks.len() >= least, "{tutorial} shows {} blocks", blocks.len());
        for (file, code) in blocks {
            let source =
                fs::read_to_string(root.join(&file)).unwrap_or_else(|error| panic!("{tutorial}: {file}: {error}"));
            let source: Vec<&str> = source.lines().map(str::trim).collect();
            let found = source.windows(code.len()).any(|window| window.iter().eq(code.iter()));
            assert!(!code.is_empty() && found, "{tutorial} shows what is not in {file}:\n{}", code.join("\n"));
        }
    }
}
