//! Where the time of each thread goes, interval by interval.
//!
//! The kernel side counts a thread's times from the beginning of the recording on. At a cut the
//! ledger computes how they stood at that instant, and an interval gets what came since the cut
//! before. So the intervals of a recording sum up to the kernel side's own count, however many
//! there are.

use crate::decode::{OpenWait, Phase, Sum, ThreadState, ThreadTimes, WaitStack};
use crate::recording::{self, ProcessId, ThreadId};
use crate::units::{Nanos, Tid, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Under this id the threads of a process are summed up that are beyond those kept apart.
const FOLDED: Tid = Tid(0);

/// So many times the number of ended threads that are kept apart are the threads kept apart in all.
const ALL_TO_ENDED: usize = 4;

/// So many names are kept of threads that no interval has: one may have them yet.
const MAX_UNNAMED: usize = 1 << 12;

/// After this many cuts at which a thread has neither a state nor an end, the record of its end is
/// lost: it was in the ring buffer at the first of them, and would have been read by the second.
const MAX_MISSED: u32 = 2;

/// What a thread did when the recording began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtStart {
    /// It was on a CPU.
    Running,
    /// It wanted one. The kernel side, which saw no switch-out of it, takes it for waiting.
    Runnable,
    /// It waited.
    Waiting,
    /// It was held at its first instruction until the recording had begun: that is no wait of its
    /// own.
    Held,
}

/// A wait that was open at a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenAt {
    /// The thread that waits.
    pub(super) thread: ThreadId,
    /// Its wait.
    pub(super) wait: OpenWait,
    /// Where its time had gone before.
    pub(super) times: ThreadTimes,
}

/// What a cut has found out about threads.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    /// By thread, where its time went since the cut before.
    pub(super) threads: Vec<recording::ThreadTimes>,
    /// Waits that go on.
    pub(super) open: Vec<OpenAt>,
    /// Threads that live on.
    pub(super) living: Vec<ThreadId>,
    /// Threads that are summed up with others of their process.
    folded: HashSet<ThreadId>,
}

impl Stretch {
    /// Under which id a thread appears.
    pub(super) fn shown(&self, thread: ThreadId) -> ThreadId {
        if self.folded.contains(&thread) {
            folded(thread.process)
        } else {
            thread
        }
    }
}

const fn folded(process: ProcessId) -> ThreadId {
    ThreadId {
        process,
        tid: FOLDED,
    }
}

/// The times of every thread.
#[derive(Debug)]
pub(super) struct ThreadLedger {
    accounts: HashMap<ThreadId, Account>,
    /// Threads that were there when the recording of their process began, and when that was, until the cut
    /// after their end: the sum of their first wait is looked at just before it.
    at_start: HashMap<ThreadId, (AtStart, Timestamp)>,
    /// Those of them that have moved since and found no place in the kernel side's table.
    lost: HashSet<ThreadId>,
    /// Processes that have ended since the last cut.
    gone: HashSet<ProcessId>,
    start: Timestamp,
    /// Ended threads that are kept apart.
    most_ended: usize,
    /// Threads that intervals have named.
    named: HashSet<ThreadId>,
    /// Threads that were summed up with others.
    folded: u64,
}

impl ThreadLedger {
    /// At most `most_ended` threads that end are kept apart.
    pub(super) fn new(most_ended: usize) -> ThreadLedger {
        ThreadLedger {
            accounts: HashMap::new(),
            at_start: HashMap::new(),
            lost: HashSet::new(),
            gone: HashSet::new(),
            start: Timestamp(0),
            most_ended,
            named: HashSet::new(),
            folded: 0,
        }
    }

    /// The recording begins at `start`.
    pub(super) fn begin(&mut self, start: Timestamp) {
        self.start = start;
    }

    /// Notes what a thread did then.
    pub(super) fn found_at_start(&mut self, thread: ThreadId, doing: AtStart) {
        self.at_start.insert(thread, (doing, self.start));
    }

    /// As [`ThreadLedger::found_at_start`], of a process that is recorded since `start` only.
    pub(super) fn found_at(&mut self, thread: ThreadId, doing: AtStart, start: Timestamp) {
        self.at_start.insert(thread, (doing, start));
    }

    /// Whether a thread is known that has done since the beginning what it did then, as far as the
    /// kernel side's table tells.
    pub(super) fn has_unmoved(&self) -> bool {
        let seen = |thread| {
            self.accounts
                .get(thread)
                .is_some_and(|account| account.seen)
        };
        let mut threads = self.at_start.keys();
        threads.any(|thread| !self.lost.contains(thread) && !seen(thread))
    }

