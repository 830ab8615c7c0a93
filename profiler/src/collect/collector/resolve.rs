//! From the kernel side's numbers to stacks and objects of the recording.

use super::Collector;
use super::close::After;
use super::looked::Looked;
use crate::collect::ledger::{OpenAt, Stretch};
use crate::collect::polls::{Doing, Observation};
use crate::collect::stack_table::Owner;
use crate::collect::wait_buffer::BufferedWait;
use crate::decode::{PollClock, StackNumber, Sum, WaitStack};
use crate::process::parse_comm;
use crate::recording::{
    CallSum, Classified, ObjectId, OpenWait, PanicSum, Poll, ProcessId, SampleSum, StackId,
    ThreadId, Wait, WaitSum,
};
use crate::runtime::tokio::ClassifiedBy;
use crate::runtime::{Queued, State};
use crate::units::{Nanos, Timestamp};
use std::collections::{BTreeMap, HashSet};

impl Collector {
    /// Takes out the waits in which the recording found threads that in truth did not wait, and
    /// says of which threads.
    pub(super) fn settle_first_waits(&mut self) -> HashSet<ThreadId> {
        let mut no_waits = HashSet::new();
        let threads = &mut self.interval.threads;
        self.interval.sums.retain_first_waits(|thread, sum| {
            let no_wait = threads.was_no_wait(thread, sum);
            if no_wait {
                no_waits.insert(thread);
            }
            !no_wait
        });
        no_waits
    }

    /// The stack of a wait; one that stands for all that are not known where it is not.
    pub(super) fn stack(&mut self, thread: ThreadId, stack: WaitStack) -> StackId {
        let known = self.stacks.resolve(thread, stack);
        known.unwrap_or_else(|| self.no_stack(thread.process))
    }

    fn stack_by_number(&mut self, thread: ThreadId, number: Option<StackNumber>) -> StackId {
        self.stack(thread, number.map_or(WaitStack::Lost, WaitStack::Known))
    }

    fn no_stack(&mut self, process: ProcessId) -> StackId {
        let owner = self
            .targets
            .processes()
            .get(process)
            .map(|process| process.owner());
        self.stacks.unknown_of(owner.unwrap_or(Owner {
            process,
            program: usize::MAX,
        }))
    }

    /// The id of a task that the kernel side read, where such reading counts.
    pub(super) fn task_id(&self, stack: StackId, id: Option<u64>) -> Option<u64> {
        id.filter(|_| self.stacks.table().trusts_tls(stack))
    }

    pub(super) fn wait_sums(&mut self, stretch: &Stretch) -> Vec<WaitSum> {
        let mut merged: BTreeMap<(ThreadId, StackId, Option<ObjectId>), Sum> = BTreeMap::new();
        for (key, sum) in self.interval.sums.take() {
            let stack = self.stack(key.thread, key.stack);
            let object = key.object.and_then(|object| self.objects.resolve(object));
            let thread = stretch.shown(key.thread);
            merged.entry((thread, stack, object)).or_default().add(&sum);
        }
        let sum = |((thread, stack, object), sum): (_, Sum)| WaitSum {
            thread,
            stack,
            object,
            waits: sum.waits,
            blocked: sum.blocked,
            runqueue: sum.runqueue,
            max: sum.max,
            histogram: trimmed(&sum.histogram),
        };
        merged.into_iter().map(sum).collect()
    }

    pub(super) fn waits(&mut self, stretch: &Stretch, no_waits: &HashSet<ThreadId>) -> Vec<Wait> {
        let buffered = self.interval.waits.take();
        let mut waits = Vec::with_capacity(buffered.len());
        for wait in buffered {
            if wait.stack == WaitStack::BeforeRecording && no_waits.contains(&wait.thread) {
                continue;
            }
            let stack = self.stack(wait.thread, wait.stack);
            // Recorded before the stack was known to be an idle park.
            let idle = |known: &crate::recording::Stack| known.class.state == State::Idle;
            self.waited(&wait, stack);
            if self.stacks.table().get(stack).is_some_and(idle) {
                continue;
            }
            waits.push(Wait {
                thread: stretch.shown(wait.thread),
                stack,
                object: wait.object,
                start: wait.start,
                wakeup: wait.wakeup,
                end: wait.end,
                waker: wait.waker,
                waker_stack: wait
                    .waker_stack
                    .and_then(|number| self.stacks.by_number(number)),
                task_id: self.task_id(stack, wait.task_id),
            });
        }
        // They are large: only their keys are moved about.
        waits.sort_by_cached_key(|wait| (wait.end, wait.thread));
        waits
    }

