//! Time of which it is not known what the threads did, apart from the waits of a runtime's own workers.

use super::runtimes::{RuntimeIndex, Runtimes};
use super::stack_facts::{class_of, part};
use super::thread_times::BalancedTimes;
use super::whole::Whole;
use crate::recording::ThreadId;
use crate::report::CpuPart;
use crate::runtime::State;
use crate::runtime::tokio::says_foreign;
use crate::units::{Nanos, Pid};
use std::collections::BTreeMap;

/// Samples, and those of them that could not be judged.
#[derive(Clone, Copy, Debug, Default)]
struct Samples {
    all: u64,
    unknown: u64,
}

impl Samples {
    fn add(&mut self, more: Samples) {
        self.all = self.all.saturating_add(more.all);
        self.unknown = self.unknown.saturating_add(more.unknown);
    }

    fn unknown_share(self) -> f64 {
        if self.all == 0 {
            0.0
        } else {
            self.unknown as f64 / self.all as f64
        }
    }
}

/// Threads of a process of which nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Strangers {
    /// Of their time, what they waited and what they ran in stacks that could not be judged.
    pub(super) unknown: Nanos,
    /// The part of it whose stacks are missing altogether: any of these threads may be tokio's.
    pub(super) unread: Nanos,
    /// The time of all threads of the process.
    pub(super) lived: Nanos,
}

/// Time that could not be judged.
#[derive(Clone, Debug, Default)]
pub(super) struct Unjudged {
    /// By runtime, the share of its threads' samples.
    cpu: BTreeMap<String, f64>,
    strangers: BTreeMap<Pid, Strangers>,
}

impl Unjudged {
    /// Sums it up.
    pub(super) fn of(
        whole: &Whole<'_>,
        balanced: &[BalancedTimes],
        runtimes: &Runtimes,
    ) -> Unjudged {
        let by_thread = samples(whole);
        let unread = without_stack(whole);
        let foreign = foreign(whole);
        let mut by_runtime: BTreeMap<String, Samples> = BTreeMap::new();
        let mut strangers: BTreeMap<Pid, Strangers> = BTreeMap::new();
        for times in balanced {
            let samples = by_thread.get(&times.thread).copied().unwrap_or_default();
            let of_process = strangers
                .entry(whole.pid(times.thread.process))
                .or_default();
            of_process.lived += times.lived;
            let runtime = runtimes.of_thread(times.thread);
            if let Some(runtime) = runtime.map(RuntimeIndex::id) {
                by_runtime.entry(runtime).or_default().add(samples);
            } else {
                let foreign = foreign.get(&times.thread).copied().unwrap_or_default();
                let unknown = unknown(times, samples, foreign);
                let unread = unread.get(&times.thread).copied().unwrap_or_default();
                of_process.unknown += unknown;
                of_process.unread += unread.min(unknown);
            }
        }
        let shares = by_runtime.into_iter();
        Unjudged {
            cpu: shares
                .map(|(runtime, samples)| (runtime, samples.unknown_share()))
                .collect(),
            strangers,
        }
    }

    /// Known: the share of samples by runtime, and of one process the unknown and the whole time.
    #[cfg(test)]
    pub(super) fn new(cpu: &[(&str, f64)], pid: Pid, (unknown, lived): (Nanos, Nanos)) -> Unjudged {
        let cpu = cpu
            .iter()
            .map(|(runtime, share)| ((*runtime).to_owned(), *share));
        Unjudged {
            cpu: cpu.collect(),
            strangers: BTreeMap::from([(
                pid,
                Strangers {
                    unknown,
                    lived,
                    ..Strangers::default()
                },
            )]),
        }
    }

    /// The share of the time on a CPU of a runtime's threads.
    pub(super) fn cpu_share(&self, runtime: &str) -> f64 {
        self.cpu.get(runtime).copied().unwrap_or_default()
    }

    /// The threads of a process of which nothing is known.
    pub(super) fn strangers(&self, pid: Pid) -> Strangers {
        self.strangers.get(&pid).copied().unwrap_or_default()
    }
}

