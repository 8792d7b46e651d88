//! The processor time of the running thread.

use std::mem::MaybeUninit;
use std::time::Duration;

/// How long the running thread has been on a processor since it began.
pub(crate) fn thread_time() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is valid for one `timespec`, which the call only writes.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) };
    assert_eq!(status, 0, "every supported system has the thread's clock");
    // SAFETY: the call succeeded, so it has written the whole `timespec`.
    let time = unsafe { time.assume_init() };
    Duration::new(
        u64::try_from(time.tv_sec).expect("this clock starts at zero"),
        u32::try_from(time.tv_nsec).expect("nanoseconds are below 1e9"),
    )
}
