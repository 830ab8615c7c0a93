use super::*;

const FIRST: ProcessId = ProcessId(0);

fn id(tid: u32) -> ThreadId {
    ThreadId {
        process: FIRST,
        tid: Tid(tid),
    }
}

fn times(first_seen: u64, running: u64, runnable: u64, blocked: u64, waits: u64) -> ThreadTimes {
    ThreadTimes {
        first_seen: Timestamp(first_seen),
        running: Nanos(running),
        runnable: Nanos(runnable),
        blocked: Nanos(blocked),
        waits,
        in_calls: Nanos::ZERO,
    }
}

fn waiting(since: u64, woken: Option<u64>, stack: WaitStack) -> Phase {
    Phase::Waiting(OpenWait {
        since: Timestamp(since),
        woken: woken.map(Timestamp),
        stack,
        object: None,
        task_id: None,
        tick: None,
    })
}

fn running(since: u64) -> Phase {
    Phase::Running(Timestamp(since))
}

fn ledger() -> ThreadLedger {
    let mut ledger = ThreadLedger::new(1000);
    ledger.begin(Timestamp(0));
    ledger
}

/// Lived, running, runnable, blocked, waits of the only thread.
type Reported = (u64, u64, u64, u64, u64);

fn only(stretch: &Stretch) -> Reported {
    assert_eq!(stretch.threads.len(), 1, "{stretch:?}");
    of(stretch, stretch.threads[0].thread)
}

fn of(stretch: &Stretch, thread: ThreadId) -> Reported {
    let times = stretch.threads.iter().find(|times| times.thread == thread);
    times.map_or((0, 0, 0, 0, 0), |times| {
        (
            times.lived.0,
            times.running.0,
            times.runnable.0,
            times.blocked.0,
            times.waits,
        )
    })
}

fn cut(ledger: &mut ThreadLedger, at: u64, states: &[(u32, Phase, ThreadTimes)]) -> Stretch {
    let states = states.iter().map(|(tid, phase, times)| {
        let state = ThreadState {
            phase: *phase,
            times: *times,
        };
        (id(*tid), state)
    });
    let states: Vec<_> = states.collect();
    ledger.cut(Timestamp(at), states, &HashSet::new())
}

#[test]
fn an_interval_has_what_came_since_the_cut_before() {
    let mut ledger = ledger();
    // It ran for 30, waited for 50 and ran again.
    let first = cut(
        &mut ledger,
        100,
        &[(7, running(80), times(0, 30, 0, 50, 1))],
    );
    assert_eq!(only(&first), (100, 50, 0, 50, 1));
    // It went on to run until 120, and waits.
    let wait = waiting(120, None, WaitStack::Lost);
    let second = cut(&mut ledger, 200, &[(7, wait, times(0, 70, 0, 50, 1))]);
    assert_eq!(only(&second), (100, 20, 0, 80, 0));
    assert_eq!(second.open.len(), 1);
    // Nothing changes: the wait goes on.
    let third = cut(&mut ledger, 300, &[(7, wait, times(0, 70, 0, 50, 1))]);
    assert_eq!(only(&third), (100, 0, 0, 100, 0));
    // It ended at 310, and the thread ran until it ended itself.
    ledger.ended(id(7), Timestamp(350), &times(0, 110, 0, 240, 2));
    let last = cut(&mut ledger, 400, &[]);
    assert_eq!(only(&last), (50, 40, 0, 10, 1));
    assert!(cut(&mut ledger, 500, &[]).threads.is_empty());
}

#[test]
fn a_woken_wait_is_blocked_until_its_wakeup_and_runnable_from_then_on() {
    let mut ledger = ledger();
    let woken = waiting(20, Some(60), WaitStack::Lost);
    let first = cut(&mut ledger, 100, &[(7, woken, times(0, 20, 0, 0, 0))]);
    assert_eq!(only(&first), (100, 20, 40, 40, 0));
    assert_eq!(first.open[0].wait.woken, Some(Timestamp(60)));
    // A wakeup after the cut had not happened then.
    let later = waiting(20, Some(170), WaitStack::Lost);
    let other = cut(
        &mut ThreadLedger::new(9),
        100,
        &[(7, later, times(0, 20, 0, 0, 0))],
    );
    assert_eq!(only(&other), (100, 20, 0, 80, 0));
    assert_eq!(other.open[0].wait.woken, None);
}

