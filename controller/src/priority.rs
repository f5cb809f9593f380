//! Which threads run first when there are more than processors: those that decide and those that are listened for,
//! before those that carry data.
//!
//! Kept apart by the system's scheduler: heartbeats, votes and sessions take little time, but have to have it at
//! once, and data takes all that there is. Where a process may not raise a thread (that takes CAP_SYS_NICE, or
//! RLIMIT_NICE), the threads with data are lowered instead: among themselves and beside other processes they are a
//! little slower then.
//!
//! A scheduler leaves a processor to whoever has it until a slice of time is over, which is milliseconds, though somebody
//! with a better claim was woken meanwhile. Only idle time is taken back at once: so long work that can wait is done in
//! that, but for what holds up others while it stands still, as a change of the file system does.

use std::time::Duration;

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

    fn set_policy(policy: libc::c_int) -> bool {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: a system call that reads what it is given; 0 is the calling thread.
        unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
    }

    /// Tried once, on a thread that ends with that.
    fn may_leave_idle_time() -> bool {
        static MAY: OnceLock<bool> = OnceLock::new();
        *MAY.get_or_init(|| {
            let tried = std::thread::Builder::new().spawn(|| {
                after_all();
                set_policy(libc::SCHED_IDLE) && set_policy(libc::SCHED_OTHER)
            });
            tried.is_ok_and(|tried| tried.join().unwrap_or(false))
        })
    }

    pub fn enter_idle_time() -> bool {
        may_leave_idle_time() && set_policy(libc::SCHED_IDLE)
    }

    pub fn leave_idle_time() {
        set_policy(libc::SCHED_OTHER);
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub fn first() {}

    pub fn after_decisions() {}

    pub fn after_all() {}

    pub fn enter_idle_time() -> bool {
        false
    }

    pub fn leave_idle_time() {}
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

/// A thread that has what others leave, and gives that back at once as long as it is in idle time.
///
/// Promises: it is in idle time only where it can leave that again (`CAP_SYS_NICE`, or `LimitNICE` of a service); where
/// there is no idle time it has its share all the same, the least that there is.
/// Never here: a clock.
#[derive(Debug, Default)]
pub struct IdleTime {
    is_in: bool,
    /// Steps that are still to be done outside of it.
    outside: u32,
}

impl IdleTime {
    /// A step that takes longer has stood still: somebody always wants the processor.
    const STEP: Duration = Duration::from_millis(250);
    /// Steps that are done outside then.
    const OUTSIDE: u32 = 200;

    /// The thread's last step took so long, and in the next one it may stand still for a while.
    pub fn enter(&mut self, last_step: Duration) {
        self.note(last_step);
        if self.outside > 0 {
            self.leave();
        } else if !self.is_in {
            self.is_in = system::enter_idle_time();
        }
    }

    /// What comes next is not to stand still: others would, too.
    pub fn leave(&mut self) {
        if self.is_in {
            system::leave_idle_time();
            self.is_in = false;
        }
    }

    fn note(&mut self, last_step: Duration) {
        self.outside = match self.is_in && last_step > Self::STEP {
            true => Self::OUTSIDE,
            false => self.outside.saturating_sub(1),
        };
    }
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

    /// Whatever the system allows.
    #[test]
    fn idle_time_is_left_again_and_not_entered_where_there_is_none() {
        let policy = || {
            // SAFETY: a system call without pointers.
            unsafe { libc::sched_getscheduler(0) }
        };
        let thread = std::thread::spawn(move || {
            after_all();
            let mut idle = IdleTime::default();
            idle.enter(Duration::ZERO);
            assert_eq!(idle.is_in, policy() == libc::SCHED_IDLE);
            idle.leave();
            assert_eq!((policy(), nice()), (libc::SCHED_OTHER, 19));
            idle.enter(Duration::ZERO);
            let was_in = idle.is_in;
            idle.enter(Duration::from_secs(1));
            assert_eq!(policy(), libc::SCHED_OTHER, "it stood still");
            for _ in 0..IdleTime::OUTSIDE {
                idle.enter(Duration::from_secs(1));
            }
            assert_eq!(idle.is_in, was_in, "after a while it is tried again");
        });
        thread.join().unwrap();
    }
}