    /// Forgets of `names` those that no interval so far has a thread of.
    pub(super) fn retain_named<T>(&self, names: &mut BTreeMap<ThreadId, T>) {
        if names.len() > self.named.len() + MAX_UNNAMED {
            names.retain(|thread, _| self.named.contains(thread));
        }
    }

    /// The threads that are expected to have a state at the next cut.
    pub(super) fn living(&self) -> impl Iterator<Item = ThreadId> {
        let seen = self.accounts.iter().filter(|(_, account)| account.seen);
        seen.map(|(thread, _)| *thread)
    }

    /// Threads summed up with others of their process so far.
    pub(super) const fn folded(&self) -> u64 {
        self.folded
    }

    /// A thread has ended at `time`; `times` is where its time went.
    pub(super) fn ended(&mut self, thread: ThreadId, time: Timestamp, times: &ThreadTimes) {
        let account = self.accounts.entry(thread).or_default();
        account.settled.add(&Balance::of(times, time));
        account.until = time;
        account.seen = false;
        account.ended = true;
    }

    /// A process has ended, and all its threads with it.
    pub(super) fn process_ended(&mut self, process: ProcessId) {
        self.gone.insert(process);
    }

    /// Threads that have ended since the last cut did nothing any more from then on.
    fn forget_ended(&mut self) {
        let (accounts, gone) = (&self.accounts, std::mem::take(&mut self.gone));
        let has_ended = |thread: &ThreadId| {
            let account = accounts.get(thread);
            gone.contains(&thread.process) || account.is_some_and(|account| account.ended)
        };
        self.at_start.retain(|thread, _| !has_ended(thread));
        self.lost
            .retain(|thread| self.at_start.contains_key(thread));
    }

    /// Takes note of the sum of the wait in which the recording found a thread. Whether it was no
    /// wait at all, and is to be left out.
    pub(super) fn was_no_wait(&mut self, thread: ThreadId, sum: &Sum) -> bool {
        let doing = self.at_start.get_mut(&thread).map(|(doing, _)| doing);
        let Some(doing) = doing.filter(|doing| matches!(doing, AtStart::Runnable | AtStart::Held))
        else {
            return false;
        };
        let (blocked, runqueue) = (signed(sum.blocked), signed(sum.runqueue));
        let mut change = Balance {
            blocked: -blocked,
            waits: -i64::try_from(sum.waits).unwrap_or(i64::MAX),
            ..Balance::default()
        };
        if *doing == AtStart::Held {
            change.runnable = -runqueue;
        } else {
            change.runnable = blocked;
        }
        *doing = AtStart::Running;
        self.accounts
            .entry(thread)
            .or_default()
            .settled
            .add(&change);
        true
    }

    /// Closes an interval at `at`, when the threads were in `states`. Threads that have `moved`
    /// since the recording began, and yet have no state, were lost: nothing may be made up for
    /// them.
    pub(super) fn cut(
        &mut self,
        at: Timestamp,
        states: impl IntoIterator<Item = (ThreadId, ThreadState)>,
        moved: &HashSet<ThreadId>,
    ) -> Stretch {
        self.forget_ended();
        let mut open = Vec::new();
        for (thread, state) in states {
            let doing = self.at_start.get(&thread).map(|(doing, _)| *doing);
            let account = self.accounts.entry(thread).or_default();
            let balance = Balance::at(at, &state, doing);
            if let Phase::Ended(time) = state.phase {
                account.until = time;
                // The kernel side frees the entry: this was the last that was heard of it.
                account.settled.add(&balance);
                (account.seen, account.ended) = (false, true);
                self.at_start.remove(&thread);
                continue;
            }
            account.seen = true;
            account.until = at;
            account.balance = Some(balance);
            if let Some(wait) = open_wait(at, &state.phase, doing) {
                let times = state.times;
                open.push(OpenAt {
                    thread,
                    wait,
                    times,
                });
            }
        }
        self.add_unmoved(at, moved, &mut open);

        let (mut folded_now, mut living) = (HashSet::new(), Vec::new());
        let mut threads: BTreeMap<ThreadId, recording::ThreadTimes> = BTreeMap::new();
        for (thread, account) in &mut self.accounts {
            let lives = account.balance.is_some();
            let leaves = !lives && !account.ended;
            let name = *account.name.get_or_insert_with(|| {
                let most = if lives || leaves {
                    self.most_ended.saturating_mul(ALL_TO_ENDED)
                } else {
                    self.most_ended
                };
                if self.named.len() >= most && !self.named.contains(thread) {
                    self.folded += 1;
                    folded(thread.process)
                } else {
                    self.named.insert(*thread);
                    *thread
                }
            });
            if name != *thread {
                folded_now.insert(*thread);
            } else if lives {
                living.push(*thread);
            }
            // The end of one that is on its way out is reported next time.
            if !leaves {
                let until = account.until.min(at);
                account.change().add_to(name, until, &mut threads);
            }
        }
        self.accounts.retain(|_, account| account.is_open());
        open.sort_unstable_by_key(|open| (open.thread, open.wait.since));
        Stretch {
            threads: threads.into_values().collect(),
            open,
            living,
            folded: folded_now,
        }
    }

