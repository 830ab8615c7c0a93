use super::*;
use crate::scheduler_core::core_layout;

/// Words of memory, by address.
struct Known<'a>(&'a [(u64, u64)]);

impl Memory for Known<'_> {
    fn words<const N: usize>(&self, at: u64) -> [u64; N] {
        core::array::from_fn(|n| self.word(at + 8 * n as u64).unwrap_or(0))
    }

    fn word(&self, at: u64) -> Option<u64> {
        let word = self.0.iter().find(|(address, _)| *address == at);
        word.map(|(_, word)| *word)
    }
}

const SCHEDULER: u64 = 0x1000;
const CORE: u64 = 0x2000;
/// Where a core has its parker.
const PARK: u64 = core_layout::WORKER.park as u64;
const HANDLE: u64 = 0x5000;
/// Of a multi_thread runtime's worker.
const WORKER: (u64, u64) = (SCHEDULER, SCHEDULER_MULTI_THREAD);
/// Layouts of runtimes of any kind.
const ALL: [Fields; 3] = [layout::NEW, layout::OLD, layout::NEW_TASKDUMP];

/// What a context is made of.
#[derive(Clone, Copy)]
struct Case {
    entered: bool,
    depth: u64,
    scheduler: u64,
    task: u64,
    polls: bool,
    runtime: u8,
}

const FREE: Case = Case {
    entered: false,
    depth: 0,
    scheduler: 0,
    task: 0,
    polls: false,
    runtime: RUNTIME_NONE,
};

fn of(case: Case, fields: Fields, memory: &[(u64, u64)]) -> Found {
    let mut words: Words = [0; WORDS];
    let mut byte = |at: u8, value: u8| {
        words[usize::from(at) / 8] |= u64::from(value) << (at % 8 * 8);
    };
    if fields.tag != fields.handle {
        byte(fields.tag, if case.entered { 1 } else { fields.no_handle });
    }
    byte(fields.runtime, case.runtime);
    byte(fields.budget, case.polls.into());
    let mut word = |at: u8, value: u64| words[usize::from(at) / 8] = value;
    if case.entered {
        word(fields.handle, HANDLE);
    }
    word(fields.depth, case.depth);
    word(fields.scheduler, case.scheduler);
    word(fields.task_id, case.task);
    if case.task != 0 && fields.task != fields.task_id {
        word(fields.task, 1);
    }
    found(
        &Context::of(&words, &fields),
        &core_layout::WORKER,
        &Known(memory),
    )
}

fn place_of(case: Case, memory: &[(u64, u64)]) -> u32 {
    let all = ALL.map(|fields| {
        let found = of(case, fields, memory);
        assert_eq!(found.handle, if case.entered { HANDLE } else { 0 });
        found.tls_state
    });
    assert!(all.iter().all(|one| *one == all[0]), "they differ: {all:?}");
    all[0]
}

#[test]
fn threads_outside_a_runtime_are_told_apart() {
    let pool = Case {
        entered: true,
        depth: 1,
        ..FREE
    };
    assert_eq!(place_of(FREE, &[]), tls_state::FOREIGN);
    assert_eq!(place_of(pool, &[]), tls_state::ENTERED);
    assert_eq!(place_of(Case { task: 7, ..pool }, &[]), tls_state::POOL_JOB);
    let local = Case {
        task: 7,
        polls: true,
        ..pool
    };
    assert_eq!(place_of(local, &[]), tls_state::OUTSIDE);
    let in_place = Case {
        depth: 2,
        scheduler: SCHEDULER,
        task: 7,
        ..pool
    };
    assert_eq!(place_of(in_place, &[WORKER]), tls_state::IN_PLACE);
    // That cannot be, so nothing is made of it.
    let core = (SCHEDULER + WORKER_CORE, CORE);
    assert_eq!(place_of(in_place, &[WORKER, core]), tls_state::OUTSIDE);
    assert_eq!(place_of(in_place, &[(SCHEDULER, 0)]), tls_state::OUTSIDE);
}

/// A core by `tokio_unstable`: its counters come first, so that what is a parker elsewhere never is 0.
#[test]
fn a_park_is_known_where_counters_come_first() {
    const QUEUE_INTERVAL: u64 = 61 << 32;
    let fields = core_layout::WORKER;
    let state = |memory: &[(u64, u64)]| by_core(CORE, &fields, false, &Known(memory), &mut 0);
    let counter = (CORE + PARK, 17);
    for park in UNSTABLE_PARKS {
        let end = [
            (CORE + park + 16, QUEUE_INTERVAL + 5),
            (CORE + park + 24, 0x0001_0001),
        ];
        let parker = (CORE + park, 0x3000);
        assert_eq!(state(&[counter, end[0], end[1]]), tls_state::WORKER_PARKED);
        assert_eq!(
            state(&[counter, parker, end[0], end[1]]),
            tls_state::WORKER_POLL
        );
        // Without it, what lies beyond the core says nothing.
        let stable = (CORE + CORE_TICK, QUEUE_INTERVAL + 9);
        assert_eq!(
            state(&[counter, stable, end[0], end[1]]),
            tls_state::WORKER_POLL
        );
    }
    assert_eq!(state(&[counter]), tls_state::WORKER_POLL);
}

