//! The replay of the corpus that is committed, without a fuzzer.

use std::{fs, path::Path};

use super::TARGETS;

#[test]
fn every_input_of_the_corpus_holds() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    // The published package has no corpus.
    if !fuzz.exists() {
        return;
    }
    for (name, target) in TARGETS {
        let folder = fuzz.join("corpus").join(name);
        let inputs = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut count = 0;
        for input in inputs {
            let path = input.unwrap().path();
            // The panic of a target does not say which input it was.
            println!("{}", path.display());
            target(&fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name} has no corpus");
    }
    let folders = fs::read_dir(fuzz.join("corpus")).unwrap().count();
    assert_eq!(folders, TARGETS.len(), "a corpus of no target");
}