#[test]
fn what_was_reported_too_much_is_taken_from_the_rest_and_evens_out() {
    let mut ledger = ledger();
    let wait = waiting(20, None, WaitStack::Lost);
    let first = cut(&mut ledger, 100, &[(7, wait, times(0, 20, 0, 0, 0))]);
    assert_eq!(only(&first), (100, 20, 0, 80, 0));
    // In truth it woke at 30 and ran from 40 on: the kernel had hidden both.
    let second = cut(
        &mut ledger,
        200,
        &[(7, running(200), times(0, 180, 10, 10, 1))],
    );
    let reported = only(&second);
    assert_eq!(reported.0, 100);
    assert_eq!(
        reported.1 + reported.2 + reported.3,
        reported.0,
        "the parts sum to the life"
    );
    assert_eq!((reported.3, reported.4), (0, 1));
    // 70 too much were reported as blocked; a later wait of 90 has 20 left.
    let third = cut(
        &mut ledger,
        300,
        &[(7, running(300), times(0, 190, 10, 100, 2))],
    );
    assert_eq!(third.threads[0].lived, Nanos(100));
    let sum = |part: fn(Reported) -> u64| part(only(&first)) + part(reported) + part(only(&third));
    assert_eq!(sum(|reported| reported.0), 300);
    assert_eq!(sum(|reported| reported.1), 190);
    assert_eq!(sum(|reported| reported.2), 10);
    assert_eq!(sum(|reported| reported.3), 100);
}

#[test]
fn a_switch_that_bears_a_later_time_than_the_cut_moves_the_thread_s_own_cut() {
    let mut ledger = ledger();
    let first = cut(
        &mut ledger,
        100,
        &[(7, running(103), times(0, 60, 0, 43, 1))],
    );
    assert_eq!(only(&first), (103, 60, 0, 43, 1));
    let second = cut(
        &mut ledger,
        200,
        &[(7, running(103), times(0, 60, 0, 43, 1))],
    );
    assert_eq!(only(&second), (97, 97, 0, 0, 0));
}

#[test]
fn threads_come_and_end_between_two_cuts() {
    let mut ledger = ledger();
    ledger.ended(id(8), Timestamp(90), &times(30, 60, 0, 0, 4));
    // One of the same id was born after it, and lives.
    let state = (8, running(95), times(95, 0, 0, 0, 0));
    let first = cut(&mut ledger, 100, &[state]);
    assert_eq!(only(&first), (65, 65, 0, 0, 4));
    let second = cut(&mut ledger, 200, &[state]);
    assert_eq!(only(&second), (100, 100, 0, 0, 0));
}

#[test]
fn a_thread_that_is_seen_first_after_a_cut_was_not_there_at_it() {
    let mut ledger = ledger();
    assert!(cut(&mut ledger, 100, &[]).threads.is_empty());
    // Born at 130.
    let second = cut(
        &mut ledger,
        200,
        &[(7, running(150), times(130, 0, 20, 0, 0))],
    );
    assert_eq!(only(&second), (70, 50, 20, 0, 0));
}