/// Of a thread without a runtime: none where it was seen in any state that is known. `foreign` of its
/// time counts for nothing.
fn unknown(times: &BalancedTimes, samples: Samples, foreign: Nanos) -> Nanos {
    let states = times.states();
    let time = |state: State| states.get(&state).copied().unwrap_or_default();
    let is_known = |(state, time): (&State, &Nanos)| match state {
        State::Unknown | State::Running | State::Runnable => false,
        State::Other => *time > foreign,
        _ => true,
    };
    if states.iter().any(is_known) {
        return Nanos::ZERO;
    }
    let waited = time(State::Unknown) + time(State::Other);
    // A share is at most 1: the product fits.
    let ran = times.running.0 as f64 * samples.unknown_share();
    waited + Nanos(ran as u64)
}

/// By thread, the time of waits that are of no tokio by the thread-local state of one alone, in a process
/// without names that holds another tokio, too old to be looked into: whose they are is not known.
fn foreign(whole: &Whole<'_>) -> BTreeMap<ThreadId, Nanos> {
    let mut times: BTreeMap<ThreadId, Nanos> = BTreeMap::new();
    for (thread, stack, time) in whole.seen() {
        let process = whole.tables.process(thread.process);
        let is_mixed = process
            .is_some_and(|process| process.tokio.not_understood.is_some() && !process.has_symbols);
        let stack = whole.tables.stack(stack);
        if is_mixed && stack.is_some_and(|stack| says_foreign(&stack.class)) {
            *times.entry(thread).or_default() += time;
        }
    }
    times
}

/// By thread, the time of waits whose stacks are missing.
fn without_stack(whole: &Whole<'_>) -> BTreeMap<ThreadId, Nanos> {
    let mut times: BTreeMap<ThreadId, Nanos> = BTreeMap::new();
    for (thread, stack, time) in whole.seen() {
        let stack = whole.tables.stack(stack);
        if stack.is_none_or(|stack| stack.frames.is_empty()) {
            *times.entry(thread).or_default() += time;
        }
    }
    times
}

fn samples(whole: &Whole<'_>) -> BTreeMap<ThreadId, Samples> {
    let mut by_thread: BTreeMap<ThreadId, Samples> = BTreeMap::new();
    for (&(thread, stack), &samples) in &whole.totals.samples {
        let (state, role) = class_of(whole.tables, stack);
        let is_unknown = part(state, role) == CpuPart::Unknown;
        by_thread.entry(thread).or_default().add(Samples {
            all: samples,
            unknown: if is_unknown { samples } else { 0 },
        });
    }
    by_thread
}

#[cfg(test)]
mod tests {
    use crate::analyze::build;
    use crate::analyze::testing::{app, recording, stack, stripped, thread};
    use crate::recording::{Recording, SampleSum, Sampling};
    use crate::report::{UnclearReason, Verdict};
    use crate::runtime::tokio::Certainty;
    use crate::runtime::{Flavor, Role, RuleName, State};
    use crate::symbolize::Frame;
    use crate::units::Nanos;

    const WORKER: Role = Role::Worker(Flavor::MultiThread);

    /// A worker that runs for half of its time, and a thread of which nothing is known but samples. Of
    /// ten samples of each, so many could not be judged.
    fn of_samples(worker_unknown: u64, stranger_unknown: u64) -> Recording {
        let mut recording = recording(1_000);
        recording.tables.processes[0].tokio.present = true;
        let park = vec![app("app::park", 1)];
        let park = recording.push_stack(stack(park, State::Idle, WORKER, None));
        let other = vec![app("app::compute", 1)];
        let other = recording.push_stack(stack(other, State::Other, Role::None, None));
        let cut = vec![stripped("app@0x10")];
        let cut = recording.push_stack(stack(cut, State::Unknown, Role::None, None));
        recording.push_thread(1);
        recording.push_thread(2);
        recording.push_wait(1, park, 0, 500);
        recording.header.sampling = Some(Sampling { period: Nanos(50) });
        for (tid, unknown) in [(1, worker_unknown), (2, stranger_unknown)] {
            for (stack, samples) in [(other, 10 - unknown), (cut, unknown)] {
                let of_thread = SampleSum {
                    thread: thread(tid),
                    stack,
                    samples,
                };
                if samples > 0 {
                    recording.interval().samples.push(of_thread);
                }
            }
        }
        recording
    }

