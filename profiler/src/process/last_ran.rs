//! For how long a thread has not run, by the scheduler's own word.
//!
//! `/proc/PID/task/TID/sched` has when a thread was last accounted for (`se.exec_start`): for one that
//! waits, when it left its CPU. That is in the time of the CPU's run queue, which may have lost
//! what interrupts and a hypervisor took since the machine started. So the same clock is read now,
//! by a thread of ours that goes to that CPU. It never runs faster than real time, so the difference
//! is how long the thread has not run, or a little less.

use super::proc_dir::ProcDir;
use crate::units::{Nanos, Tid};
use rustix::thread::{CpuSet, sched_setaffinity, sched_yield};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long clocks of all CPUs may take: one that is kept busy by what has precedence does not
/// answer.
const PATIENCE: Duration = Duration::from_millis(40);

/// CPUs asked for their clocks at most.
const MAX_CPUS: usize = 256;

/// When a thread ran last, by the clock of the CPU that it ran on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRan {
    cpu: u32,
    at: u64,
}

impl LastRan {
    /// Of a thread below a process's directory; none where the kernel does not tell.
    #[must_use]
    pub fn read(process: &ProcDir, tid: Tid) -> Option<LastRan> {
        let sched = process.read(&format!("task/{tid}/sched")).ok()?;
        let stat = process.read(&format!("task/{tid}/stat")).ok()?;
        Some(LastRan {
            cpu: cpu_of(&stat)?,
            at: exec_start(&sched)?,
        })
    }
}

/// The clocks of CPUs as they were just now.
#[derive(Clone, Debug, Default)]
pub struct CpuClocks(BTreeMap<u32, u64>);

impl CpuClocks {
    /// Reads the clocks of the CPUs on which threads ran last, as far as they answer soon.
    #[must_use]
    pub fn read<'a>(threads: impl IntoIterator<Item = &'a LastRan>) -> CpuClocks {
        let cpus: BTreeSet<u32> = threads.into_iter().map(|thread| thread.cpu).collect();
        let (tell, told) = mpsc::channel();
        let visit = move || {
            for cpu in cpus.into_iter().take(MAX_CPUS) {
                let Some(now) = clock_of(cpu) else { continue };
                if tell.send((cpu, now)).is_err() {
                    return;
                }
            }
        };
        let visitor = std::thread::Builder::new()
            .name("holdup-clock".into())
            .stack_size(256 << 10)
            .spawn(visit);
        let mut clocks = CpuClocks::default();
        if visitor.is_err() {
            return clocks;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok((cpu, now)) = told.recv_timeout(left) else {
                return clocks;
            };
            clocks.0.insert(cpu, now);
        }
    }

    /// For how long a thread has not run, at least; none where its CPU did not answer.
    #[must_use]
    pub fn since(&self, last: LastRan) -> Option<Nanos> {
        let now = self.0.get(&last.cpu)?;
        Some(Nanos(now.checked_sub(last.at)?))
    }
}

/// The clock of a CPU: this thread goes there, and reads when it began to run.
fn clock_of(cpu: u32) -> Option<u64> {
    let mut set = CpuSet::new();
    let cpu = usize::try_from(cpu)
        .ok()
        .filter(|cpu| *cpu < CpuSet::MAX_CPU)?;
    set.set(cpu);
    sched_setaffinity(None, &set).ok()?;
    // Where it was there already, it is accounted for now.
    sched_yield();
    exec_start(&std::fs::read("/proc/thread-self/sched").ok()?)
}

/// `se.exec_start`, milliseconds with six decimals (`kernel/sched/debug.c`), in nanoseconds.
fn exec_start(sched: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(sched);
    // The first line has the thread's name, which may be anything.
    let mut lines = text.lines().skip(1);
    let line = lines.find(|line| line.starts_with("se.exec_start "))?;
    let (_, value) = line.split_once(':')?;
    let (millis, nanos) = value.trim().split_once('.')?;
    if nanos.len() != 6 {
        return None;
    }
    let (millis, nanos): (u64, u64) = (millis.parse().ok()?, nanos.parse().ok()?);
    millis.checked_mul(1_000_000)?.checked_add(nanos)
}

/// The CPU on which a thread ran last: field 39 of proc_pid_stat(5).
fn cpu_of(stat: &[u8]) -> Option<u32> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    // Field 3 is the first behind the name.
    rest.split_ascii_whitespace().nth(39 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Pid;

    #[test]
    fn the_scheduler_s_text_is_read() {
        let text = b"se.exec_start : 1.000001 (7, #threads: 1)\n-----\n\
                     se.exec_start                                :      39051508.113245\n";
        assert_eq!(exec_start(text), Some(39_051_508_113_245));
        assert_eq!(exec_start(b"x\nse.exec_start : 5.1\n"), None);
        assert_eq!(exec_start(b"x\nse.exec_start : -5.100000\n"), None);
        assert_eq!(exec_start(b""), None);
        let stat = b"7 (a) 1 (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 \
                     25 26 27 28 29 30 31 32 33 34 35 3 0 0";
        assert_eq!(cpu_of(stat), Some(3));
        assert_eq!(cpu_of(b"7 (a) S 1"), None);
    }

    #[test]
    fn a_thread_that_waits_has_not_run_for_as_long() {
        let own = ProcDir::open(Pid(std::process::id())).expect("own /proc");
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let waits = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid()).expect("heard");
            stopped.recv().expect_err("dropped");
        });
        let tid = told.recv().expect("its id");
        let tid = Tid(tid.as_raw_nonzero().get().cast_unsigned());
        // It has begun to wait some time in this.
        let before = Instant::now();
        std::thread::sleep(Duration::from_millis(50));
        let Some(last) = LastRan::read(&own, tid) else {
            drop(stop);
            waits.join().expect("ends");
            return;
        };
        std::thread::sleep(Duration::from_millis(200));
        let clocks = CpuClocks::read([&last]);
        let whole = Nanos::from(before.elapsed());
        drop(stop);
        waits.join().expect("ends");
        if let Some(since) = clocks.since(last) {
            let least = Nanos(150_000_000);
            assert!(
                (least..=whole + Nanos(20_000_000)).contains(&since),
                "{since:?} of {whole:?}"
            );
        }
    }
}