    pub(super) fn open_waits(&mut self, stretch: &Stretch, looked: &Looked) -> Vec<OpenWait> {
        let open = |OpenAt { thread, wait, .. }: &OpenAt| {
            let stack = self.stack(*thread, wait.stack);
            let found = looked.found(*thread, wait);
            OpenWait {
                thread: stretch.shown(*thread),
                stack,
                began_for: wait.object.and_then(|object| self.objects.resolve(object)),
                since: wait.since,
                woken: wait.woken,
                before_recording: wait.stack == WaitStack::BeforeRecording,
                object: found.map(|found| found.object.clone()),
                holder: found.and_then(|found| found.holder.clone()),
                task_id: self.task_id(stack, wait.task_id),
            }
        };
        stretch.open.iter().map(open).collect()
    }

    pub(super) fn call_sums(&mut self, stretch: &Stretch) -> Vec<CallSum> {
        let mut merged: BTreeMap<(ThreadId, StackId, Option<ObjectId>), CallSum> = BTreeMap::new();
        for ((thread, number, object), sum) in self.interval.calls.take() {
            let stack = self.stack_by_number(thread, number);
            let thread = stretch.shown(thread);
            let total = merged
                .entry((thread, stack, object))
                .or_insert_with(|| CallSum {
                    thread,
                    stack,
                    object,
                    calls: 0,
                    on_cpu: Nanos::ZERO,
                    wall: Nanos::ZERO,
                    max: Nanos::ZERO,
                });
            total.calls = total.calls.saturating_add(sum.calls);
            total.on_cpu += sum.on_cpu;
            total.wall += sum.wall;
            total.max = total.max.max(sum.max);
        }
        merged.into_values().collect()
    }

    pub(super) fn panic_sums(&mut self, stretch: &Stretch) -> Vec<PanicSum> {
        let mut panics = Vec::new();
        for ((thread, number), sum) in self.interval.panics.take() {
            let stack = self.stack_by_number(thread, number);
            panics.push(PanicSum {
                thread: stretch.shown(thread),
                stack,
                panics: sum.panics,
                last: sum.last,
                task_id: self.task_id(stack, sum.task_id),
            });
        }
        panics.sort_by_key(|panic| (panic.last, panic.thread));
        panics
    }

    pub(super) fn samples(&mut self, stretch: &Stretch) -> Vec<SampleSum> {
        let mut samples = self.interval.samples.take();
        for sample in &mut samples {
            sample.thread = stretch.shown(sample.thread);
        }
        samples
    }

    /// Shows the polls a finished wait.
    fn waited(&mut self, wait: &BufferedWait, stack: StackId) {
        let blocked = wait.wakeup.min(wait.end) - wait.start;
        let doing = Doing::Waited {
            blocked,
            runqueue: (wait.end - wait.start).saturating_sub(blocked),
        };
        self.observe(Observation {
            thread: wait.thread,
            stack,
            start: wait.start,
            end: wait.end,
            clock: wait.clock,
            task_id: wait.task_id,
            doing,
        });
    }

    fn observe(&mut self, waited: Observation) {
        let table = self.stacks.table();
        if let Some(stack) = table.get(waited.stack) {
            // A tick shows by itself whether it is one.
            let trusts_tls = table.may_trust_tls(waited.stack);
            self.interval.polls.see(waited, stack, trusts_tls);
        }
    }

    /// The polls that are over. Those that go on when the recording ends, at `end`, are over then.
    pub(super) fn polls(
        &mut self,
        stretch: &Stretch,
        looked: &Looked,
        end: Timestamp,
        after: After,
    ) -> Vec<Poll> {
        let ends = after == After::Ends;
        for open in &stretch.open {
            if ends {
                self.waits_still(open, looked.queued(open.thread, &open.wait), end);
            } else if self.is_parked(open) {
                self.interval.polls.leaves(open.thread);
            }
        }
        let mut polls = self.interval.polls.take(ends);
        for poll in &mut polls {
            poll.thread = stretch.shown(poll.thread);
        }
        polls
    }

