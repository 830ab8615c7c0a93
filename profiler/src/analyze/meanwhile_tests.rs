use crate::analyze::testing::story::{Random, Story, Told, thread as thread_of};
use crate::analyze::testing::{app, library, recording, stack, thread};
use crate::analyze::{Analyzer, build};
use crate::recording::{Holder, Poll, PollEvidence, Recording, StackId, Wait, Waker, WakerId};
use crate::report::{Blame, BlameEnd, Report};
use crate::runtime::{Flavor, Role, State};
use crate::units::{Nanos, Pid, Tid, Timestamp};
use std::collections::BTreeMap;

const WORKER: Role = Role::Worker(Flavor::MultiThread);

/// A recording of 1,000 ns, in which thread 1 waits for a lock from 100 to 200, and thread 2 ends that.
struct Scene {
    recording: Recording,
    lock: StackId,
}

impl Scene {
    fn new() -> Scene {
        let mut recording = recording(1_000);
        let frames = vec![library("std::lock"), app("app::wait", 1)];
        let lock = recording.push_stack(stack(frames, State::Blocked, WORKER, Some(1)));
        recording.push_thread(1);
        recording.push_thread(2);
        recording.tables.wakers.push(Waker {
            pid: Pid(1),
            tid: Tid(2),
            name: "holder".into(),
        });
        let mut scene = Scene { recording, lock };
        scene.recording.push_wait(1, lock, 100, 200);
        scene.last_wait().waker = Some(WakerId(0));
        scene
    }

    fn last_wait(&mut self) -> &mut Wait {
        let waits = self.recording.interval().waits.last_mut();
        waits.expect("a wait was pushed")
    }

    fn stack(&mut self, state: State) -> StackId {
        let frames = vec![library("std::read"), app("app::hold", 2)];
        self.recording
            .push_stack(stack(frames, state, WORKER, Some(1)))
    }

    /// Thread 2 waits, and nothing tells when.
    fn sums_only(&mut self, state: State, length: u64) {
        let stack = self.stack(state);
        self.recording.push_wait(2, stack, 0, length);
        self.recording.interval().waits.pop();
    }

    /// A poll of thread 2.
    fn poll(&mut self, (from, to): (u64, u64), runqueue: u64, blocked: u64) {
        let interval = self.recording.interval();
        let at = |time: u64| Timestamp(interval.start.0 + time);
        let poll = Poll {
            thread: thread(2),
            stack: self.lock,
            task_id: None,
            start: at(from),
            end: at(to),
            blocked: Nanos(blocked),
            runqueue: Nanos(runqueue),
            running: Nanos(to - from - runqueue - blocked),
            waits: 0,
            samples: 1,
            queued: None,
            evidence: PollEvidence::Tick,
        };
        interval.polls.push(poll);
    }

    /// What thread 2 did from 100 to 200, most first: how often it had to wait in turn, the end and the time.
    fn told(&self) -> Vec<(usize, BlameEnd, u64)> {
        let report = build(&self.recording);
        let site = report
            .sites
            .iter()
            .find(|site| &*site.function == "app::wait");
        let blame = site.and_then(|site| site.blame.clone()).expect("blame");
        assert_eq!((blame.waits, blame.total_ns), (1, Nanos(100)));
        assert_sums(&blame);
        let chains = blame.chains.iter();
        chains
            .map(|chain| (chain.links.len(), chain.end, chain.total_ns.0))
            .collect()
    }
}

fn assert_sums(blame: &Blame) {
    let sum: Nanos = blame.chains.iter().map(|chain| chain.total_ns).sum();
    assert_eq!(sum + blame.more_ns, blame.total_ns, "{blame:?}");
}

#[test]
fn who_was_never_idle_ran() {
    assert_eq!(Scene::new().told(), [(0, BlameEnd::Running, 100)]);
}

#[test]
fn who_hardly_ran_was_idle() {
    let mut scene = Scene::new();
    scene.sums_only(State::Idle, 998);
    let told = [(0, BlameEnd::Idle, 98), (0, BlameEnd::RunningOrIdle, 2)];
    assert_eq!(scene.told(), told);
}

#[test]
fn who_ran_and_was_idle_for_longer_may_have_been_either() {
    let mut scene = Scene::new();
    scene.sums_only(State::Idle, 500);
    assert_eq!(scene.told(), [(0, BlameEnd::RunningOrIdle, 100)]);
    // 30 of the 100 at least were no idle ones.
    let mut scene = Scene::new();
    scene.sums_only(State::Idle, 70);
    let told = [(0, BlameEnd::RunningOrIdle, 70), (0, BlameEnd::Running, 30)];
    assert_eq!(scene.told(), told);
}

#[test]
fn nobody_is_idle_in_a_poll() {
    let mut scene = Scene::new();
    scene.sums_only(State::Idle, 500);
    scene.poll((90, 210), 30, 24);
    // As in all of the poll: 66 of 120 ran, 30 wanted a CPU, 24 were in short waits.
    let told = [
        (0, BlameEnd::Running, 55),
        (0, BlameEnd::RunQueue, 25),
        (0, BlameEnd::ShortWaits, 20),
    ];
    assert_eq!(scene.told(), told);
}

#[test]
fn what_a_poll_has_is_not_in_the_rest() {
    let mut scene = Scene::new();
    // It ran for 50, all of it in a poll; so it was idle for all of the time from 100 to 200.
    scene.sums_only(State::Idle, 950);
    scene.poll((300, 350), 0, 0);
    assert_eq!(scene.told(), [(0, BlameEnd::Idle, 100)]);
}

