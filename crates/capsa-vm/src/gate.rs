//! Who may compute now: slow calls share all processors but one, by turns of their tenants.
//!
//! A call is slow once it has computed for a millisecond; most end before, and never wait here. One that waits for something
//! outside gives its place to others meanwhile, and one that computes for long gives it up from time to time, if others wait:
//! so a tenant's endless loops take no more than its share.
//!
//! Invariants:
//! * at most `places` calls hold a [`Place`] at once;
//! * whoever waits is let in by turns: first the tenants, and within a tenant in the order of arrival.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// The places for calls that compute.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    /// As in the state; read without the lock.
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// By tenant, never empty.
    queues: HashMap<Arc<str>, VecDeque<Arc<Waiter>>>,
    /// The tenants that wait, in the order of their turns.
    turns: VecDeque<Arc<str>>,
}

#[derive(Debug)]
struct Waiter {
    thread: Thread,
    let_in: AtomicBool,
}

/// The right to compute.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    tenant: Arc<str>,
    held: bool,
}

/// What a call computes without a place.
pub(crate) const FREE: Duration = Duration::from_millis(1);
/// So long a call computes before it lets others have their turn.
pub(crate) const TURN: Duration = Duration::from_millis(10);

/// The turns of one call.
#[derive(Debug)]
pub(crate) struct Turns {
    gate: Arc<Gate>,
    tenant: Arc<str>,
    place: Option<Place>,
    /// When the present turn began, in processor time of the call.
    began: Duration,
}

impl Turns {
    pub(crate) fn new(gate: &Arc<Gate>, tenant: &Arc<str>) -> Turns {
        Turns { gate: Arc::clone(gate), tenant: Arc::clone(tenant), place: None, began: Duration::ZERO }
    }

    /// To be asked from time to time, with the processor time of the call: waits where others have their turn. Whether the
    /// call may go on; not, if there was no turn until then.
    pub(crate) fn goes_on(&mut self, used: Duration, until: Instant) -> bool {
        match &mut self.place {
            None if used < FREE => true,
            None => {
                self.place = self.gate.enter(&self.tenant, until);
                self.began = used;
                self.place.is_some()
            }
            Some(place) if used.saturating_sub(self.began) >= TURN => {
                self.began = used;
                place.by_turns(until)
            }
            Some(_) => true,
        }
    }

    /// When to ask again.
    pub(crate) fn next(&self) -> Duration {
        if self.place.is_none() { FREE } else { TURN }
    }

    /// Lets others compute while something outside is waited for. `None` if there was no turn again until then.
    pub(crate) fn without<T>(&mut self, until: Instant, wait: impl FnOnce() -> T) -> Option<T> {
        match &mut self.place {
            Some(place) => place.without(until, wait),
            None => Some(wait()),
        }
    }
}

impl Gate {
    /// A gate with so many places, at least one.
    pub fn new(places: usize) -> Arc<Gate> {
        let state = State { free: places.max(1), queues: HashMap::new(), turns: VecDeque::new() };
        Arc::new(Gate { state: Mutex::new(state), waiting: AtomicUsize::new(0) })
    }

    /// Waits for a place; `None` if there is none until then.
    pub fn enter(self: &Arc<Gate>, tenant: &Arc<str>, until: Instant) -> Option<Place> {
        let mut place = Place { gate: Arc::clone(self), tenant: Arc::clone(tenant), held: false };
        place.take(until).then_some(place)
    }

    /// Whether somebody waits.
    fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Gives the place to others while something outside is waited for. `None` if there was none again until then: then
    /// the call has to end.
    pub fn without<T>(&mut self, until: Instant, wait: impl FnOnce() -> T) -> Option<T> {
        self.give_back();
        let got = wait();
        self.take(until).then_some(got)
    }

    /// Lets others in, if any wait, and waits for another turn. Whether there was one.
    pub fn by_turns(&mut self, until: Instant) -> bool {
        if !self.gate.is_contended() {
            return true;
        }
        self.give_back();
        self.take(until)
    }

