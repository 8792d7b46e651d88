//! A loaded component, ready for calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use wasmtime::component::{ComponentExportIndex, InstancePre};

use crate::call::CallState;
use crate::host::Shared;

/// Where a component's machine code came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// From the cache on disk.
    Cached,
    /// Compiled now, and kept in the cache if there is one.
    Compiled,
    /// Compiled now, and not kept: the cache could not be written.
    NotKept {
        /// What the system said.
        reason: String,
    },
}

/// A decision capsule's component that has passed every check of [`Host::load`](crate::Host::load).
///
/// Cheap to clone, and used by any number of threads at once. It keeps its host's pool alive.
#[derive(Clone)]
pub struct Component(Arc<Loaded>);

pub(crate) struct Loaded {
    pub(crate) digest: String,
    pub(crate) origin: Origin,
    pub(crate) pre: InstancePre<CallState>,
    pub(crate) frame: ComponentExportIndex,
    pub(crate) reward: ComponentExportIndex,
    pub(crate) shared: Arc<Shared>,
    /// Whether a call took longer than one may that has to be over at once.
    pub(crate) slow: AtomicBool,
}

impl Component {
    pub(crate) fn new(loaded: Loaded) -> Component {
        Component(Arc::new(loaded))
    }

    /// `b2:` and the BLAKE2b-256 of the component's bytes in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Where the machine code came from.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// Whether a call of it took longer than one may that has to be over at once.
    pub fn is_slow(&self) -> bool {
        self.0.slow.load(Relaxed)
    }

    pub(crate) fn was_slow(&self) {
        self.0.slow.store(true, Relaxed);
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    pub(crate) fn pre(&self) -> &InstancePre<CallState> {
        &self.0.pre
    }

    pub(crate) fn frame_export(&self) -> &ComponentExportIndex {
        &self.0.frame
    }

    pub(crate) fn reward_export(&self) -> &ComponentExportIndex {
        &self.0.reward
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component").field("digest", &self.0.digest).field("origin", &self.0.origin).finish()
    }
}
