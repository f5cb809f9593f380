//! Which threads run first when there are more than processors: those that decide and those that are listened for,
//! before those that carry data.
//!
//! Kept apart by the system's scheduler: heartbeats, votes and sessions take little time, but have to have it at
//! once, and data takes all that there is. Where a process may not raise a thread (that takes CAP_SYS_NICE, or
//! RLIMIT_NICE), the threads with data are lowered instead: among themselves and beside other processes they are a
//! little slower then.

#[cfg(target_os = "linux")]
mod system {
    use std::sync::OnceLock;

    /// Steps of `nice`: each is worth about a quarter.
    const RAISED: i32 = -10;
    const LOWERED: i32 = 3;

    /// Of the calling thread, which is what Linux takes the process 0 for.
    fn set(nice: i32) -> bool {
        // SAFETY: a system call without pointers.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) == 0 }
    }

    fn get() -> i32 {
        // SAFETY: a system call without pointers.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    /// Tried once, on a thread that is put back where it was.
    fn may_raise() -> bool {
        static MAY: OnceLock<bool> = OnceLock::new();
        *MAY.get_or_init(|| {
            let before = get();
            let raised = set(before + RAISED);
            if raised {
                set(before);
            } else {
                tracing::info!(
                    "the system does not let threads be raised (CAP_SYS_NICE, or LimitNICE of a service); \
                     those that carry data are lowered, so that the quorum and sessions come first"
                );
            }
            raised
        })
    }

    pub fn first() {
        if may_raise() {
            set(get() + RAISED);
        }
    }

    pub fn after_decisions() {
        if !may_raise() {
            set(get() + LOWERED);
        }
    }

    /// The least that the system has, for the processor and, where its scheduler knows of that, for the disk.
    pub fn after_all() {
        const LEAST: i32 = 19;
        const WHO_PROCESS: libc::c_int = 1;
        const CLASS_BEST_EFFORT: libc::c_int = 2;
        const LEAST_OF_CLASS: libc::c_int = 7;
        set(LEAST);
        // Not the idle class: whoever waits for that on a busy disk may wait for ever.
        let priority = CLASS_BEST_EFFORT << 13 | LEAST_OF_CLASS;
        // SAFETY: a system call without pointers; 0 is the calling thread. Where it is refused nothing changes.
        unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) };
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub fn first() {}

    pub fn after_decisions() {}

    pub fn after_all() {}
}

/// The calling thread decides, or listens for others: it runs before those that carry data.
pub fn first() {
    system::first();
}

/// The calling thread carries data.
pub fn after_decisions() {
    system::after_decisions();
}

/// The calling thread does what can wait: it has what the others leave of the processor, and of the disk.
pub fn after_all() {
    system::after_all();
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn nice() -> i32 {
        // SAFETY: a system call without pointers.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    /// Whatever the system allows.
    #[test]
    fn threads_that_decide_come_before_threads_with_data() {
        let on_a_thread = |set: fn()| {
            let thread = std::thread::spawn(move || {
                set();
                nice()
            });
            thread.join().unwrap()
        };
        let before = nice();
        assert!(on_a_thread(first) < on_a_thread(after_decisions));
        assert_eq!(on_a_thread(after_all), 19);
        assert_eq!(nice(), before, "other threads stay as they are");
    }
}
