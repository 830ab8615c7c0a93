//! What arrives: events are taken in, and new stacks get their names.

use super::Collector;
use crate::collect::polls::{Doing, Observation};
use crate::collect::stacks::{NamedSample, Naming};
use crate::collect::traced_process::TracedProcess;
use crate::decode::{
    self, Event, PollClock, StackSeen, ThreadEnd, ThreadKey, ThreadName, WaitSeen,
};
use crate::recording;
use crate::runtime::tokio::TlsState;
use crate::units::Timestamp;
use crate::unwind::Truncation;
use anyhow::Result;

/// Events for which room is kept from one time to the next.
const MAX_ARRIVED: usize = 8192;

impl Collector {
    /// Takes all events out of the ring buffers that have arrived by now. New stacks are kept, to be
    /// named.
    pub(super) fn receive(&mut self) {
        self.receive_while(|| true);
    }

    /// As [`Collector::receive`], for as long as `go_on` says so. Whether it ended for that.
    pub(super) fn receive_while(&mut self, go_on: impl FnMut() -> bool) -> bool {
        let mut arrived = std::mem::take(&mut self.arrived);
        let mut undecodable = 0;
        let behind = self.kernel.drain_while(go_on, |event| match event {
            Ok(event) => arrived.push(event),
            Err(error) => {
                tracing::warn!("{error}");
                undecodable += 1;
            }
        });
        self.kernel.flush_log();
        self.losses.undecodable(undecodable);
        for event in arrived.drain(..) {
            self.take(event);
        }
        arrived.shrink_to(MAX_ARRIVED);
        self.arrived = arrived;
        self.targets.receive_mappings(&mut self.kernel);
        let processes = self.targets.processes_mut();
        processes.living_mut().for_each(TracedProcess::pin);
        behind
    }

    /// Takes one event in.
    pub(super) fn take(&mut self, event: Event) {
        let Some(event) = self.next.keep_back(event) else {
            return;
        };
        match event {
            Event::Stack(seen) => {
                self.see(&seen);
                self.stacks.add(seen);
            }
            Event::Sample(seen) => {
                self.see(&seen.stack);
                self.stacks.add_sample(seen);
            }
            Event::Wait(wait) => self.wait(&wait),
            Event::ThreadEnd(end) => self.thread_end(&end),
            Event::Exec(exec) => self
                .targets
                .with_process(exec.pid, |process| process.exec = true),
            Event::Fork(fork) => self.targets.on_fork(&mut self.kernel, &fork),
            Event::Snapshot(snapshot) => {
                self.name_thread(snapshot.thread, &snapshot.name);
                self.snapshots.push(*snapshot);
            }
            Event::UnmappedStack(piece) => self.stacks.add_unmapped_piece(*piece),
            Event::Object(seen) => self.objects.add(&seen),
            Event::ChildExec(child) => self.objects.child(&child),
            Event::Call(call) => {
                let object = call.object.and_then(|object| self.objects.resolve(object));
                if let Some(thread) = self.targets.thread(call.thread) {
                    self.interval.calls.add(thread, &call, object);
                }
            }
            Event::Panic(panic) => {
                if let Some(thread) = self.targets.thread(panic.thread) {
                    self.interval.panics.add(thread, &panic);
                }
            }
            Event::DriverGap(gap) => self.driver_gap(&gap, None),
            Event::RawStack(piece) => self.stacks.add_shadow_piece(*piece),
        }
    }

    /// Takes a gap of an I/O driver in, which goes on to `end` if it has none.
    pub(super) fn driver_gap(&mut self, gap: &decode::DriverGap, end: Option<Timestamp>) {
        let thread = self.targets.thread(gap.thread);
        if let (Some(thread), Some(to)) = (thread, gap.to.or(end)) {
            self.interval.driver_gap(recording::DriverGap {
                thread,
                from: gap.from,
                to: to.max(gap.from),
            });
        }
    }

    /// Notes what a stack tells before it has names.
    fn see(&mut self, seen: &StackSeen) {
        self.name_thread(seen.thread, &seen.name);
        if seen.truncated == Some(Truncation::Unmapped) {
            let pid = seen.thread.pid;
            self.targets
                .with_process(pid, |process| process.unknown_code = true);
        }
    }

    fn wait(&mut self, wait: &WaitSeen) {
        let object = wait.object.and_then(|object| self.objects.resolve(object));
        if let Some(thread) = self.targets.thread(wait.thread) {
            let wakers = &mut self.tables.wakers;
            self.interval.wait(thread, wait, object, wakers);
        }
    }

    fn thread_end(&mut self, end: &ThreadEnd) {
        if let Some(thread) = self.targets.thread(end.thread) {
            self.interval.thread_end(thread, end);
            self.names.ended(thread, &end.name.to_string());
        }
    }

    fn name_thread(&mut self, thread: ThreadKey, name: &ThreadName) {
        let thread = self.targets.thread(thread);
        if let Some(thread) = thread.filter(|thread| self.names.is_unread(*thread)) {
            self.names.set(thread, &name.to_string());
        }
    }

    /// Copies what is known of the processes for whoever reads the recording.
    pub(super) fn publish_processes(&mut self) {
        self.targets.note_late_panic_probes();
        for process in self.targets.processes_mut().iter_mut() {
            process.facts.tokio.context = self.stacks.table().certainty(process.program);
        }
        for process in self.targets.processes().as_slice() {
            let facts = &process.facts;
            match self.tables.processes.get_mut(process.id.index()) {
                Some(told) if told == facts => {}
                Some(told) => told.clone_from(facts),
                None => self.tables.processes.push(facts.clone()),
            }
        }
    }

    /// Names and classifies new stacks.
    pub(super) fn name_new(&mut self, naming: Naming) -> Result<()> {
        let (kernel, targets) = (&mut self.kernel, &mut self.targets);
        let interval = &mut self.interval;
        self.stacks.name_new(naming, kernel, targets, |sample| {
            interval.samples.add(sample.thread, sample.id);
            let observed = observation(&sample);
            interval
                .polls
                .see(observed, sample.stack, sample.trusts_tls);
        })
    }
}

/// What a sample shows of a poll.
fn observation(sample: &NamedSample<'_>) -> Observation {
    let seen = sample.seen;
    // A worker has its core also where it does not poll.
    let polls = matches!(
        seen.stack.tls_state,
        TlsState::WorkerPoll | TlsState::CurrentThreadPoll
    );
    Observation {
        thread: sample.thread,
        stack: sample.id,
        start: seen.stack.time,
        end: seen.stack.time,
        clock: PollClock {
            tick: seen.clock.tick.filter(|_| polls),
            ..seen.clock
        },
        task_id: seen.task_id,
        doing: Doing::Ran,
    }
}