#[test]
fn short_waits_are_told_from_running() {
    let mut scene = Scene::new();
    scene.sums_only(State::Blocked, 750);
    let told = [(0, BlameEnd::ShortWaits, 75), (0, BlameEnd::Running, 25)];
    assert_eq!(scene.told(), told);
}

#[test]
fn waits_are_parts_by_themselves() {
    let mut scene = Scene::new();
    let hold = scene.stack(State::Blocked);
    scene.recording.push_wait(2, hold, 110, 190);
    // Woken at 180, it came to run at 190.
    let woken = Timestamp(scene.last_wait().wakeup.0 - 10);
    scene.last_wait().wakeup = woken;
    let told = [
        (1, BlameEnd::Outside, 70),
        (0, BlameEnd::Running, 20),
        (0, BlameEnd::RunQueue, 10),
    ];
    assert_eq!(scene.told(), told);
}

#[test]
fn who_was_parked_or_stopped_is_told_so() {
    for (state, end) in [
        (State::Idle, BlameEnd::Idle),
        (State::Stopped, BlameEnd::Stopped),
    ] {
        let mut scene = Scene::new();
        let held = scene.stack(state);
        scene.recording.push_wait(2, held, 100, 200);
        assert_eq!(scene.told(), [(0, end, 100)]);
    }
}

#[test]
fn threads_that_hold_what_the_other_waits_for_are_a_circle() {
    let mut scene = Scene::new();
    scene.recording.interval().waits.clear();
    scene.recording.interval().sums.clear();
    let hold = scene.stack(State::Blocked);
    scene.recording.push_open(1, scene.lock, 600);
    scene.recording.push_open(2, hold, 650);
    for (open, holder) in scene.recording.interval().open_waits.iter_mut().zip([2, 1]) {
        open.holder = Some(Holder::Thread {
            tid: Tid(holder),
            name: "worker".to_owned(),
            evidence: "the lock".to_owned(),
            likely: false,
        });
    }
    let report = build(&scene.recording);
    let site = report
        .sites
        .iter()
        .find(|site| &*site.function == "app::wait");
    let blame = site.and_then(|site| site.blame.clone()).expect("blame");
    assert_eq!((blame.waits, blame.total_ns), (1, Nanos(400)));
    assert_sums(&blame);
    let last = &blame.chains[0];
    assert_eq!((last.end, last.total_ns), (BlameEnd::Cycle, Nanos(350)));
    assert_eq!(&*last.links[0].function, "app::hold");
}

/// A made-up program whose threads end each other's waits.
fn story(seed: u64) -> Story {
    let mut random = Random::new(seed);
    let mut story = Story::new(10_000, 50);
    let threads = 2 + random.below(4) as u32;
    story.base.tables.wakers = (0..threads)
        .map(|n| Waker {
            pid: Pid(1),
            tid: Tid(10 + n),
            name: "worker".into(),
        })
        .collect();
    for n in 0..threads {
        story.threads.push(thread_of(0, 10 + n));
        let mut at = random.below(1_000);
        while at < story.length {
            let wakeup = at + 1 + random.below(800);
            let end = wakeup + random.below(20);
            story.waits.push(Told {
                thread: thread_of(0, 10 + n),
                // Of the first process, blocked and idle ones.
                stack: StackId(2 * random.below(2) as u32),
                object: None,
                start: at,
                wakeup,
                end,
                waker: (random.below(3) > 0).then(|| WakerId(random.below(threads.into()) as u32)),
                task_id: None,
            });
            at = end + 1 + random.below(400);
        }
    }
    story
}

/// By site, links and end, where what is in no wait is one.
fn merged(report: &Report) -> BTreeMap<(String, String), u64> {
    let mut all = BTreeMap::new();
    for site in &report.sites {
        let Some(blame) = &site.blame else { continue };
        assert_sums(blame);
        assert!(blame.chains.len() < crate::report::BLAME_CHAINS);
        for chain in &blame.chains {
            let end = match chain.end {
                BlameEnd::Running | BlameEnd::Idle | BlameEnd::ShortWaits | BlameEnd::RunQueue => {
                    BlameEnd::RunningOrIdle
                }
                end => end,
            };
            let links: Vec<_> = chain.links.iter().map(|link| link.line).collect();
            let site = format!("{} {:?} {:?}", site.function, site.line, site.state);
            *all.entry((site, format!("{links:?} {end:?}"))).or_default() += chain.total_ns.0;
        }
    }
    all
}

/// Intervals say more of what was in no wait than the whole does. All else is the same, and the sums are.
#[test]
fn parts_sum_to_the_whole_wherever_it_is_cut() {
    for seed in 0..200 {
        let story = story(seed);
        let whole = build(&story.cut(&[]));
        let cut = story.cut(&[1_700, 3_000, 3_100, 8_000]);
        assert_eq!(merged(&whole), merged(&build(&cut)), "seed {seed}");
        let mut analyzer = Analyzer::new(&cut.header).keeping(8);
        for interval in &cut.intervals {
            analyzer.add(&cut.tables, interval.clone());
        }
        let folded = analyzer.report(&cut.header, &cut.tables);
        // Of what was swept over before a wait ended, less is known; but its time is all there.
        let times = |report: &Report| {
            let sites = report.sites.iter();
            let blames = sites.filter_map(|site| site.blame.as_ref());
            blames.map(|blame| blame.total_ns).sum::<Nanos>()
        };
        assert!(!merged(&folded).is_empty(), "seed {seed}");
        assert_eq!(times(&folded), times(&whole), "seed {seed}");
    }
}
