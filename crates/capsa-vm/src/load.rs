//! From bytes to a component that is ready for calls.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use capsa_core::nesting::{MAX_NESTING, nests_too_deep};
use wasmtime::Engine;
use wasmtime::component::Component as Compiled;

use crate::cache::Cache;
use crate::component::{Component, Loaded, Origin};
use crate::digest;
use crate::host::{Host, Shared};
use crate::instances::{self, MAX_INSTANCES};
use crate::world;

/// What every WebAssembly binary begins with.
const MAGIC: &[u8] = b"\0asm";
/// The version and layer that follow in a core module, and in a component.
const CORE_MODULE: &[u8] = &[0x01, 0x00, 0x00, 0x00];
const COMPONENT: &[u8] = &[0x0d, 0x00, 0x01, 0x00];

/// Why bytes are not a component of the decision world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file is too big.
    #[error("the component has {bytes} bytes, at most {limit} are accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// [`Limits::component_bytes`](crate::Limits::component_bytes).
        limit: usize,
    },
    /// Text, an archive, an empty file, …
    #[error("this is not WebAssembly: the bytes do not begin with `\\0asm`")]
    NotWasm,
    /// A module that was not made into a component.
    #[error("this is a core WebAssembly module, not a component: `wasm-tools component new` makes one of it")]
    CoreModule,
    /// A component of another binary version.
    #[error("this is not a component of a known version: the header says {header:02x?}, expected {COMPONENT:02x?}")]
    UnknownVersion {
        /// The four bytes after `\0asm`; fewer if the file ends there.
        header: Vec<u8>,
    },
    /// It does not validate, or uses proposals that are switched off.
    #[error("the component is invalid: {reason}")]
    Invalid {
        /// What wasmtime says.
        reason: String,
    },
    /// It needs more tables, memories or instance data than an instance can have.
    #[error("the component needs too much: {reason}")]
    TooDemanding {
        /// Of what.
        reason: String,
    },
    /// A memory begins larger than an instance's memory may get.
    #[error("the component begins with {needs} bytes of memory, at most {limit} are allowed")]
    MemoryTooLarge {
        /// Size of its largest memory.
        needs: u64,
        /// [`Limits::memory_bytes`](crate::Limits::memory_bytes).
        limit: usize,
    },
    /// A function of the world is missing.
    #[error("this is not a {world} capsule: it does not export `{export}`")]
    MissingExport {
        /// The world.
        world: &'static str,
        /// Its name.
        export: &'static str,
    },
    /// A function of the world has other types.
    #[error("this is not a {world} capsule: its export `{export}` has the wrong type: {reason}")]
    WrongExport {
        /// The world.
        world: &'static str,
        /// Its name.
        export: &'static str,
        /// The difference.
        reason: String,
    },
    /// It wants something that the world does not offer.
    #[error("the component imports the {kind} `{import}`, which the {world} world does not offer")]
    RefusedImport {
        /// The world.
        world: &'static str,
        /// Its name; `interface#name` inside an interface.
        import: String,
        /// What it is.
        kind: &'static str,
    },
    /// It imports something of the world with another type.
    #[error("the component's imports do not fit the {world} world: {reason}")]
    WrongImport {
        /// The world.
        world: &'static str,
        /// The difference.
        reason: String,
    },
}

impl Host {
    /// Compiles a component, or takes it from the cache, and checks that it is a decision capsule.
    ///
    /// Compiling takes from milliseconds (YAML, Rust) to many seconds (Python guests).
    ///
    /// # Errors
    ///
    /// [`LoadError`] if the bytes are no component, not one of the decision world, import
    /// anything that the world does not offer, or need more than the limits.
    pub fn load(&self, bytes: &[u8]) -> Result<Component, LoadError> {
        let shared = self.shared();
        let (digest, compiled, origin) = shared.compile(&shared.engine, shared.cache.as_ref(), bytes)?;
        let exports = world::check(&shared.engine, &compiled, &shared.limits)?;
        let pre = self
            .linker()
            .instantiate_pre(&compiled)
            .map_err(|error| LoadError::WrongImport { world: "decision", reason: format!("{error:#}") })?;
        Ok(Component::new(Loaded {
            digest,
            origin,
            pre,
            frame: exports.frame,
            reward: exports.reward,
            shared: Arc::clone(shared),
            slow: AtomicBool::new(false),
        }))
    }
}

impl Shared {
    /// The component's digest, its machine code, and where that came from.
    pub(crate) fn compile(
        &self,
        engine: &Engine,
        cache: Option<&Cache>,
        bytes: &[u8],
    ) -> Result<(String, Compiled, Origin), LoadError> {
        check_header(bytes, self.limits.component_bytes)?;
        if nests_too_deep(bytes) {
            return Err(LoadError::TooDemanding { reason: format!("components nest in it deeper than {MAX_NESTING}") });
        }
        if instances::count(bytes).is_some_and(|made| made > MAX_INSTANCES) {
            let reason =
                format!("a call of it makes more than {MAX_INSTANCES} instances, or of components that it takes");
            return Err(LoadError::TooDemanding { reason });
        }
        let digest = digest::of(bytes);
        let (compiled, origin) = compile_or_take(engine, cache, &digest, bytes)?;
        Ok((digest, compiled, origin))
    }
}

fn check_header(bytes: &[u8], limit: usize) -> Result<(), LoadError> {
    if bytes.len() > limit {
        return Err(LoadError::TooLarge { bytes: bytes.len(), limit });
    }
    let rest = bytes.strip_prefix(MAGIC).ok_or(LoadError::NotWasm)?;
    match &rest[..rest.len().min(4)] {
        COMPONENT => Ok(()),
        CORE_MODULE => Err(LoadError::CoreModule),
        other => Err(LoadError::UnknownVersion { header: other.to_vec() }),
    }
}

fn compile_or_take(
    engine: &Engine,
    cache: Option<&Cache>,
    digest: &str,
    bytes: &[u8],
) -> Result<(Compiled, Origin), LoadError> {
    if let Some(kept) = cache.and_then(|cache| cache.read(digest)) {
        // SAFETY: these bytes were made by `serialize` below and are unchanged: `Cache::read`
        // has compared them with the checksum under a key that stands for this component, these
        // settings and this version of wasmtime, and nobody but this user can write to the
        // directory, which `Cache::open` has checked.
        if let Ok(compiled) = unsafe { Compiled::deserialize(engine, kept.bytes()) } {
            return Ok((compiled, Origin::Cached));
        }
    }
    let compiled = Compiled::from_binary(engine, bytes).map_err(|error| not_compiled(&error))?;
    let written = match cache {
        Some(cache) => compiled.serialize().map_err(std::io::Error::other).and_then(|code| cache.write(digest, &code)),
        None => Ok(()),
    };
    let origin = match written {
        Ok(()) => Origin::Compiled,
        Err(error) => Origin::NotKept { reason: error.to_string() },
    };
    Ok((compiled, origin))
}

fn not_compiled(error: &wasmtime::Error) -> LoadError {
    let reason = format!("{error:#}");
    // wasmtime has no type for what does not fit into a slot of the pool.
    if reason.contains("pooling allocator") {
        LoadError::TooDemanding { reason }
    } else {
        LoadError::Invalid { reason }
    }
}