    #[test]
    fn a_workers_samples_count_as_its_waits_do() {
        assert!(matches!(
            build(&of_samples(0, 10)).verdict,
            Verdict::Healthy { .. }
        ));
        let verdict = build(&of_samples(2, 0)).verdict;
        assert!(
            matches!(
                verdict,
                Verdict::Unclear { share, reason: UnclearReason::UnknownTime, .. }
                    if (share - 0.1).abs() < 1e-9
            ),
            "{verdict:?}"
        );
    }

    #[test]
    fn threads_whose_stacks_are_missing_may_be_tokio_s_in_any_case() {
        let of = |frames: Vec<Frame>| {
            let mut recording = recording(1_000);
            recording.tables.processes[0].tokio.present = true;
            let park = vec![app("app::park", 1)];
            let park = recording.push_stack(stack(park, State::Idle, WORKER, None));
            let missing = recording.push_stack(stack(frames, State::Unknown, Role::None, None));
            recording.push_thread(1);
            recording.push_thread(2);
            recording.push_wait(1, park, 0, 900);
            recording.push_wait(2, missing, 0, 900);
            build(&recording).verdict
        };
        let verdict = of(Vec::new());
        assert!(
            matches!(verdict, Verdict::Unclear { share, .. } if share > 0.5),
            "{verdict:?}"
        );
        let verdict = of(vec![stripped("app@0x10")]);
        assert!(matches!(verdict, Verdict::Healthy { .. }), "{verdict:?}");
    }

    #[test]
    fn beside_a_tokio_that_is_too_old_nobody_is_foreign() {
        let of = |old: Option<&str>, rule, has_symbols| {
            let mut recording = recording(1_000);
            let process = &mut recording.tables.processes[0];
            process.tokio.present = true;
            process.tokio.not_understood = old.map(str::to_owned);
            process.has_symbols = has_symbols;
            let park = vec![app("app::park", 1)];
            let park = recording.push_stack(stack(park, State::Idle, WORKER, None));
            let frames = vec![stripped("app@0x10")];
            let mut foreign = stack(frames, State::Other, Role::None, None);
            foreign.class.rule = RuleName(rule);
            let foreign = recording.push_stack(foreign);
            recording.push_thread(1);
            recording.push_thread(2);
            recording.push_wait(1, park, 0, 900);
            recording.push_wait(2, foreign, 0, 900);
            build(&recording).verdict
        };
        let verdict = of(Some("0.2.25"), "context-foreign", false);
        assert!(
            matches!(
                verdict,
                Verdict::Unclear {
                    reason: UnclearReason::NotUnderstood,
                    ..
                }
            ),
            "{verdict:?}"
        );
        let healthy = [
            of(None, "context-foreign", false),
            of(Some("0.2.25"), "not-tokio", false),
            of(Some("0.2.25"), "context-foreign", true),
        ];
        for verdict in healthy {
            assert!(matches!(verdict, Verdict::Healthy { .. }), "{verdict:?}");
        }
    }

    #[test]
    fn threads_of_which_nothing_is_known_count_without_the_context() {
        let with = |unknown| {
            let mut recording = of_samples(0, unknown);
            recording.tables.processes[0].tokio.context = Certainty::Contradicted { stacks: 1 };
            build(&recording).verdict
        };
        let verdict = with(10);
        assert!(
            matches!(
                verdict,
                Verdict::Unclear {
                    runtime: Some(_),
                    reason: UnclearReason::ContextContradicted,
                    ..
                }
            ),
            "{verdict:?}"
        );
        assert!(matches!(with(0), Verdict::Healthy { .. }));
    }
}
