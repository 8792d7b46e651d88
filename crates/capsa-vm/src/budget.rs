//! The memories and tables of one instance: what it may have, and whether it asked for more.

use wasmtime::ResourceLimiter;

use crate::grants::MAX_TABLE_ELEMENTS;

/// What a 32-bit memory can have.
const MAX_MEMORY_BYTES: usize = 4 << 30;
/// What a call may have that has to be over at once: nothing looks at the clock within an instruction, and `memory.fill` is one.
const INLINE_BYTES: usize = 4 << 20;

/// What a guest asked for and may not have.
pub(crate) enum Denied {
    /// Bytes of memory.
    Memory { limit: usize },
    /// Elements of tables.
    Elements { limit: u64 },
    /// So much memory that one instruction could work on it for longer than a call may take that has to be over at once.
    Inline,
}

/// Memory of one instance, all its memories together, and the elements of its tables.
pub(crate) struct MemoryBudget {
    used: usize,
    limit: usize,
    denied: bool,
    elements: u64,
    max_elements: u64,
    elements_denied: bool,
    /// Whether the call has to be over at once.
    inline: bool,
    inline_denied: bool,
}

impl MemoryBudget {
    pub(crate) fn new(limit: u64, max_elements: u64, inline: bool) -> MemoryBudget {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        MemoryBudget {
            used: 0,
            limit,
            denied: false,
            elements: 0,
            max_elements,
            elements_denied: false,
            inline,
            inline_denied: false,
        }
    }

    /// What the guest was denied, if anything.
    pub(crate) fn denied(&self) -> Option<Denied> {
        if self.inline_denied {
            Some(Denied::Inline)
        } else if self.denied {
            Some(Denied::Memory { limit: self.limit })
        } else if self.elements_denied {
            Some(Denied::Elements { limit: self.max_elements })
        } else {
            None
        }
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Beyond a maximum that the guest has set itself: not our denial. That of the pool's slots is.
        if maximum.is_some_and(|maximum| desired > maximum && maximum < MAX_MEMORY_BYTES) {
            return Ok(false);
        }
        let used = (self.used - current).saturating_add(desired);
        if used > self.limit {
            self.denied = true;
            return Ok(false);
        }
        if self.inline && used > INLINE_BYTES {
            self.inline_denied = true;
            // The guest is not asked how it would go on: the call is made again elsewhere.
            return Err(wasmtime::Error::msg("too much memory for a call that has to be over at once"));
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let pools = maximum.is_some_and(|maximum| desired > maximum);
        if pools && maximum.is_some_and(|maximum| maximum < MAX_TABLE_ELEMENTS) {
            return Ok(false);
        }
        let elements = (self.elements - current as u64).saturating_add(desired as u64);
        if pools || elements > self.max_elements {
            self.elements_denied = true;
            return Ok(false);
        }
        self.elements = elements;
        Ok(true)
    }
}
