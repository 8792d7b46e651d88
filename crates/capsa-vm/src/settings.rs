//! What a host is made with: limits of one call, size of the pool, place of the cache.

use std::path::PathBuf;
use std::time::Duration;

use capsa_egress::GuardSettings;

/// What one call of a capsule may use, and what a component may be.
///
/// Every limit has its own error, so that an author can tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processor time of one call: instantiation, passing the arguments, the function itself and
    /// its clean-up. It is the thread's own time, so a busy machine does not eat it up.
    pub deadline: Duration,
    /// Linear memory of one instance, all its memories together.
    pub memory_bytes: usize,
    /// WebAssembly stack of one call. A thread that calls capsules needs as much native stack,
    /// and 256 KiB for the host.
    pub stack_bytes: usize,
    /// What a guest may hand to the host in one piece (the result of a function, one log
    /// message), counted as the host stores it: a list costs its elements, a string its bytes.
    pub output_bytes: usize,
    /// Log lines that are kept of one call.
    pub log_lines: usize,
    /// Bytes of log messages that are kept of one call.
    pub log_bytes: usize,
    /// Size of a component's file.
    pub component_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            // The slowest language measured, CPython in WebAssembly, takes 0.7 ms for a first
            // call; 50 ms leave it room on a slow machine and still free the thread quickly.
            deadline: Duration::from_millis(50),
            memory_bytes: 64 << 20,
            stack_bytes: 512 << 10,
            output_bytes: 1 << 20,
            log_lines: 64,
            log_bytes: 16 << 10,
            component_bytes: 64 << 20,
        }
    }
}

/// What a [`Host`](crate::Host) is made with.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// Where compiled components are kept between processes; `None` = nowhere.
    ///
    /// The directory must belong to this user and be writable by nobody else: its files are
    /// machine code that is run. It is created with mode 0700 where it is missing.
    pub cache_dir: Option<PathBuf>,
    /// Limits of every call.
    pub limits: Limits,
    /// How many calls may run at once, 1 to 1000. Further callers wait.
    pub instances: u32,
    /// How many calls of tools may run at once, 1 to 1000, besides. Most of them wait for something outside.
    pub tool_instances: u32,
    /// How many calls of tools may compute at once, at least 1.
    pub places: usize,
    /// How requests leave.
    pub egress: GuardSettings,
    /// How long a caller waits for one of the `instances` before it gets
    /// [`CallError::Busy`](crate::CallError::Busy).
    pub wait: Duration,
}

impl Default for HostSettings {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        HostSettings {
            cache_dir: None,
            limits: Limits::default(),
            instances: 64,
            tool_instances: 64,
            // One is left for everything else.
            places: processors.saturating_sub(1).max(1),
            egress: GuardSettings::default(),
            wait: Duration::from_secs(1),
        }
    }
}
