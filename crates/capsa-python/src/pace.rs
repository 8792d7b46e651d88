//! Whether the interpreter is released around a call.
//!
//! To get it back, a thread waits until another one gives it up: up to five milliseconds where that one computes. So
//! a call of a few microseconds keeps it, and one that takes longer gives it to the others meanwhile. Which of them a
//! capsule is shows only in use.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pyo3::Python;

/// A call that takes longer should have released the interpreter.
const LONG: Duration = Duration::from_micros(100);
/// From so many long calls more than short ones the interpreter is released: the others may be long because the machine
/// was busy, and to get the interpreter back would then take the longest.
const SLOW: u32 = 16;
/// So many are remembered at most.
const MOST: u32 = 2 * SLOW;

/// How long the calls of one capsule take.
#[derive(Debug, Default)]
pub struct Pace(AtomicU32);

impl Pace {
    /// Makes a call, with the interpreter released where such calls take long, or the sandbox knows that this one does.
    pub fn run<T: Send>(&self, py: Python<'_>, known_slow: bool, call: impl FnOnce() -> T + Send) -> T {
        let long_lately = self.0.load(Ordering::Relaxed);
        if known_slow || long_lately >= SLOW {
            let (answer, taken) = py.detach(|| timed(call));
            self.took(long_lately, taken);
            return answer;
        }
        let (answer, taken) = timed(call);
        self.took(long_lately, taken);
        answer
    }

    fn took(&self, before: u32, taken: Duration) {
        // Two threads at once may lose a count: it is a rule of thumb.
        let after = if taken > LONG { (before + 1).min(MOST) } else { before.saturating_sub(1) };
        self.0.store(after, Ordering::Relaxed);
    }
}

fn timed<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let answer = call();
    (answer, start.elapsed())
}
