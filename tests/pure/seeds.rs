//! The inputs that fuzzing has found, and those that it began with, given to its targets again.

use std::fs;
use std::path::Path;

use crate::fuzz::TARGETS;

#[test]
fn every_target_agrees_with_its_model_on_all_inputs_that_are_kept() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in TARGETS {
        let files = fs::read_dir(all.join(name)).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.collect();
        files.sort();
        assert!(!files.is_empty(), "no inputs for {name}");
        for file in files {
            // shown where it panics
            println!("{}", file.display());
            target(&fs::read(&file).unwrap());
        }
    }
}

/// A target is a function, a binary and a folder: none is left out, and none is left over.
#[test]
fn every_target_has_a_binary_and_a_folder() {
    let names = |folder: &str| {
        let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
        let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_string();
        let mut names: Vec<_> = files.map(|file| name(&file.unwrap().path())).collect();
        names.sort();
        names
    };
    let expected = TARGETS.map(|(name, _)| name);
    assert_eq!(names("fuzz/fuzz_targets"), expected);
    assert_eq!(names("fuzz/seeds"), expected);
}
