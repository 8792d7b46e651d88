//! The one door between a running tool and everything outside it.
//!
//! Invariants:
//! * every call of a host function but `log` goes through [`Door::through`], which counts it, and records or replays it;
//! * what is denied is noted, whatever the capsule makes of the answer.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cpu;
use crate::gate::Turns;
use crate::outside::HostError;
use crate::random::Random;
use crate::tape::{Tape, TapeEnd};
use crate::tool::Bound;

/// Most denials of one call that are listed; further ones are counted.
const MAX_DENIALS: usize = 64;
/// Something that a capsule asked for and did not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The interface, such as `http`.
    pub interface: &'static str,
    /// The rule that decided.
    pub rule: String,
    /// One sentence.
    pub detail: String,
}

/// Why a host function ends the call that asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    HostCalls,
    Wall,
    RandomBytes,
    Tape(TapeEnd),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host ends the call: {self:?}")
    }
}

impl std::error::Error for Stop {}

/// What the host keeps of one call of a tool.
pub(crate) struct Door {
    pub(crate) bound: Arc<Bound>,
    pub(crate) tape: Tape,
    pub(crate) random: Random,
    /// Its turns among the slow calls; none of one that has to be over at once.
    pub(crate) turns: Option<Turns>,
    pub(crate) started: Instant,
    /// When the call has to be over.
    pub(crate) until: Instant,
    cpu_at_start: Duration,
    /// Nanoseconds since 1970 when it started.
    started_ns: u64,
    pub(crate) host_calls: u64,
    pub(crate) egress_requests: u64,
    pub(crate) egress_bytes: u64,
    /// Bytes of the keys and values that were changed.
    pub(crate) kv_bytes: u64,
    pub(crate) denied: Vec<Denial>,
    pub(crate) denied_unlisted: u64,
    /// The handles that were given out: a secret's place in the grants, and the text that stands for it.
    pub(crate) handles: Vec<(usize, String)>,
}

impl Door {
    pub(crate) fn new(
        bound: Arc<Bound>,
        tape: Tape,
        seed: [u8; 32],
        started_ns: u64,
        turns: Option<Turns>,
        started: Instant,
    ) -> Door {
        let cpu_at_start = cpu::thread_time();
        let until = started + bound.grants.limits.wall();
        Door {
            bound,
            tape,
            random: Random::new(seed),
            turns,
            started,
            until,
            cpu_at_start,
            started_ns,
            host_calls: 0,
            egress_requests: 0,
            egress_bytes: 0,
            kv_bytes: 0,
            denied: Vec::new(),
            denied_unlisted: 0,
            handles: Vec::new(),
        }
    }

    /// Processor time since the start.
    pub(crate) fn cpu(&self) -> Duration {
        cpu::thread_time().saturating_sub(self.cpu_at_start)
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.started_ns.saturating_add(self.elapsed_ns())
    }

    pub(crate) fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// One call of a host function.
    pub(crate) fn through<A: Serialize + DeserializeOwned>(
        &mut self,
        name: &'static str,
        args: &impl Serialize,
        act: impl FnOnce(&mut Door) -> Result<A, Stop>,
    ) -> Result<A, Stop> {
        self.host_calls += 1;
        if self.host_calls > self.bound.grants.limits.host_calls {
            return Err(Stop::HostCalls);
        }
        if Instant::now() >= self.until {
            return Err(Stop::Wall);
        }
        if let Some(answer) = self.tape.play(name, args).map_err(Stop::Tape)? {
            return Ok(answer);
        }
        let answer = act(self)?;
        self.tape.keep(name, args, &answer).map_err(Stop::Tape)?;
        Ok(answer)
    }

    /// As [`Door::through`], for what may be denied.
    pub(crate) fn asked<A: Serialize + DeserializeOwned>(
        &mut self,
        name: &'static str,
        args: &impl Serialize,
        act: impl FnOnce(&mut Door) -> Result<Result<A, HostError>, Stop>,
    ) -> Result<Result<A, HostError>, Stop> {
        let answer = self.through(name, args, act)?;
        if let Err(HostError::Denied(said)) = &answer {
            let (interface, _) = name.split_once('.').expect("names are `interface.function`");
            let (rule, detail) = said.split_once(": ").unwrap_or(("", said));
            self.deny(Denial { interface, rule: rule.to_owned(), detail: detail.to_owned() });
        }
        Ok(answer)
    }

    /// Does something for which it waits, while others compute.
    pub(crate) fn waiting<T>(&mut self, wait: impl FnOnce(&Bound) -> T) -> Result<T, Stop> {
        let bound = Arc::clone(&self.bound);
        match &mut self.turns {
            Some(turns) => turns.without(self.until, || wait(&bound)).ok_or(Stop::Wall),
            None => Ok(wait(&bound)),
        }
    }

    fn deny(&mut self, denial: Denial) {
        if self.denied.len() < MAX_DENIALS {
            self.denied.push(denial);
        } else {
            self.denied_unlisted += 1;
        }
    }
}