    fn take(&mut self, until: Instant) -> bool {
        let waiter = {
            let mut state = self.gate.state();
            if state.free > 0 && state.turns.is_empty() {
                state.free -= 1;
                self.held = true;
                return true;
            }
            let waiter = Arc::new(Waiter { thread: std::thread::current(), let_in: AtomicBool::new(false) });
            let queue = state.queues.entry(Arc::clone(&self.tenant)).or_default();
            queue.push_back(Arc::clone(&waiter));
            if queue.len() == 1 {
                state.turns.push_back(Arc::clone(&self.tenant));
            }
            self.gate.waiting.fetch_add(1, Ordering::Relaxed);
            waiter
        };
        loop {
            if waiter.let_in.load(Ordering::Acquire) {
                self.held = true;
                return true;
            }
            let now = Instant::now();
            if now < until {
                std::thread::park_timeout(until - now);
                continue;
            }
            let mut state = self.gate.state();
            // It may have been let in before the lock was there.
            if waiter.let_in.load(Ordering::Acquire) {
                self.held = true;
                return true;
            }
            state.remove(&self.tenant, &waiter);
            self.gate.waiting.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
    }

    fn give_back(&mut self) {
        if !std::mem::take(&mut self.held) {
            return;
        }
        let mut state = self.gate.state();
        match state.next() {
            Some(waiter) => {
                self.gate.waiting.fetch_sub(1, Ordering::Relaxed);
                waiter.let_in.store(true, Ordering::Release);
                drop(state);
                waiter.thread.unpark();
            }
            None => state.free += 1,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl State {
    /// Whose turn it is.
    fn next(&mut self) -> Option<Arc<Waiter>> {
        let tenant = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&tenant).expect("a tenant has a turn while it has a queue");
        let waiter = queue.pop_front().expect("a queue is never empty");
        if queue.is_empty() {
            self.queues.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        Some(waiter)
    }

    /// Takes one out that does not wait any more.
    fn remove(&mut self, tenant: &Arc<str>, waiter: &Arc<Waiter>) {
        let Some(queue) = self.queues.get_mut(tenant) else { return };
        queue.retain(|other| !Arc::ptr_eq(other, waiter));
        if queue.is_empty() {
            self.queues.remove(tenant);
            self.turns.retain(|other| other != tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::sync::mpsc;
    use std::thread;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn wait_for(gate: &Gate, waiting: usize) {
        while gate.waiting.load(Ordering::Relaxed) != waiting {
            assert!(Instant::now() < soon());
            thread::yield_now();
        }
    }

    /// Queues a call that tells its name once it is let in, and ends.
    fn queue(gate: &Arc<Gate>, tenant: &'static str, name: usize, told: &mpsc::Sender<(&'static str, usize)>) {
        let before = gate.waiting.load(Ordering::Relaxed);
        let (for_thread, told) = (Arc::clone(gate), told.clone());
        thread::spawn(move || {
            let place = for_thread.enter(&Arc::from(tenant), soon()).unwrap();
            told.send((tenant, name)).unwrap();
            drop(place);
        });
        wait_for(gate, before + 1);
    }

    #[test]
    fn tenants_take_turns_however_much_one_of_them_asks_for() {
        let gate = Gate::new(1);
        let held = gate.enter(&Arc::from("a"), soon()).unwrap();
        let (told, heard) = mpsc::channel();
        for name in 0..4 {
            queue(&gate, "a", name, &told);
        }
        queue(&gate, "b", 0, &told);
        queue(&gate, "c", 0, &told);
        queue(&gate, "b", 1, &told);
        drop(held);
        let order: Vec<_> = (0..7).map(|_| heard.recv_timeout(Duration::from_secs(20)).unwrap()).collect();
        assert_eq!(order, [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("b", 1), ("a", 2), ("a", 3)]);
        // The last one's place comes back.
        assert!(gate.enter(&Arc::from("d"), soon()).is_some());
    }

    #[test]
    fn no_more_are_in_than_there_are_places_and_who_waits_too_long_is_told() {
        let gate = Gate::new(2);
        let tenant: Arc<str> = Arc::from("a");
        let first = gate.enter(&tenant, soon()).unwrap();
        let second = gate.enter(&tenant, soon()).unwrap();
        assert!(gate.enter(&tenant, Instant::now() + Duration::from_millis(20)).is_none());
        assert!(!gate.is_contended());
        drop(first);
        let third = gate.enter(&tenant, soon()).unwrap();
        assert!(gate.enter(&tenant, Instant::now()).is_none());
        drop((second, third));
    }

    #[test]
    fn who_waits_outside_lets_others_in() {
        let gate = Gate::new(1);
        let mut held = gate.enter(&Arc::from("a"), soon()).unwrap();
        let others = || gate.enter(&Arc::from("b"), Instant::now()).is_some();
        assert!(held.without(soon(), others).unwrap());
        assert!(gate.enter(&Arc::from("c"), Instant::now()).is_none(), "it has its place again");
    }

    #[test]
    fn what_is_over_soon_waits_for_nobody() {
        let gate = Gate::new(1);
        let tenant: Arc<str> = Arc::from("a");
        let held = gate.enter(&Arc::from("b"), soon()).unwrap();
        let mut turns = Turns::new(&gate, &tenant);
        assert!(turns.goes_on(FREE / 2, Instant::now()));
        assert_eq!(turns.without(Instant::now(), || 1), Some(1));
        assert!(!turns.goes_on(FREE, Instant::now()));
        drop(held);
        assert!(turns.goes_on(FREE, soon()));
        assert!(gate.enter(&tenant, Instant::now()).is_none(), "it has the place now");
        assert!(turns.goes_on(2 * TURN, soon()));
        drop(turns);
        assert!(gate.enter(&tenant, Instant::now()).is_some());
    }

    #[test]
    fn who_computes_long_goes_to_the_end_of_the_line() {
        let gate = Gate::new(1);
        let mut held = gate.enter(&Arc::from("a"), soon()).unwrap();
        assert!(held.by_turns(soon()));
        let (told, heard) = mpsc::channel();
        queue(&gate, "b", 0, &told);
        assert!(held.by_turns(soon()));
        assert_eq!(heard.recv_timeout(Duration::from_secs(20)).unwrap(), ("b", 0));
    }
}