#[test]
fn threads_that_never_switched_do_what_they_did_at_the_start() {
    let mut ledger = ledger();
    for (tid, doing) in [
        (1, AtStart::Running),
        (2, AtStart::Runnable),
        (3, AtStart::Waiting),
        (4, AtStart::Waiting),
    ] {
        ledger.found_at_start(id(tid), doing);
    }
    let moved = HashSet::from([id(4)]);
    let first = ledger.cut(Timestamp(100), [], &moved);
    assert_eq!(of(&first, id(1)), (100, 100, 0, 0, 0));
    assert_eq!(of(&first, id(2)), (100, 0, 100, 0, 0));
    assert_eq!(of(&first, id(3)), (100, 0, 0, 100, 0));
    assert_eq!(first.threads.len(), 3, "one was lost");
    assert_eq!(first.open.len(), 1);
    assert_eq!(first.open[0].wait.stack, WaitStack::BeforeRecording);
    // The one that waited does so until 150, and runs.
    let second = cut(
        &mut ledger,
        200,
        &[(3, running(150), times(0, 0, 0, 150, 1))],
    );
    assert_eq!(of(&second, id(3)), (100, 50, 0, 50, 1));
    assert_eq!(of(&second, id(1)), (100, 100, 0, 0, 0));
}

#[test]
fn a_thread_found_wanting_a_cpu_did_not_wait() {
    let mut ledger = ledger();
    ledger.found_at_start(id(7), AtStart::Runnable);
    let before = waiting(0, None, WaitStack::BeforeRecording);
    let first = cut(&mut ledger, 100, &[(7, before, times(0, 0, 0, 0, 0))]);
    assert_eq!(only(&first), (100, 0, 100, 0, 0));
    assert!(first.open.is_empty());
    // It came to run at 120, which the kernel side counted as the end of a wait.
    assert!(ledger.was_no_wait(id(7), &Sum::one(Nanos(120), Nanos(0))));
    assert!(
        !ledger.was_no_wait(id(7), &Sum::one(Nanos(1), Nanos(0))),
        "once"
    );
    assert!(!ledger.was_no_wait(id(8), &Sum::one(Nanos(1), Nanos(0))));
    let second = cut(
        &mut ledger,
        200,
        &[(7, running(120), times(0, 0, 0, 120, 1))],
    );
    assert_eq!(only(&second), (100, 80, 20, 0, 0));
}

#[test]
fn a_command_does_not_live_while_it_is_held() {
    let mut ledger = ledger();
    ledger.found_at_start(id(7), AtStart::Held);
    let held = waiting(0, Some(90), WaitStack::BeforeRecording);
    let first = cut(&mut ledger, 100, &[(7, held, times(0, 0, 0, 0, 0))]);
    assert!(first.threads.is_empty() && first.open.is_empty());
    assert!(ledger.was_no_wait(id(7), &Sum::one(Nanos(90), Nanos(30))));
    let second = cut(
        &mut ledger,
        200,
        &[(7, running(120), times(0, 0, 30, 90, 1))],
    );
    assert_eq!(only(&second), (80, 80, 0, 0, 0));
}

/// Its end arrives before the interval is closed, in which the sum of its first wait is looked at.
#[test]
fn what_was_no_wait_is_left_out_where_its_thread_ends_in_the_same_interval() {
    for (doing, reported) in [
        (AtStart::Held, (80, 80, 0, 0, 0)),
        (AtStart::Runnable, (200, 80, 120, 0, 0)),
    ] {
        let mut ledger = ledger();
        ledger.found_at_start(id(7), doing);
        ledger.ended(id(7), Timestamp(200), &times(0, 80, 30, 90, 1));
        ledger.process_ended(FIRST);
        assert!(ledger.was_no_wait(id(7), &Sum::one(Nanos(90), Nanos(30))));
        assert_eq!(only(&cut(&mut ledger, 300, &[])), reported, "{doing:?}");
        assert!(cut(&mut ledger, 400, &[]).threads.is_empty(), "{doing:?}");
        // Another thread of that id was not there.
        assert!(!ledger.was_no_wait(id(7), &Sum::one(Nanos(1), Nanos(0))));
    }
}

#[test]
fn threads_of_a_process_that_has_ended_do_nothing_any_more() {
    let mut ledger = ledger();
    ledger.found_at_start(id(3), AtStart::Waiting);
    assert_eq!(only(&cut(&mut ledger, 100, &[])), (100, 0, 0, 100, 0));
    // The record of the thread's end was lost.
    ledger.process_ended(FIRST);
    assert!(cut(&mut ledger, 200, &[]).threads.is_empty());
    assert!(cut(&mut ledger, 300, &[]).threads.is_empty());
}

