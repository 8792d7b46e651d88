//! The files of one capsule: a directory of its own, and nothing above it.
//!
//! Invariants:
//! * no path leads out of the directory, whatever it says and whatever links stand in it (`cap-std` resolves it part by
//!   part, below an open directory);
//! * a file is written whole or not at all, as far as the process goes: nothing waits for the disk;
//! * what is written stays within the quota.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentType, Lower};

use crate::grants::{Access, FilesGrant};
use crate::outside::HostError;

const MAX_PATH_BYTES: usize = 1024;
const MAX_PARTS: usize = 16;
const MAX_PART_BYTES: usize = 255;
/// Begins the names of files that are not yet written whole.
const WRITING: &str = ".capsa-writing-";

/// A directory of one capsule. Shared by its calls.
#[derive(Debug)]
pub struct Files {
    dir: Dir,
    used: Mutex<Used>,
    /// Tells the names of what is being written from those of any other that has the directory open.
    own: u64,
}

#[derive(Debug, Default)]
struct Used {
    bytes: u64,
    files: u64,
    /// Numbers the files that are being written.
    written: u64,
}

/// What is in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Entry {
    name: String,
    directory: bool,
    size: u64,
}

impl Files {
    /// Opens the directory, and makes it where it is missing.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    pub fn open(path: &Path) -> io::Result<Files> {
        std::fs::create_dir_all(path)?;
        let dir = Dir::open_ambient_dir(path, ambient_authority())?;
        let mut used = Used::default();
        count(&dir, &mut used, 0)?;
        let own = RandomState::new().hash_one(std::process::id());
        Ok(Files { dir, used: Mutex::new(used), own })
    }

    pub(crate) fn read(&self, path: &str, most: u64) -> Result<Vec<u8>, HostError> {
        let path = self.checked(path, false)?;
        let size = self.regular(path)?;
        if size > most {
            return Err(HostError::TooLarge(format!("the file has {size} bytes, at most {most} are read")));
        }
        let file = self.dir.open(path).map_err(|error| told(&error))?;
        let mut content = Vec::new();
        // It may grow meanwhile.
        file.take(most).read_to_end(&mut content).map_err(|error| told(&error))?;
        Ok(content)
    }

    pub(crate) fn write(&self, path: &str, content: &[u8], grant: &FilesGrant) -> Result<(), HostError> {
        may_write(grant)?;
        let path = self.checked(path, false)?;
        let mut used = self.used();
        let (parent, _) = path.rsplit_once('/').unwrap_or(("", path));
        let before = match self.dir.symlink_metadata(path) {
            Ok(found) if found.is_file() => Some(found.len()),
            Ok(_) => return Err(HostError::Invalid("there is something else than a file under this path".to_owned())),
            Err(_) => None,
        };
        let new_bytes = used.bytes - before.unwrap_or(0).min(used.bytes) + content.len() as u64;
        let new_dirs = self.missing_directories(parent);
        let new_files = used.files + u64::from(before.is_none()) + new_dirs;
        if new_bytes > grant.max_bytes && content.len() as u64 > before.unwrap_or(0) {
            return Err(HostError::TooLarge(format!("all files together may have {} bytes", grant.max_bytes)));
        }
        if new_files > grant.max_files && new_files > used.files {
            return Err(HostError::TooLarge(format!("there may be {} files and directories", grant.max_files)));
        }
        if !parent.is_empty() {
            self.dir.create_dir_all(parent).map_err(|error| told(&error))?;
            used.files += new_dirs;
        }
        used.written += 1;
        let writing = if parent.is_empty() { String::new() } else { format!("{parent}/") }
            + &format!("{WRITING}{:016x}-{}", self.own, used.written);
        self.write_new(&writing, content).and_then(|()| self.dir.rename(&writing, &self.dir, path)).map_err(
            |error| {
                // Nothing of it stays; that it cannot be removed is for the next start to see.
                let _ = self.dir.remove_file(&writing);
                told(&error)
            },
        )?;
        used.bytes = new_bytes;
        used.files += u64::from(before.is_none());
        Ok(())
    }

    pub(crate) fn remove(&self, path: &str, grant: &FilesGrant) -> Result<(), HostError> {
        may_write(grant)?;
        let path = self.checked(path, false)?;
        let mut used = self.used();
        let found = self.dir.symlink_metadata(path).map_err(|error| told(&error))?;
        if found.is_dir() {
            self.dir.remove_dir(path).map_err(|error| told(&error))?;
        } else {
            self.dir.remove_file(path).map_err(|error| told(&error))?;
            used.bytes = used.bytes.saturating_sub(found.len());
        }
        used.files = used.files.saturating_sub(1);
        Ok(())
    }

    pub(crate) fn entries(&self, path: &str) -> Result<Vec<Entry>, HostError> {
        let path = self.checked(path, true)?;
        let dir = if path.is_empty() { self.dir.entries() } else { self.dir.read_dir(path) };
        let mut entries = Vec::new();
        for entry in dir.map_err(|error| told(&error))? {
            let entry = entry.map_err(|error| told(&error))?;
            // Not a name that a capsule could ask for.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(found) = entry.metadata() else { continue };
            if name.starts_with(WRITING) || !(found.is_file() || found.is_dir()) {
                continue;
            }
            let size = if found.is_dir() { 0 } else { found.len() };
            entries.push(Entry { name, directory: found.is_dir(), size });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// A path as it may be asked for, with no link in it: a capsule cannot make any, so somebody else did.
    fn checked<'a>(&self, path: &'a str, may_be_empty: bool) -> Result<&'a str, HostError> {
        let path = checked(path, may_be_empty)?;
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends.filter(|end| *end > 0) {
            if self.dir.symlink_metadata(&path[..end]).is_ok_and(|found| found.is_symlink()) {
                return Err(HostError::denied("path", "the path leads over a link"));
            }
        }
        Ok(path)
    }

    fn write_new(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut file = self.dir.open_with(path, OpenOptions::new().write(true).create_new(true))?;
        file.write_all(content)
    }

    /// The size of a regular file: opening anything else, such as a pipe that an operator put there, could block.
    fn regular(&self, path: &str) -> Result<u64, HostError> {
        let found = self.dir.metadata(path).map_err(|error| told(&error))?;
        if found.is_file() { Ok(found.len()) } else { Err(HostError::Invalid("this is not a file".to_owned())) }
    }

    fn missing_directories(&self, parent: &str) -> u64 {
        let ends = parent.match_indices('/').map(|(at, _)| at).chain((!parent.is_empty()).then_some(parent.len()));
        ends.filter(|end| !self.dir.is_dir(&parent[..*end])).count() as u64
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        // Numbers only: a panic elsewhere leaves them as they are.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts what is there, and removes what was never written whole.
fn count(dir: &Dir, used: &mut Used, depth: usize) -> io::Result<()> {
    for entry in dir.entries()? {
        let entry = entry?;
        let found = entry.metadata()?;
        if entry.file_name().to_string_lossy().starts_with(WRITING) {
            entry.remove_file()?;
            continue;
        }
        used.files += 1;
        if found.is_dir() && depth < MAX_PARTS {
            count(&entry.open_dir()?, used, depth + 1)?;
        } else if found.is_file() {
            used.bytes += found.len();
        }
    }
    Ok(())
}

fn may_write(grant: &FilesGrant) -> Result<(), HostError> {
    match grant.access {
        Access::ReadWrite => Ok(()),
        Access::Read => Err(HostError::denied("files-access", "files may only be read")),
    }
}

/// A path as it may be asked for: relative, and without anything that could lead elsewhere.
fn checked(path: &str, may_be_empty: bool) -> Result<&str, HostError> {
    let denied = |detail: &str| Err(HostError::denied("path", detail));
    if path.is_empty() {
        return if may_be_empty { Ok(path) } else { Err(HostError::Invalid("the path is empty".to_owned())) };
    }
    if path.len() > MAX_PATH_BYTES || path.split('/').count() > MAX_PARTS {
        return Err(HostError::Invalid(format!("a path has at most {MAX_PATH_BYTES} bytes and {MAX_PARTS} parts")));
    }
    if path.starts_with('/') {
        return denied("a path begins in the capsule's own directory, not with /");
    }
    for part in path.split('/') {
        if part == ".." {
            return denied("a path may not hold ..");
        }
        if part.is_empty() || part == "." || part.len() > MAX_PART_BYTES || part.contains(|c: char| c.is_control()) {
            return Err(HostError::Invalid(
                "each part of a path has 1 to 255 bytes, no control characters, and is not . alone".to_owned(),
            ));
        }
        if part.starts_with(WRITING) {
            return Err(HostError::Invalid(format!("names that begin with {WRITING} are the host's")));
        }
    }
    Ok(path)
}

/// What the system said, in a way that tells nothing of what lies outside.
fn told(error: &io::Error) -> HostError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            HostError::NotFound("there is nothing under this path".to_owned())
        }
        io::ErrorKind::PermissionDenied => HostError::denied("path", "the path leads out of the capsule's directory"),
        io::ErrorKind::DirectoryNotEmpty => HostError::Invalid("the directory is not empty".to_owned()),
        io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => {
            HostError::Invalid("there is something else under this path".to_owned())
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => HostError::Failed("the disk is full".to_owned()),
        kind => HostError::Failed(format!("the file system failed: {kind}")),
    }
}
