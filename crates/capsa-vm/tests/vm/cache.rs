//! The cache on disk: used again, never trusted when anything about it is off.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use capsa_vm::{CacheDirError, Host, HostError, HostSettings, Origin};

use crate::guests::{Guest, assert_still_serves};

fn host_at(dir: &Path) -> Result<Host, HostError> {
    Host::new(&HostSettings { cache_dir: Some(dir.to_owned()), ..HostSettings::default() })
}

/// How a new host gets the good guest's machine code; it must work in any case.
fn origin(dir: &Path) -> Origin {
    let host = host_at(dir).unwrap();
    let component = host.load(&Guest::default().component()).unwrap();
    assert_eq!(component.reward(&[], &[]).unwrap().reward, 0.5);
    component.origin().clone()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_second_host_takes_what_the_first_one_compiled() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("not/yet/there");
    assert_eq!(origin(&dir), Origin::Compiled);
    assert_eq!(origin(&dir), Origin::Cached);
    let files = files(&dir);
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!((mode(&dir), mode(&files[0])), (0o700, 0o600));
}

#[test]
fn a_changed_file_is_compiled_again_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(origin(dir.path()), Origin::Compiled);
    let file = files(dir.path()).remove(0);
    let whole = fs::read(&file).unwrap();

    let changed_at = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let wrong = [
        ("empty", Vec::new()),
        ("cut off in the header", whole[..40].to_vec()),
        ("cut off in the code", whole[..whole.len() - 1].to_vec()),
        ("longer", [whole.as_slice(), b"x"].concat()),
        ("another format", changed_at(0)),
        ("another key", changed_at(20)),
        ("another checksum", changed_at(60)),
        ("other code", changed_at(whole.len() / 2)),
        ("a last byte", changed_at(whole.len() - 1)),
    ];
    for (what, bytes) in wrong {
        fs::write(&file, bytes).unwrap();
        assert_eq!(origin(dir.path()), Origin::Compiled, "{what}");
        assert_eq!(origin(dir.path()), Origin::Cached, "after {what}");
    }
}

#[test]
fn another_components_intact_file_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(origin(dir.path()), Origin::Compiled);
    let ours = files(dir.path()).remove(0);
    let other = Guest { reward: "unreachable", ..Guest::default() };
    host_at(dir.path()).unwrap().load(&other.component()).unwrap();
    let theirs = files(dir.path()).into_iter().find(|file| *file != ours).unwrap();
    fs::copy(theirs, &ours).unwrap();
    assert_eq!(origin(dir.path()), Origin::Compiled);
}

#[test]
fn a_cache_that_cannot_be_written_is_reported_and_does_not_stop_anything() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("cache");
    let host = host_at(&dir).unwrap();
    fs::remove_dir(&dir).unwrap();
    let component = host.load(&Guest::default().component()).unwrap();
    assert!(matches!(component.origin(), Origin::NotKept { .. }), "{:?}", component.origin());
    assert_still_serves(&host);
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for open_mode in [0o770, 0o702] {
        fs::set_permissions(dir.path(), Permissions::from_mode(open_mode)).unwrap();
        let error = host_at(dir.path()).unwrap_err();
        assert!(
            matches!(&error, HostError::CacheDir(CacheDirError::WritableByOthers { mode, .. }) if *mode == open_mode),
            "{error}"
        );
    }
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    host_at(dir.path()).unwrap();
}

#[test]
fn a_file_in_the_place_of_the_directory_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = host_at(file.path()).unwrap_err();
    assert!(matches!(error, HostError::CacheDir(CacheDirError::NotADirectory { .. })), "{error}");
}