    /// Threads that never switched do what they did at the beginning.
    fn add_unmoved(&mut self, at: Timestamp, moved: &HashSet<ThreadId>, open: &mut Vec<OpenAt>) {
        for (thread, (doing, start)) in &self.at_start {
            let account = self.accounts.get(thread);
            if self.lost.contains(thread) || account.is_some_and(|account| account.seen) {
                continue;
            }
            if moved.contains(thread) {
                self.lost.insert(*thread);
                continue;
            }
            let whole = signed(at - *start);
            let mut balance = Balance::default();
            match doing {
                AtStart::Running => balance.running = whole,
                AtStart::Runnable => balance.runnable = whole,
                AtStart::Waiting => balance.blocked = whole,
                AtStart::Held => {}
            }
            if *doing == AtStart::Waiting {
                let wait = OpenWait {
                    since: *start,
                    woken: None,
                    stack: WaitStack::BeforeRecording,
                    object: None,
                    task_id: None,
                    tick: None,
                };
                open.push(OpenAt {
                    thread: *thread,
                    wait,
                    times: ThreadTimes::default(),
                });
            }
            let account = self.accounts.entry(*thread).or_default();
            account.until = at;
            account.balance = Some(balance);
        }
    }
}

/// The wait that a thread is in at a cut, if any.
fn open_wait(at: Timestamp, phase: &Phase, doing: Option<AtStart>) -> Option<OpenWait> {
    let Phase::Waiting(wait) = phase else {
        return None;
    };
    let no_wait = wait.stack == WaitStack::BeforeRecording
        && matches!(doing, Some(AtStart::Runnable | AtStart::Held));
    let woken = wait.woken.filter(|woken| *woken <= at.max(wait.since));
    (!no_wait).then_some(OpenWait { woken, ..*wait })
}

/// What is known of one thread id.
#[derive(Debug, Default)]
struct Account {
    /// The lives under this id that have ended, and what was set right of them.
    settled: Balance,
    /// The life that goes on, at the cut in hand.
    balance: Option<Balance>,
    /// What intervals have of it.
    reported: Balance,
    /// The kernel side has an entry of it.
    seen: bool,
    /// A life under this id has ended since the last cut.
    ended: bool,
    /// When it did, or the cut in hand.
    until: Timestamp,
    /// Cuts in a row at which it had neither a state nor an end.
    missed: u32,
    /// Under which id intervals have it, once one does.
    name: Option<ThreadId>,
}

impl Account {
    /// Makes it ready for the next cut. Whether more is to come of it.
    fn is_open(&mut self) -> bool {
        let (lives, ended) = (self.balance.take().is_some(), self.ended);
        self.ended = false;
        self.missed = if lives || ended { 0 } else { self.missed + 1 };
        lives || !ended && self.missed < MAX_MISSED
    }

    /// What is to be reported of it now.
    fn change(&mut self) -> Balance {
        let mut now = self.settled;
        now.add(&self.balance.unwrap_or_default());
        let change = now.since(&self.reported);
        self.reported.add(&change);
        change
    }
}

fn signed(nanos: Nanos) -> i64 {
    i64::try_from(nanos.0).unwrap_or(i64::MAX)
}

fn grow(sum: &mut i64, more: i64) {
    *sum = sum.saturating_add(more);
}

fn nanos(signed: i64) -> Nanos {
    Nanos(u64::try_from(signed).unwrap_or(0))
}

/// Where time went, in nanoseconds, and how many waits there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Balance {
    running: i64,
    runnable: i64,
    blocked: i64,
    /// Lived, and not known how: a switch was lost.
    unseen: i64,
    waits: i64,
    in_calls: i64,
}