#[test]
fn the_record_of_a_thread_s_end_may_have_been_lost() {
    let mut ledger = ledger();
    let dead = (7, Phase::Ended(Timestamp(60)), times(10, 50, 0, 0, 2));
    assert_eq!(only(&cut(&mut ledger, 100, &[dead])), (50, 50, 0, 0, 2));
    assert!(cut(&mut ledger, 200, &[]).threads.is_empty());
    // Its id is given to another.
    let next = (7, running(260), times(250, 0, 10, 0, 0));
    assert_eq!(only(&cut(&mut ledger, 300, &[next])), (50, 40, 10, 0, 0));
}

#[test]
fn a_thread_whose_end_is_never_reported_is_not_expected_for_ever() {
    let mut ledger = ledger();
    let state = (7, running(0), times(0, 0, 0, 0, 0));
    assert_eq!(only(&cut(&mut ledger, 100, &[state])), (100, 100, 0, 0, 0));
    // It is on its way out, and the record of its end finds no room.
    assert!(cut(&mut ledger, 200, &[]).threads.is_empty());
    assert_eq!(ledger.living().count(), 1, "its end may be reported");
    assert!(cut(&mut ledger, 300, &[]).threads.is_empty());
    assert_eq!(ledger.living().count(), 0);
    // Its id is given to another.
    let next = (7, running(340), times(320, 0, 20, 0, 0));
    assert_eq!(only(&cut(&mut ledger, 400, &[next])), (80, 60, 20, 0, 0));
}

#[test]
fn a_folded_thread_on_its_way_out_is_shown_where_its_times_are() {
    let mut ledger = ThreadLedger::new(0);
    ledger.begin(Timestamp(0));
    let state = (7, running(0), times(0, 0, 0, 0, 0));
    let first = cut(&mut ledger, 100, &[state]);
    assert_eq!(first.shown(id(7)), folded(FIRST));
    let second = cut(&mut ledger, 200, &[]);
    assert_eq!(
        second.shown(id(7)),
        folded(FIRST),
        "its end is not reported yet"
    );
    ledger.ended(id(7), Timestamp(150), &times(0, 150, 0, 0, 0));
    let third = cut(&mut ledger, 300, &[]);
    assert_eq!(only(&third), (50, 50, 0, 0, 0));
    assert_eq!(third.shown(id(7)), folded(FIRST));
    assert_eq!(ledger.folded(), 1);
}

#[test]
fn a_thread_that_moved_once_without_a_place_never_counts_as_unmoved() {
    let mut ledger = ledger();
    ledger.found_at_start(id(3), AtStart::Waiting);
    let moved = HashSet::from([id(3)]);
    let first = ledger.cut(Timestamp(100), Vec::new(), &moved);
    assert!(first.threads.is_empty() && first.open.is_empty());
    assert!(!ledger.has_unmoved(), "nobody need be asked any more");
    let second = cut(&mut ledger, 200, &[]);
    assert!(second.threads.is_empty() && second.open.is_empty());
}

#[test]
fn threads_count_as_unmoved_until_the_kernel_side_has_seen_them() {
    let mut ledger = ledger();
    assert!(!ledger.has_unmoved());
    ledger.found_at_start(id(3), AtStart::Waiting);
    cut(&mut ledger, 100, &[]);
    assert!(ledger.has_unmoved());
    cut(
        &mut ledger,
        200,
        &[(3, running(150), times(0, 0, 0, 150, 1))],
    );
    assert!(!ledger.has_unmoved());
}

