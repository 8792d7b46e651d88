//! What must not allocate, counted.
#![allow(clippy::unwrap_used, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use capsa_core::argmax::{masked_argmax, masked_argmax_batch};
use capsa_core::joint::Combinations;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn argmax_joint_argmax_and_joint_probabilities_allocate_nothing() {
    for sizes in [vec![4, 4, 2], vec![8, 6, 5], vec![100, 40]] {
        let combinations = Combinations::new(&sizes, None).unwrap();
        let (width, rows) = (combinations.width(), 37);
        let scores: Vec<f64> = (0..width * rows).map(|at| (at * 7919 % 101) as f64).collect();
        let allowed: Vec<bool> = (0..width * rows).map(|at| at * 31 % 7 != 0).collect();
        let mut joint = vec![0.0; combinations.len()];
        let mut marginals = vec![0.0; width];
        let mut found = vec![0; rows];
        let everything = vec![true; width * rows];
        let counted = allocations(|| {
            combinations.argmax(&scores[..width], &everything[..width]).unwrap();
            combinations.argmax_batch(&scores, &everything, &mut found).unwrap();
            // Some rows may allow nothing; even then nothing is allocated.
            let _ = combinations.argmax_batch(&scores, &allowed, &mut found);
            combinations.probabilities(&scores[..width], &everything[..width], 0.1, &mut joint).unwrap();
            combinations.marginals(&joint, &mut marginals).unwrap();
            masked_argmax(&scores[..width], &everything[..width]).unwrap();
            masked_argmax_batch(&scores, &everything, width, &mut found).unwrap();
        });
        assert_eq!(counted, 0, "{sizes:?}");
    }
}
