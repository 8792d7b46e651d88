//! Who may run now: a bounded number of calls, the others wait in front of the pool.
//!
//! Invariant: at most `total` [`Slot`]s exist, so the pool of instances, which is made for as
//! many, is never exhausted.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

struct Counts {
    free: u32,
    waiting: u32,
}

/// The slots of one host.
pub(crate) struct Slots {
    counts: Mutex<Counts>,
    returned: Condvar,
    wait: Duration,
}

/// The right to run one call.
pub(crate) struct Slot<'a>(&'a Slots);

impl Slots {
    pub(crate) fn new(total: u32, wait: Duration) -> Slots {
        Slots { counts: Mutex::new(Counts { free: total, waiting: 0 }), returned: Condvar::new(), wait }
    }

    /// Takes a slot; `None` if all of them stayed taken for the whole waiting time.
    pub(crate) fn take(&self) -> Option<Slot<'_>> {
        let mut counts = self.counts();
        if counts.free == 0 {
            counts.waiting += 1;
            let (after, _) = self
                .returned
                .wait_timeout_while(counts, self.wait, |counts| counts.free == 0)
                .unwrap_or_else(PoisonError::into_inner);
            counts = after;
            counts.waiting -= 1;
            if counts.free == 0 {
                return None;
            }
        }
        counts.free -= 1;
        Some(Slot(self))
    }

    /// Takes a slot if one is free.
    pub(crate) fn take_now(&self) -> Option<Slot<'_>> {
        let mut counts = self.counts();
        if counts.free == 0 {
            return None;
        }
        counts.free -= 1;
        Some(Slot(self))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing panics while the lock is held, and two numbers cannot be left half changed.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut counts = self.0.counts();
        counts.free += 1;
        // Waking costs a system call even where nobody waits.
        if counts.waiting > 0 {
            self.0.returned.notify_one();
        }
    }
}
