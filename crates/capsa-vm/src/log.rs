//! The capsule's log: what one call may say, and how much of it is kept.

use wasmtime::component::{ComponentType, Lift, WasmStr};
use wasmtime::{Result, StoreContextMut};

use crate::call::CallState;

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub enum Level {
    /// For the author alone.
    #[component(name = "debug")]
    Debug,
    /// Worth reading.
    #[component(name = "info")]
    Info,
    /// Something is not as it should be.
    #[component(name = "warn")]
    Warn,
    /// Something went wrong.
    #[component(name = "error")]
    Error,
}

/// One line that a capsule logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// What it says. Written by the guest: it may hold control characters.
    pub message: String,
}

/// What one call logged, within the limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// The first lines, in order.
    pub lines: Vec<LogLine>,
    /// How many further lines were dropped because a limit was reached. A line that does not fit
    /// is dropped whole, and so is every line after it.
    pub dropped: u64,
}

/// The log of a running call and what it may still take up.
pub(crate) struct LogBudget {
    log: Log,
    lines_left: usize,
    bytes_left: usize,
}

impl LogBudget {
    pub(crate) fn of(lines: u64, bytes: u64) -> LogBudget {
        let size = |limit| usize::try_from(limit).unwrap_or(usize::MAX);
        LogBudget { log: Log::default(), lines_left: size(lines), bytes_left: size(bytes) }
    }

    pub(crate) fn into_log(self) -> Log {
        self.log
    }
}

/// The host function `log`.
pub(crate) fn log(mut cx: StoreContextMut<'_, CallState>, (level, message): (Level, WasmStr)) -> Result<()> {
    // A flood is not worth decoding.
    let message = if cx.data().log.lines_left == 0 { None } else { Some(message.to_str(&cx)?.into_owned()) };
    let budget = &mut cx.data_mut().log;
    match message {
        Some(message) if message.len() <= budget.bytes_left => {
            budget.lines_left -= 1;
            budget.bytes_left -= message.len();
            budget.log.lines.push(LogLine { level, message });
        }
        _ => {
            budget.lines_left = 0;
            budget.log.dropped += 1;
        }
    }
    Ok(())
}