impl Balance {
    /// Of a thread that has lived until `until`.
    fn of(times: &ThreadTimes, until: Timestamp) -> Balance {
        let (running, runnable) = (signed(times.running), signed(times.runnable));
        let blocked = signed(times.blocked);
        let finished = running.saturating_add(runnable).saturating_add(blocked);
        Balance {
            running,
            runnable,
            blocked,
            unseen: signed(until - times.first_seen).saturating_sub(finished),
            waits: i64::try_from(times.waits).unwrap_or(i64::MAX),
            in_calls: signed(times.in_calls),
        }
    }

    /// Of a thread that lives on, with the stretch under way. A switch may bear a time that is a
    /// little later than that of the cut before which it was: then that one counts.
    fn at(cut: Timestamp, state: &ThreadState, doing: Option<AtStart>) -> Balance {
        let (since, end) = match &state.phase {
            Phase::Running(since) | Phase::Runnable(since) => (*since, cut.max(*since)),
            Phase::Waiting(wait) => (wait.since, cut.max(wait.since)),
            Phase::Ended(since) => (*since, *since),
        };
        let stretch = signed(end - since);
        let mut balance = Balance::of(&state.times, since);
        match &state.phase {
            Phase::Ended(_) => {}
            Phase::Running(_) => grow(&mut balance.running, stretch),
            Phase::Runnable(_) => grow(&mut balance.runnable, stretch),
            Phase::Waiting(wait) if wait.stack == WaitStack::BeforeRecording => match doing {
                Some(AtStart::Held) => {}
                Some(AtStart::Runnable) => grow(&mut balance.runnable, stretch),
                _ => balance.add_wait(wait, end),
            },
            Phase::Waiting(wait) => balance.add_wait(wait, end),
        }
        balance
    }

    fn add_wait(&mut self, wait: &OpenWait, end: Timestamp) {
        let woken = wait
            .woken
            .filter(|woken| (wait.since..=end).contains(woken))
            .unwrap_or(end);
        grow(&mut self.blocked, signed(woken - wait.since));
        grow(&mut self.runnable, signed(end - woken));
    }

    fn add(&mut self, more: &Balance) {
        for (sum, more) in [
            (&mut self.running, more.running),
            (&mut self.runnable, more.runnable),
            (&mut self.blocked, more.blocked),
            (&mut self.unseen, more.unseen),
            (&mut self.waits, more.waits),
            (&mut self.in_calls, more.in_calls),
        ] {
            grow(sum, more);
        }
    }

    /// What is new of this where `reported` was reported before, no part of it negative. The kernel side
    /// may have found out meanwhile that a thread woke or ran earlier than it seemed: what was reported
    /// too much is then taken from the other parts, and given back as it comes.
    fn since(&self, reported: &Balance) -> Balance {
        let mut parts = [
            self.running.saturating_sub(reported.running),
            self.runnable.saturating_sub(reported.runnable),
            self.blocked.saturating_sub(reported.blocked),
            self.unseen.saturating_sub(reported.unseen),
        ];
        let mut too_much: i64 = 0;
        for part in &mut parts {
            grow(&mut too_much, part.saturating_neg().max(0));
            *part = (*part).max(0);
        }
        while too_much > 0 {
            let Some(largest) = parts.iter_mut().max().filter(|part| **part > 0) else {
                break;
            };
            let taken = too_much.min(*largest);
            *largest -= taken;
            too_much -= taken;
        }
        let [running, runnable, blocked, unseen] = parts;
        Balance {
            running,
            runnable,
            blocked,
            unseen,
            waits: self.waits.saturating_sub(reported.waits).max(0),
            in_calls: self.in_calls.saturating_sub(reported.in_calls).max(0),
        }
    }

    fn add_to(
        &self,
        thread: ThreadId,
        until: Timestamp,
        threads: &mut BTreeMap<ThreadId, recording::ThreadTimes>,
    ) {
        let lived = [self.running, self.runnable, self.blocked, self.unseen]
            .into_iter()
            .map(nanos)
            .sum::<Nanos>();
        if lived == Nanos::ZERO && self.waits == 0 {
            return;
        }
        let times = threads
            .entry(thread)
            .or_insert_with(|| recording::ThreadTimes {
                thread,
                lived: Nanos::ZERO,
                until,
                running: Nanos::ZERO,
                runnable: Nanos::ZERO,
                blocked: Nanos::ZERO,
                waits: 0,
                in_calls: Nanos::ZERO,
            });
        times.lived += lived;
        times.until = times.until.max(until);
        times.running += nanos(self.running);
        times.runnable += nanos(self.runnable);
        times.blocked += nanos(self.blocked);
        times.waits = times.waits.saturating_add(self.waits.unsigned_abs());
        times.in_calls += nanos(self.in_calls);
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
