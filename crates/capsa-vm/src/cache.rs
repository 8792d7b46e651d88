//! Compiled components on disk, so that a process does not compile what an earlier one did.
//!
//! A file is named by what its contents depend on: the component, the engine's settings with
//! wasmtime's version and the processor's features, and the version of this format.
//!
//! Invariants:
//! * the directory belongs to this user and nobody else can write to it;
//! * bytes are handed out only if the whole file is as it was written, under this very key;
//! * a file appears with all of its bytes or not at all.

use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use blake2::Digest;
use wasmtime::Engine;

use crate::digest::{Blake2b256, hex};

/// Begins every file; the number is the version of this format.
const MAGIC: &[u8; 16] = b"capsa cwasm   01";
const HASH_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + 2 * HASH_BYTES;

/// Why a directory cannot hold compiled components.
#[derive(Debug, thiserror::Error)]
pub enum CacheDirError {
    /// It cannot be made or looked at.
    #[error("the cache directory {path:?} cannot be used: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else has the name.
    #[error("the cache directory {path:?} is not a directory")]
    NotADirectory {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody else's directory: its files could be anything.
    #[error("the cache directory {path:?} belongs to user {owner}, not to this user ({user})")]
    ForeignOwner {
        /// The directory.
        path: PathBuf,
        /// Its owner's number.
        owner: u32,
        /// This process's effective user number.
        user: u32,
    },
    /// Others could put machine code into it.
    #[error("the cache directory {path:?} is writable by others (mode {mode:04o}); it needs mode 0700")]
    WritableByOthers {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// A directory of compiled components.
pub(crate) struct Cache {
    dir: PathBuf,
    /// Hash of everything but the component that the machine code depends on.
    engine_hash: [u8; HASH_BYTES],
}

/// Bytes of a compiled component that this module wrote and that have not changed since.
pub(crate) struct Kept(Vec<u8>);

impl Kept {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[HEADER_BYTES..]
    }
}

impl Cache {
    /// Opens the directory for one engine; makes it with mode 0700 where it is missing.
    pub(crate) fn open(dir: &Path, engine: &Engine) -> Result<Cache, CacheDirError> {
        let io_error = |source| CacheDirError::Io { path: dir.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => CacheDirError::NotADirectory { path: dir.to_owned() },
            _ => io_error(source),
        })?;
        let metadata = std::fs::metadata(dir).map_err(io_error)?;
        // SAFETY: the call has no arguments, writes no memory and cannot fail.
        let user = unsafe { libc::geteuid() };
        check_owner(dir, metadata.uid(), user)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(CacheDirError::WritableByOthers { path: dir.to_owned(), mode });
        }
        let mut hasher = HashInto(Blake2b256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Cache { dir: dir.to_owned(), engine_hash: hasher.0.finalize().into() })
    }

    /// The compiled form of the component with this digest, if it was kept and is intact.
    pub(crate) fn read(&self, component_digest: &str) -> Option<Kept> {
        let key = self.key(component_digest);
        let file = std::fs::read(self.path(&key)).ok()?;
        let (header, code) = file.split_at_checked(HEADER_BYTES)?;
        (header == make_header(&key, code)).then_some(Kept(file))
    }

    /// Keeps the compiled form of the component with this digest.
    pub(crate) fn write(&self, component_digest: &str, code: &[u8]) -> io::Result<()> {
        let key = self.key(component_digest);
        // A temporary file has mode 0600 and goes away if it is not renamed.
        let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(&self.dir)?;
        file.write_all(&make_header(&key, code))?;
        file.write_all(code)?;
        file.persist(self.path(&key))?;
        Ok(())
    }

    fn key(&self, component_digest: &str) -> [u8; HASH_BYTES] {
        Blake2b256::new()
            .chain_update(MAGIC)
            .chain_update(self.engine_hash)
            .chain_update(component_digest)
            .finalize()
            .into()
    }

    fn path(&self, key: &[u8; HASH_BYTES]) -> PathBuf {
        self.dir.join(format!("{}.cwasm", hex(key)))
    }
}

fn check_owner(dir: &Path, owner: u32, user: u32) -> Result<(), CacheDirError> {
    if owner == user { Ok(()) } else { Err(CacheDirError::ForeignOwner { path: dir.to_owned(), owner, user }) }
}

fn make_header(key: &[u8; HASH_BYTES], code: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..16].copy_from_slice(MAGIC);
    header[16..48].copy_from_slice(key);
    header[48..].copy_from_slice(&Blake2b256::new().chain_update(key).chain_update(code).finalize());
    header
}

/// Feeds what is hashed into BLAKE2b; the std hashers make 64 bits, too few for a name.
struct HashInto(Blake2b256);

impl Hasher for HashInto {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("the digest is taken from the field")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let refused = check_owner(Path::new("/var/cache/capsa"), 0, 1000);
        assert!(
            matches!(&refused, Err(error) if error.to_string()
                == "the cache directory \"/var/cache/capsa\" belongs to user 0, not to this user (1000)"),
            "{refused:?}"
        );
    }
}