#[test]
fn workers_are_told_by_their_core() {
    let worker = Case {
        entered: true,
        depth: 2,
        scheduler: SCHEDULER,
        runtime: RUNTIME_MULTI_THREAD,
        ..FREE
    };
    let polls = Case {
        polls: true,
        task: 7,
        ..worker
    };
    let core = (SCHEDULER + WORKER_CORE, CORE);
    let park = (CORE + PARK, 0x3000);
    assert_eq!(place_of(worker, &[WORKER, core]), tls_state::WORKER_PARKED);
    assert_eq!(
        place_of(polls, &[WORKER, core, park]),
        tls_state::WORKER_POLL
    );
    // `task::unconstrained`.
    assert_eq!(
        place_of(worker, &[WORKER, core, park]),
        tls_state::WORKER_POLL
    );
    assert_eq!(place_of(polls, &[WORKER]), tls_state::CORELESS_POLL);
    assert_eq!(place_of(worker, &[WORKER]), tls_state::CORELESS);
    let block_on = Case { depth: 3, ..worker };
    assert_eq!(place_of(block_on, &[WORKER]), tls_state::IN_PLACE);
}

/// What a place says that is none of the runtime's byte, or of the scheduler's pointer.
#[test]
fn fields_that_do_not_go_together_are_no_context() {
    let worker = Case {
        entered: true,
        depth: 2,
        scheduler: SCHEDULER,
        runtime: RUNTIME_MULTI_THREAD,
        ..FREE
    };
    for runtime in [RUNTIME_CURRENT_THREAD, RUNTIME_MULTI_THREAD] {
        assert_eq!(
            place_of(Case { runtime, ..FREE }, &[]),
            tls_state::INCONSISTENT,
            "a runtime without a handle"
        );
    }
    let single = Case {
        runtime: RUNTIME_CURRENT_THREAD,
        ..worker
    };
    assert_eq!(place_of(single, &[WORKER]), tls_state::INCONSISTENT);
    // In a worker's `block_in_place`, another runtime.
    let nested = Case { depth: 3, ..single };
    assert_eq!(
        place_of(nested, &[WORKER]),
        tls_state::CURRENT_THREAD_PARKED
    );
    let own = [(SCHEDULER, 0), (SCHEDULER + 8, HANDLE)];
    assert_eq!(place_of(single, &own), tls_state::CURRENT_THREAD_PARKED);
    // A multi_thread runtime's scheduler that is another's, or anything.
    assert_eq!(place_of(worker, &own), tls_state::INCONSISTENT);
    assert_eq!(
        place_of(worker, &[(SCHEDULER, 0x7f)]),
        tls_state::INCONSISTENT
    );
    assert_eq!(place_of(worker, &[]), tls_state::UNKNOWN, "not to be read");
}

#[test]
fn a_runtime_of_one_thread_needs_no_tag() {
    let entered = Case {
        entered: true,
        depth: 1,
        scheduler: SCHEDULER,
        runtime: RUNTIME_CURRENT_THREAD,
        ..FREE
    };
    for fields in [layout::NEW_SINGLE, layout::OLD_SINGLE] {
        let state = |case| of(case, fields, &[]).tls_state;
        assert_eq!(state(FREE), tls_state::FOREIGN);
        assert_eq!(state(entered), tls_state::CURRENT_THREAD_PARKED);
        let polls = Case {
            polls: true,
            task: 7,
            ..entered
        };
        assert_eq!(state(polls), tls_state::CURRENT_THREAD_POLL);
        assert_eq!(of(polls, fields, &[]).handle, HANDLE);
        assert_eq!(of(polls, fields, &[]).task_id, 7);
    }
}

#[test]
fn an_id_without_its_tag_is_a_former_task() {
    let fields = layout::OLD;
    let mut words: Words = [0; WORDS];
    words[usize::from(fields.tag) / 8] = 1;
    words[usize::from(fields.runtime) / 8] = u64::from(RUNTIME_NONE) << (fields.runtime % 8 * 8);
    words[usize::from(fields.task_id) / 8] = 7;
    let context = Context::of(&words, &fields);
    let found = found(&context, &core_layout::WORKER, &Known(&[]));
    assert_eq!((found.tls_state, found.task_id), (tls_state::ENTERED, 0));
}

