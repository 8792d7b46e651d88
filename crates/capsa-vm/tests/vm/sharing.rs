//! One host, many threads: calls wait for each other, share nothing, and get their own time.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use capsa_vm::{CallError, Component, Host, HostError, HostSettings, Limits};

use crate::guests::{Guest, assert_still_serves, host, load};

#[test]
fn hosts_and_components_are_shared_by_threads() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Host>();
    shared::<Component>();
}

#[test]
fn more_callers_than_instances_are_all_served() {
    let settings = HostSettings { instances: 2, wait: Duration::from_secs(60), ..HostSettings::default() };
    let host = Host::new(&settings).unwrap();
    let guests =
        [load(&host, &Guest::default()), load(&host, &Guest { more: "(table 9 funcref)", ..Guest::default() })];
    thread::scope(|scope| {
        for n in 0..8 {
            let guest = &guests[n % 2];
            scope.spawn(move || {
                for _ in 0..500 {
                    assert_eq!(guest.frame(&[]).unwrap().choices.len(), 1);
                }
            });
        }
    });
}

#[test]
fn a_caller_that_waited_too_long_is_told_so() {
    let limits = Limits { deadline: Duration::from_millis(1500), ..Limits::default() };
    let settings = HostSettings { instances: 1, wait: Duration::from_millis(5), limits, ..HostSettings::default() };
    let host = Host::new(&settings).unwrap();
    let endless = load(&host, &Guest { frame: "(loop $again (br $again)) unreachable", ..Guest::default() });
    let good = load(&host, &Guest::default());
    let seen = thread::scope(|scope| {
        let call = scope.spawn(|| {
            // The good guest may be faster at first.
            loop {
                match endless.frame(&[]).unwrap_err().error {
                    CallError::Busy { .. } => {}
                    error => return error,
                }
            }
        });
        let mut seen = Ok(());
        while seen.is_ok() && !call.is_finished() {
            seen = good.frame(&[]).map(drop).map_err(|failed| failed.error);
            thread::yield_now();
        }
        assert_eq!(call.join().unwrap(), CallError::Deadline { limit: limits.deadline });
        seen
    });
    assert_eq!(seen, Err(CallError::Busy { instances: 1, waited: settings.wait }));
    assert_still_serves(&host);
}

#[test]
fn no_state_passes_from_one_call_to_the_next() {
    // Memory, a page that was grown, a global and a table, each changed by a call.
    let guest = Guest {
        more: "(global $calls (mut i32) (i32.const 0)) (table $t 3 funcref) (elem declare func $alloc)",
        reward: "(i64.store (i32.const 200) (i64.reinterpret_f64 (f64.convert_i32_u
                    (i32.add (i32.add (global.get $calls) (i32.load (i32.const 50000)))
                    (i32.add (memory.size) (i32.eqz (ref.is_null (table.get $t (i32.const 1)))))))))
                 (global.set $calls (i32.const 100))
                 (i32.store (i32.const 50000) (i32.const 1000))
                 (table.set $t (i32.const 1) (ref.func $alloc))
                 (drop (memory.grow (i32.const 3)))
                 (i32.store (i32.const 0x3fffc) (i32.const 7))
                 i32.const 192",
        ..Guest::default()
    };
    let guest = load(&host(), &guest);
    for _ in 0..100 {
        assert_eq!(guest.reward(&[], &[]).unwrap().reward, 1.0);
    }
}

#[test]
fn a_component_outlives_its_host() {
    let component = {
        let host = host();
        load(&host, &Guest::default())
    };
    assert_eq!(component.reward(&[], &[]).unwrap().reward, 0.5);
    let limit = Limits::default().deadline;
    let endless = load(&host(), &Guest { frame: "(loop $again (br $again)) unreachable", ..Guest::default() });
    assert_eq!(endless.frame(&[]).unwrap_err().error, CallError::Deadline { limit });
}

#[test]
fn waiting_for_a_processor_does_not_count() {
    const ROUNDS: u32 = 4_000_000;
    let frame = Box::leak(
        format!(
            "(local $n i32)
             (loop $again (br_if $again (i32.lt_u
                (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {ROUNDS}))))
             i32.const 64"
        )
        .into_boxed_str(),
    );
    let guest = Guest { frame, ..Guest::default() };
    let alone = {
        let limits = Limits { deadline: Duration::from_secs(60), ..Limits::default() };
        let host = Host::new(&HostSettings { limits, ..HostSettings::default() }).unwrap();
        let guest = load(&host, &guest);
        let time = |_| {
            let begin = Instant::now();
            guest.frame(&[]).unwrap();
            begin.elapsed()
        };
        (0..5).map(time).min().unwrap()
    };

    // With so many threads a processor, each call takes far longer than its own time.
    let deadline = (alone * 6).max(Duration::from_millis(10));
    let threads = 24 * thread::available_parallelism().unwrap().get();
    let limits = Limits { deadline, ..Limits::default() };
    let instances = u32::try_from(threads).unwrap();
    let host = Host::new(&HostSettings { limits, instances, ..HostSettings::default() }).unwrap();
    let guest = load(&host, &guest);
    let barrier = Barrier::new(threads);
    let longest = thread::scope(|scope| {
        let call = || {
            barrier.wait();
            let begin = Instant::now();
            for _ in 0..3 {
                guest.frame(&[]).unwrap();
            }
            begin.elapsed() / 3
        };
        let calls: Vec<_> = (0..threads).map(|_| scope.spawn(call)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).max().unwrap()
    });
    assert!(longest > deadline, "the test did not crowd the machine: {longest:?} of {deadline:?}");
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let limits = Limits::default();
    let of = |limits| HostSettings { limits, ..HostSettings::default() };
    let refused = |settings: HostSettings| match Host::new(&settings).unwrap_err() {
        HostError::Setting { setting, .. } => setting,
        other => panic!("{other}"),
    };
    assert_eq!(refused(HostSettings { instances: 0, ..HostSettings::default() }), "instances");
    assert_eq!(refused(HostSettings { instances: 1001, ..HostSettings::default() }), "instances");
    assert_eq!(refused(of(Limits { deadline: Duration::from_micros(999), ..limits })), "deadline");
    assert_eq!(refused(of(Limits { stack_bytes: 1000, ..limits })), "stack_bytes");
    assert_eq!(refused(of(Limits { stack_bytes: 5 << 20, ..limits })), "stack_bytes");
    assert_eq!(refused(of(Limits { memory_bytes: 0, ..limits })), "memory_bytes");
    let error = Host::new(&HostSettings { instances: 0, ..HostSettings::default() }).unwrap_err();
    assert_eq!(error.to_string(), "instances is 0, it must be 1 to 1000");
}
