//! When a process began, by which it is told from another that has its id.

use crate::process::Target;
use crate::units::Timestamp;

/// Whether `target` is the process that was forked at `time`, and not another that was given its
/// id later.
pub(super) fn began_at(target: &Target, time: Timestamp) -> bool {
    use rustix::time::{ClockId, clock_gettime};
    let nanos = |clock| {
        let now = clock_gettime(clock);
        now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
    };
    // The kernel counts a process's start in ticks since the boot, suspended time included.
    let suspended = nanos(ClockId::Boottime).saturating_sub(nanos(ClockId::Monotonic));
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    let began = (time.0 + suspended) / tick;
    target.start_ticks().abs_diff(began) <= 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::monotonic;
    use crate::units::Pid;

    #[test]
    fn a_process_is_told_from_one_that_began_at_another_time() {
        let began = monotonic();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep");
        let target = Target::open(Pid(child.id())).expect("it lives");
        assert!(began_at(&target, began));
        assert!(!began_at(&target, Timestamp(began.0 - 1_000_000_000)));
        assert!(!began_at(&target, Timestamp(began.0 + 1_000_000_000)));
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
}