    fn is_parked(&mut self, OpenAt { thread, wait, .. }: &OpenAt) -> bool {
        let stack = self.stack(*thread, wait.stack);
        let stack = self.stacks.table().get(stack);
        stack.is_some_and(|stack| stack.class.state == State::Idle)
    }

    /// Shows the polls a wait that goes on when the recording ends.
    fn waits_still(&mut self, open: &OpenAt, queued: Option<Queued>, end: Timestamp) {
        let OpenAt {
            thread,
            wait,
            times,
        } = open;
        let end = end.max(wait.since);
        let woken = wait.woken.map_or(end, |woken| woken.min(end));
        let (blocked, runqueue) = (woken - wait.since, end - woken);
        let clock = PollClock {
            core: None,
            tick: wait.tick,
            queued,
            waits: times.waits as u32,
            running: times.running,
            runnable: times.runnable + runqueue,
            blocked: times.blocked + blocked,
        };
        let stack = self.stack(*thread, wait.stack);
        self.observe(Observation {
            thread: *thread,
            stack,
            start: wait.since,
            end,
            clock,
            task_id: wait.task_id,
            doing: Doing::Waited { blocked, runqueue },
        });
    }

    /// By what the waits of an interval were classified. `parks_known` is the kernel side's count of
    /// parks in it that it recognised.
    pub(super) fn classified(&mut self, sums: &[WaitSum], parks_known: u64) -> Classified {
        let agreements = self.stacks.table().agreements();
        let (agreed, disagreed) = agreements.fold((0, 0), |(agreed, disagreed), agreement| {
            (agreed + agreement.agreed, disagreed + agreement.disagreed)
        });
        let mut classified = Classified {
            agreed,
            disagreed,
            parks_known,
            ..Classified::default()
        };
        for sum in sums {
            let by = self.stacks.table().classified_by(sum.stack);
            *match by.unwrap_or(ClassifiedBy::Neither) {
                ClassifiedBy::Symbols => &mut classified.by_symbols,
                ClassifiedBy::Context => &mut classified.by_context,
                ClassifiedBy::Both => &mut classified.by_both,
                ClassifiedBy::Neither => &mut classified.by_neither,
            } += sum.waits;
        }
        classified
    }

    /// Reads the names of threads that are new, and of all at the end: a thread may change its
    /// name, and has mostly done so soon after its birth.
    pub(super) fn name_threads(&mut self, stretch: &Stretch, after: After) {
        for &thread in &stretch.living {
            let process = self.targets.processes().get(thread.process);
            let target = process.and_then(|process| process.target.as_ref());
            let Some(target) = target.filter(|_| self.names.is_unread(thread)) else {
                continue;
            };
            // One that has ended since tells its name with its end.
            let comm = target.proc_dir().read(&format!("task/{}/comm", thread.tid));
            if let Ok(comm) = comm {
                self.names.read(thread, &parse_comm(&comm));
            }
        }
        if after == After::Ends {
            self.name_all_threads();
        }
        self.names.retain_named(&self.interval.threads);
    }

    fn name_all_threads(&mut self) {
        let mut names = Vec::new();
        for process in self.targets.processes().living() {
            let threads = process.target.as_ref().map(|target| target.threads());
            for named in threads.and_then(Result::ok).unwrap_or_default() {
                let thread = ThreadId {
                    process: process.id,
                    tid: named.tid,
                };
                names.push((thread, named.name));
            }
        }
        for (thread, name) in names {
            self.names.set(thread, &name);
        }
    }
}

/// Without the buckets that come after the last wait.
fn trimmed(histogram: &[u32]) -> Vec<u32> {
    let len = histogram.iter().rposition(|count| *count > 0);
    let filled = histogram.get(..len.map_or(0, |last| last + 1));
    filled.unwrap_or(histogram).to_vec()
}
