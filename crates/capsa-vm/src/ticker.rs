//! The thread that makes running guests look at the clock.
//!
//! It advances the engine's epoch once a millisecond while calls run; a guest that notices asks
//! `call::on_tick` whether its processor time is used up.
//!
//! Invariants:
//! * while a call is counted as running, the epoch advances;
//! * two ticks are at least [`TICK`] apart, so a guest's time cannot run out early;
//! * without calls the thread sleeps, and it ends after its `Ticker` is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// The shortest time between two ticks.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// How many ticks without a running call pass before the thread goes to sleep. Waking it costs
/// the next caller some microseconds, so short pauses do not count.
const IDLE_TICKS: u32 = 64;

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stopped: AtomicBool,
}

/// Owns the ticking thread.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

/// While this lives, one call counts as running.
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    /// Starts the thread for one engine.
    pub(crate) fn start(engine: Engine) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        // The handle is not kept for joining: in a forked child the thread does not exist, and
        // waiting for it there would never end.
        let handle = thread::Builder::new()
            .name("capsa-ticker".to_owned())
            .stack_size(64 << 10)
            .spawn(move || tick(&engine, &for_thread))?;
        Ok(Ticker { shared, thread: handle.thread().clone() })
    }

    /// Counts one call as running until the result is dropped.
    pub(crate) fn running(&self) -> Running<'_> {
        // First counted, then looked: the thread announces its sleep first and looks at the
        // count afterwards, so one of the two sees the other.
        self.shared.running.fetch_add(1, SeqCst);
        if self.shared.asleep.load(SeqCst) {
            self.thread.unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        self.thread.unpark();
    }
}

fn tick(engine: &Engine, shared: &Shared) {
    let mut idle_ticks = 0;
    while !shared.stopped.load(SeqCst) {
        if shared.running.load(SeqCst) > 0 {
            idle_ticks = 0;
        } else {
            idle_ticks += 1;
        }
        if idle_ticks > IDLE_TICKS {
            shared.asleep.store(true, SeqCst);
            if shared.running.load(SeqCst) == 0 && !shared.stopped.load(SeqCst) {
                thread::park();
            }
            shared.asleep.store(false, SeqCst);
            idle_ticks = 0;
        }
        thread::sleep(TICK);
        engine.increment_epoch();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::time::Instant;

    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < end, "{what}");
            thread::yield_now();
        }
    }

    #[test]
    fn the_thread_sleeps_without_calls_wakes_for_one_and_ends_with_its_owner() {
        let engine = Engine::default();
        let ticker = Ticker::start(engine.clone()).unwrap();
        let shared = Arc::clone(&ticker.shared);
        wait_until("falls asleep", || shared.asleep.load(SeqCst));

        let running = ticker.running();
        wait_until("wakes up", || !shared.asleep.load(SeqCst));
        drop(running);

        wait_until("falls asleep again", || shared.asleep.load(SeqCst));
        drop(ticker);
        // This test's reference is the last one when the thread has ended.
        wait_until("ends", || Arc::strong_count(&shared) == 1);
    }
}
