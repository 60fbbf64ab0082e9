//! What the fuzzer keeps, as an ordinary test: every input in `fuzz/corpus` (which is where past failures are, too), without
//! libFuzzer.

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "public where it is a crate of its own")]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

/// All of it together has to stay small: it is part of the repository.
const MOST_FILES: usize = 800;
const MOST_BYTES: usize = 256 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

fn inputs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    inputs
}

/// One test for each target, so that they run side by side and a failure names its target; the input is in what it says.
macro_rules! replay {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                let inputs = inputs(&corpus().join(stringify!($target)));
                assert!(inputs.len() > 5, "what was kept of {} is lost", stringify!($target));
                for input in inputs {
                    println!("{}", input.display());
                    targets::$target(&fs::read(&input).unwrap());
                }
            }
        )*

        /// Nothing lies there that nobody replays.
        #[test]
        fn every_input_belongs_to_a_target() {
            assert_eq!(targets::TARGETS, [$(stringify!($target)),*]);
            let (mut files, mut bytes) = (0, 0);
            for folder in inputs(&corpus()) {
                let name = folder.file_name().unwrap().to_str().unwrap();
                assert!(targets::TARGETS.contains(&name), "{name} is no target");
                for input in inputs(&folder) {
                    files += 1;
                    bytes += fs::metadata(input).unwrap().len() as usize;
                }
            }
            assert!(files <= MOST_FILES && bytes <= MOST_BYTES, "{files} files of {bytes} bytes: minimise them");
        }
    };
}

replay!(decoders inbox assembly messages rendezvous streams datagrams);