#[test]
fn of_several_copies_the_one_that_a_thread_has_entered_counts() {
    let found = |tls_state, place| Found {
        tls_state,
        place,
        ..Found::UNKNOWN
    };
    let of = |one, other| heavier(found(one, 1), found(other, 2));
    use tls_state::*;
    for (light, heavy) in [
        (FOREIGN, ENTERED),
        (FOREIGN, WORKER_PARKED),
        (UNKNOWN, WORKER_POLL),
        (ENTERED, CURRENT_THREAD_PARKED),
        (CURRENT_THREAD_PARKED, WORKER_POLL),
        (BLOCK_ON_PARKED, IN_PLACE),
    ] {
        assert_eq!(of(light, heavy), found(heavy, 2));
        assert_eq!(of(heavy, light), found(heavy, 1));
    }
    assert_eq!(of(FOREIGN, FOREIGN).tls_state, FOREIGN);
    // The other may be the one.
    assert_eq!(of(FOREIGN, UNKNOWN).tls_state, UNKNOWN);
    assert_eq!(of(UNKNOWN, FOREIGN).tls_state, UNKNOWN);
}

/// The core of a `current_thread` runtime is where a worker's is.
#[test]
fn the_core_of_one_thread_is_found() {
    let mut words: Words = [0; WORDS];
    let fields = layout::NEW;
    words[usize::from(fields.handle) / 8] = HANDLE;
    words[usize::from(fields.tag) / 8] = RUNTIME_CURRENT_THREAD.into();
    words[usize::from(fields.scheduler) / 8] = SCHEDULER;
    words[usize::from(fields.budget) / 8] |= 1 << (fields.budget % 8 * 8);
    let of = |memory: &[(u64, u64)]| {
        let context = Context::of(&words, &fields);
        let found = found(&context, &core_layout::WORKER, &Known(memory));
        (found.tls_state, found.core)
    };
    let core = (SCHEDULER + WORKER_CORE, CORE);
    let single = (SCHEDULER, SCHEDULER_CURRENT_THREAD);
    assert_eq!(of(&[single, core]), (tls_state::CURRENT_THREAD_POLL, CORE));
    assert_eq!(of(&[single]), (tls_state::CURRENT_THREAD_POLL, 0));
    assert_eq!(of(&[WORKER, core]).0, tls_state::INCONSISTENT);
    assert_eq!(
        of(&[(SCHEDULER, 9), core]),
        (tls_state::CURRENT_THREAD_POLL, 0)
    );
}

/// Where there is one kind of runtime only, its context begins with the handle and not with a tag.
#[test]
fn the_core_of_one_thread_is_found_without_a_tag() {
    let fields = layout::NEW_SINGLE;
    let mut words: Words = [0; WORDS];
    words[usize::from(fields.handle) / 8] = HANDLE;
    words[usize::from(fields.scheduler) / 8] = SCHEDULER;
    words[usize::from(fields.budget) / 8] |= 1 << (fields.budget % 8 * 8);
    let of = |memory: &[(u64, u64)]| {
        let context = Context::of(&words, &fields);
        let found = found(&context, &core_layout::WORKER, &Known(memory));
        (found.tls_state, found.core)
    };
    let core = (SCHEDULER + SINGLE_CORE, CORE);
    let polls = tls_state::CURRENT_THREAD_POLL;
    assert_eq!(of(&[(SCHEDULER, HANDLE), core]), (polls, CORE));
    // A tag of the other layout, and another runtime's handle.
    assert_eq!(of(&[(SCHEDULER, SCHEDULER_MULTI_THREAD), core]), (polls, 0));
    assert_eq!(of(&[(SCHEDULER, HANDLE + 8), core]), (polls, 0));
}

#[test]
fn the_variables_of_tokio_1_20_name_the_runtime() {
    let at = Variables {
        entered: 0x100,
        worker: 0x110,
        current_thread: 0x120,
        budget: 0x130,
        handle: 0x140,
    };
    let of = |memory: &[(u64, u64)]| {
        let found = found_in_variables(&at, &Known(memory));
        (found.tls_state, found.handle)
    };
    let worker = [
        (0x100, 1),
        (0x110, 0x1000),
        (0x1010, CORE),
        (CORE + PARK, 7),
    ];
    let with = |more: &[(u64, u64)]| [&worker[..], more].concat();
    assert_eq!(of(&worker), (tls_state::WORKER_POLL, 0));
    let entered = with(&[(0x140, 1), (0x148, HANDLE)]);
    assert_eq!(of(&entered), (tls_state::WORKER_POLL, HANDLE));
    // What is behind the tag of no handle is what was there before.
    let left = with(&[(0x140, 2), (0x148, HANDLE)]);
    assert_eq!(of(&left), (tls_state::WORKER_POLL, 0));
    let pool = [(0x100, RUNTIME_NONE.into()), (0x140, 1), (0x148, HANDLE)];
    assert_eq!(of(&pool), (tls_state::OUTSIDE, HANDLE));
    assert_eq!(of(&[]), (tls_state::UNKNOWN, 0), "it cannot be read");
    let unknown = Variables { handle: 0, ..at };
    assert_eq!(found_in_variables(&unknown, &Known(&entered)).handle, 0);
}
