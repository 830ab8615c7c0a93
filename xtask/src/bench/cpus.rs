//! One CPU for what is measured, another for what measures.

use anyhow::{Context as _, Result, bail, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The two CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cpus {
    pub(super) measured: usize,
    pub(super) recorder: usize,
}

/// Takes those that were asked for, else the first ones that this process may use.
pub(super) fn choose(measured: Option<usize>, recorder: Option<usize>) -> Result<Cpus> {
    let allowed = sched_getaffinity(None).context("cannot tell the CPUs of this process")?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect();
    choose_among(&allowed, measured, recorder)
}

fn choose_among(
    allowed: &[usize],
    measured: Option<usize>,
    recorder: Option<usize>,
) -> Result<Cpus> {
    for cpu in measured.iter().chain(&recorder) {
        ensure!(
            allowed.contains(cpu),
            "CPU {cpu} is not one that this process may use"
        );
    }
    let first_but = |other: Option<usize>| allowed.iter().copied().find(|cpu| Some(*cpu) != other);
    let (measured, recorder) = match (measured, recorder) {
        (Some(measured), Some(recorder)) => (Some(measured), Some(recorder)),
        (measured, recorder) => {
            let measured = measured.or_else(|| first_but(recorder));
            (measured, recorder.or_else(|| first_but(measured)))
        }
    };
    match (measured, recorder) {
        (Some(measured), Some(recorder)) if measured != recorder => Ok(Cpus { measured, recorder }),
        _ => bail!("this needs two CPUs: one for the ping-pong, another for the recorder"),
    }
}

/// Keeps this process, and those that it starts from now on, on one CPU.
pub(super) fn pin(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).with_context(|| format!("cannot run on CPU {cpu}"))
}

/// Tells the kernel that the threads of a process need not run as soon as they are woken
/// (`SCHED_BATCH` of sched(7)): they preempt nobody.
pub(super) fn no_preemption(pid: u32) -> Result<()> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = task?.file_name();
        let tid = name.to_str().and_then(|name| name.parse().ok());
        let tid: libc::pid_t = tid.context("a thread whose id is no number")?;
        // SAFETY: zero is a value of all of its fields.
        let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel reads the parameters.
        if unsafe { libc::sched_setscheduler(tid, libc::SCHED_BATCH, &raw const parameters) } != 0 {
            return Err(std::io::Error::last_os_error())
                .with_context(|| format!("cannot change how thread {tid} is scheduled"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_are_never_the_same() {
        let chosen = |allowed: &[usize], measured, recorder| {
            choose_among(allowed, measured, recorder)
                .ok()
                .map(|cpus| (cpus.measured, cpus.recorder))
        };
        assert_eq!(chosen(&[2, 3, 5], None, None), Some((2, 3)));
        assert_eq!(chosen(&[2, 3, 5], None, Some(2)), Some((3, 2)));
        assert_eq!(chosen(&[2, 3, 5], Some(3), None), Some((3, 2)));
        assert_eq!(chosen(&[2, 3, 5], Some(5), Some(3)), Some((5, 3)));
        assert_eq!(chosen(&[2, 3, 5], Some(5), Some(5)), None);
        assert_eq!(chosen(&[2, 3, 5], Some(4), None), None);
        assert_eq!(chosen(&[7], None, None), None);
        assert_eq!(chosen(&[], None, None), None);
    }
}