#[test]
fn names_of_threads_that_no_interval_has_are_forgotten() {
    let mut ledger = ThreadLedger::new(2);
    ledger.begin(Timestamp(0));
    let mut names = BTreeMap::new();
    for tid in 1..=10 {
        names.insert(id(tid), "thread");
        ledger.ended(id(tid), Timestamp(50), &times(0, 50, 0, 0, 1));
    }
    let stretch = cut(&mut ledger, 100, &[]);
    ledger.retain_named(&mut names);
    assert_eq!(names.len(), 10, "a few more do no harm");
    for tid in 11..=MAX_UNNAMED as u32 + 11 {
        names.insert(id(tid), "thread");
    }
    ledger.retain_named(&mut names);
    let reported = stretch.threads.iter().map(|times| times.thread);
    let reported: Vec<_> = reported.filter(|thread| *thread != folded(FIRST)).collect();
    assert_eq!(reported.len(), 2);
    assert_eq!(names.into_keys().collect::<Vec<_>>(), reported);
}

#[test]
fn a_thread_may_have_the_id_of_one_whose_end_was_not_seen() {
    let mut ledger = ledger();
    let first = (7, running(60), times(10, 20, 10, 20, 1));
    assert_eq!(only(&cut(&mut ledger, 100, &[first])), (90, 60, 10, 20, 1));
    let ended = (7, Phase::Ended(Timestamp(110)), times(10, 70, 10, 20, 1));
    let next = (7, running(160), times(150, 0, 10, 0, 0));
    let both = cut(&mut ledger, 200, &[ended, next]);
    assert_eq!(only(&both), (60, 50, 10, 0, 0));
    let last = (7, running(160), times(150, 0, 10, 0, 0));
    assert_eq!(only(&cut(&mut ledger, 300, &[last])), (100, 100, 0, 0, 0));
}

#[test]
fn lost_switches_leave_time_that_is_in_no_part() {
    let mut ledger = ledger();
    let first = cut(
        &mut ledger,
        100,
        &[(7, running(80), times(0, 30, 0, 20, 1))],
    );
    assert_eq!(only(&first), (100, 50, 0, 20, 1));
}

#[test]
fn ended_threads_beyond_the_bound_are_folded_and_nothing_of_them_is_lost() {
    let mut ledger = ThreadLedger::new(2);
    ledger.begin(Timestamp(0));
    for tid in 1..=5 {
        ledger.ended(id(tid), Timestamp(50), &times(0, 50, 0, 0, 1));
    }
    let stretch = cut(&mut ledger, 100, &[(9, running(0), times(0, 0, 0, 0, 0))]);
    let all = stretch
        .threads
        .iter()
        .map(|times| times.lived.0)
        .sum::<u64>();
    assert_eq!(all, 5 * 50 + 100);
    let together = of(&stretch, folded(FIRST));
    assert!(together.4 >= 3, "{together:?}");
    assert_eq!(ledger.folded(), together.4);
    assert_eq!(of(&stretch, id(9)), (100, 100, 0, 0, 0), "it lives");
    let shown: HashSet<_> = (1..=5).map(|tid| stretch.shown(id(tid))).collect();
    assert_eq!(shown.len() as u64, 5 - together.4 + 1);
}

#[test]
fn a_long_call_is_in_the_interval_in_which_it_returns() {
    let mut ledger = ledger();
    let state = |in_calls, running_for| ThreadTimes {
        in_calls: Nanos(in_calls),
        ..times(0, running_for, 0, 0, 0)
    };
    cut(&mut ledger, 100, &[(7, running(100), state(0, 100))]);
    let second = cut(&mut ledger, 200, &[(7, running(200), state(150, 200))]);
    assert_eq!(second.threads[0].in_calls, Nanos(150), "it began before");
    let third = cut(&mut ledger, 300, &[(7, running(300), state(150, 300))]);
    assert_eq!(third.threads[0].in_calls, Nanos(0));
}

#[test]
fn figures_from_outside_do_not_overflow() {
    let mut ledger = ledger();
    let huge = times(u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX);
    ledger.ended(id(7), Timestamp(u64::MAX), &huge);
    ledger.ended(id(7), Timestamp(0), &huge);
    let state = (7, waiting(u64::MAX, Some(3), WaitStack::Lost), huge);
    cut(&mut ledger, u64::MAX, &[state]);
    cut(&mut ledger, 0, &[(7, running(0), huge)]);
}
