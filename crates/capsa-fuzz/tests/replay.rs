//! Every seed through its target, and mutations of them that are the same in every run.

use std::path::{Path, PathBuf};

use capsa_fuzz::mutate::{Chooser, mutated};
use capsa_fuzz::{TARGETS, Target, target};

fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has seeds", folder.display());
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a seed can be read"))).collect()
}

/// Runs one target over its seeds and as many mutations as it says, and tells which input it was that failed.
fn replay(name: &str) {
    let Target { run, mutations, .. } = target(name).expect("there is such a target");
    let seeds = seeds(name);
    let checked = |from: &dyn std::fmt::Display, input: &[u8]| {
        let outcome = std::panic::catch_unwind(|| run(input));
        assert!(outcome.is_ok(), "{name}: {from}: {}", capsa_core::cbor::hex("", input));
    };
    for (path, seed) in &seeds {
        checked(&path.display(), seed);
    }
    for number in 0..mutations {
        let mut chooser = Chooser::new(number);
        let (_, seed) = &seeds[chooser.below(seeds.len())];
        let (_, other) = &seeds[chooser.below(seeds.len())];
        checked(&format!("mutation {number}"), &mutated(seed, other, &mut chooser));
    }
}

#[test]
fn components() {
    replay("component");
}

#[test]
fn tools() {
    replay("tool");
}

#[test]
fn policies() {
    replay("grants");
}

#[test]
fn urls() {
    replay("url");
}

#[test]
fn ids() {
    replay("id");
}

#[test]
fn stored_bytes() {
    replay("cbor");
}

#[test]
fn every_target_has_seeds_and_every_folder_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let mut folders: Vec<_> = std::fs::read_dir(folder)
        .expect("there are seeds")
        .map(|entry| entry.expect("the folder can be read").file_name().into_string().expect("a plain name"))
        .collect();
    folders.sort();
    let mut names: Vec<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    names.sort();
    assert_eq!(folders, names);
}
