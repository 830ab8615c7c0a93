use super::*;

const EPOLL_WAIT: u32 = syscall("epoll_wait");

fn by_stack(state: State, role: Role) -> Classification {
    Classification {
        state,
        role,
        rule: RuleName("test"),
        frame: None,
        task_frame: None,
    }
}

fn agreement(cases: &[(State, Role, TlsState)]) -> Agreement {
    let mut agreement = Agreement::default();
    for (state, role, tls_state) in cases {
        agreement.add(&by_stack(*state, *role), None, *tls_state);
    }
    agreement
}

const CONFIRMED: (State, Role, TlsState) = (State::Idle, WORKER, TlsState::WorkerParked);

/// Reports carry them, and whoever reads reports by program knows them.
#[test]
fn rules_keep_their_names() {
    let names: std::collections::BTreeSet<&str> = [
        TlsState::Outside,
        TlsState::HandedOff,
        TlsState::CorelessPoll,
        TlsState::WorkerPoll,
        TlsState::WorkerParked,
        TlsState::Coreless,
        TlsState::BlockOnPoll,
        TlsState::BlockOnParked,
        TlsState::CurrentThreadPoll,
        TlsState::CurrentThreadParked,
    ]
    .into_iter()
    .flat_map(|state| {
        [State::Blocked, State::Unknown]
            .map(|by_stack| overrule(self::by_stack(by_stack, WORKER), state).rule.0)
    })
    .collect();
    let wanted = [
        "context-block-on-parked",
        "context-block-on-poll",
        "context-coreless",
        "context-coreless-poll",
        "context-current-thread-parked",
        "context-current-thread-poll",
        "context-in-place",
        "context-outside",
        "context-worker-parked",
        "context-worker-poll",
        "test",
    ];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), wanted);
}

#[test]
fn nothing_counts_before_it_is_confirmed() {
    let alone = agreement(&[]);
    let blocked = by_stack(State::Blocked, WORKER);
    assert_eq!(alone.judge(blocked, TlsState::Outside), blocked);
    let confirmed = agreement(&[CONFIRMED]);
    assert_eq!(
        confirmed.judge(blocked, TlsState::Outside).state,
        State::HandedOff
    );
    assert_eq!(
        confirmed.judge(blocked, TlsState::CorelessPoll).state,
        State::HandedOff
    );
    assert_eq!(
        confirmed.judge(blocked, TlsState::HandedOff).state,
        State::HandedOff
    );
    assert_eq!(confirmed.judge(blocked, TlsState::WorkerPoll), blocked);
    let inlined = by_stack(State::Other, Role::None);
    assert_eq!(
        confirmed.judge(inlined, TlsState::CurrentThreadPoll).state,
        State::Blocked
    );
    assert_eq!(confirmed.judge(inlined, TlsState::Outside), inlined);
}

#[test]
fn one_disagreement_switches_it_off() {
    for against in [
        (State::Idle, WORKER, TlsState::WorkerPoll),
        (State::Blocked, WORKER, TlsState::WorkerParked),
        (State::Pool, Role::PoolThread, TlsState::WorkerPoll),
        (State::HandedOff, WORKER, TlsState::WorkerPoll),
        (State::HandedOff, WORKER, TlsState::Entered),
        (State::Blocked, WORKER, TlsState::PoolJob),
        (State::Idle, Role::PoolThread, TlsState::PoolJob),
    ] {
        let both = agreement(&[CONFIRMED, CONFIRMED, against]);
        assert!(!both.trusted(), "{against:?}");
        let blocked = by_stack(State::Blocked, WORKER);
        assert_eq!(both.judge(blocked, TlsState::Outside), blocked);
    }
}

#[test]
fn it_speaks_where_stacks_do_not() {
    let mut agreement = Agreement::default();
    let unnamed = by_stack(State::Unknown, Role::None);
    agreement.add(&unnamed, Some(0), TlsState::Foreign);
    assert!(
        !agreement.trusted(),
        "a place without a context says so, too"
    );
    agreement.add(&unnamed, Some(EPOLL_WAIT), TlsState::WorkerParked);
    assert!(agreement.trusted());
    for (tls_state, state) in [
        (TlsState::WorkerPoll, State::Blocked),
        (TlsState::WorkerParked, State::Idle),
        (TlsState::CorelessPoll, State::HandedOff),
        (TlsState::Coreless, State::Runtime),
        (TlsState::BlockOnPoll, State::Blocked),
        (TlsState::BlockOnParked, State::Idle),
        (TlsState::CurrentThreadPoll, State::Blocked),
        (TlsState::CurrentThreadParked, State::Idle),
        (TlsState::HandedOff, State::HandedOff),
        (TlsState::Outside, State::Unknown),
        (TlsState::Foreign, State::Unknown),
        (TlsState::PoolJob, State::Unknown),
        (TlsState::Entered, State::Unknown),
        (TlsState::Unknown, State::Unknown),
    ] {
        assert_eq!(
            agreement.judge(unnamed, tls_state).state,
            state,
            "{tls_state:?}"
        );
    }
}

#[test]
fn how_sure_it_is_is_told() {
    let unnamed = by_stack(State::Unknown, Role::None);
    let mut agreement = Agreement::default();
    assert_eq!(agreement.certainty(), Certainty::Nothing);
    for nothing in [TlsState::Foreign, TlsState::Outside, TlsState::Unknown] {
        agreement.add(&unnamed, Some(FUTEX), nothing);
        assert_eq!(agreement.certainty(), Certainty::Nothing);
    }
    // A program that hangs: no thread of its ever parks.
    agreement.add(&unnamed, Some(FUTEX), TlsState::WorkerPoll);
    assert_eq!(agreement.certainty(), Certainty::Alone);
    let verdict = agreement.judge(unnamed, TlsState::WorkerPoll);
    assert_eq!(verdict.state, State::Blocked);
    // Names are not overruled yet.
    for named in [State::Blocked, State::Other] {
        let named = by_stack(named, WORKER);
        assert_eq!(agreement.judge(named, TlsState::Outside), named);
        assert_eq!(agreement.judge(named, TlsState::CorelessPoll), named);
    }
    for parked in [TlsState::CurrentThreadParked, TlsState::BlockOnParked] {
        agreement.add(&unnamed, Some(FUTEX), parked);
    }
    assert_eq!(
        agreement.certainty(),
        Certainty::CorroboratedByParks { parks: 2 }
    );
    agreement.add(&unnamed, Some(EPOLL_WAIT), TlsState::WorkerParked);
    assert_eq!(
        agreement.certainty(),
        Certainty::Confirmed {
            named: 0,
            driver_parks: 1
        }
    );
    let idle = by_stack(State::Idle, WORKER);
    agreement.add(&idle, Some(FUTEX), TlsState::WorkerPoll);
    assert_eq!(agreement.certainty(), Certainty::Contradicted { stacks: 1 });
    assert!(!agreement.trusted());
}

/// As if a worker's parker were elsewhere: then it never seems to park.
#[test]
fn a_wrong_layout_is_noticed_without_names() {
    let unnamed = by_stack(State::Unknown, Role::None);
    let mut agreement = Agreement::default();
    agreement.add(&unnamed, Some(FUTEX), TlsState::WorkerPoll);
    agreement.add(&unnamed, Some(EPOLL_WAIT), TlsState::WorkerPoll);
    assert_eq!(agreement.certainty(), Certainty::Contradicted { stacks: 1 });
    assert_eq!(agreement.judge(unnamed, TlsState::WorkerPoll), unnamed);
    // A thread in a `block_on` has no parker of a worker's.
    agreement.add(&unnamed, Some(FUTEX), TlsState::BlockOnParked);
    assert!(!agreement.trusted());
    // A task may wait in another library's event loop.
    agreement.add(&unnamed, Some(FUTEX), TlsState::WorkerParked);
    assert!(agreement.trusted());
    // musl's call.
    let mut agreement = Agreement::default();
    agreement.add(&unnamed, Some(syscall("epoll_pwait")), TlsState::WorkerPoll);
    assert!(matches!(
        agreement.certainty(),
        Certainty::Contradicted { .. }
    ));
    let parked = Some(syscall("epoll_pwait"));
    agreement.add(&unnamed, parked, TlsState::WorkerParked);
    assert!(matches!(agreement.certainty(), Certainty::Confirmed { .. }));
}

/// A place that is not the runtime's byte, or the scheduler's pointer: fields that do not go together.
#[test]
fn what_no_thread_does_switches_it_off_unless_it_is_a_chance() {
    let unnamed = by_stack(State::Unknown, Role::None);
    let futex = Some(FUTEX);
    let mut agreement = Agreement::default();
    agreement.add(&unnamed, futex, TlsState::CurrentThreadParked);
    agreement.add(&unnamed, futex, TlsState::Inconsistent);
    assert!(agreement.trusted(), "a context is not written all at once");
    agreement.add(&unnamed, futex, TlsState::Inconsistent);
    assert_eq!(agreement.certainty(), Certainty::Contradicted { stacks: 2 });
    assert!(!agreement.trusted());

    // Workers whose scheduler's pointer is looked for elsewhere seem to be in a `block_on`.
    let mut agreement = Agreement::default();
    for _ in 0..ODD {
        agreement.add(&unnamed, Some(EPOLL_WAIT), TlsState::BlockOnParked);
        agreement.add(&unnamed, futex, TlsState::BlockOnParked);
    }
    assert!(!agreement.trusted());
}

#[test]
fn every_verdict_has_its_judge() {
    let trusted = agreement(&[CONFIRMED]);
    let of = |agreement: &Agreement, state, role, tls_state| {
        agreement.judge_of(&by_stack(state, role), None, tls_state)
    };
    for (agreement, state, role, tls_state, judge) in [
        (
            &trusted,
            State::Idle,
            WORKER,
            TlsState::WorkerParked,
            ClassifiedBy::Both,
        ),
        (
            &trusted,
            State::Idle,
            WORKER,
            TlsState::Unknown,
            ClassifiedBy::Symbols,
        ),
        (
            &trusted,
            State::Blocked,
            WORKER,
            TlsState::Outside,
            ClassifiedBy::Context,
        ),
        (
            &trusted,
            State::Unknown,
            Role::None,
            TlsState::WorkerPoll,
            ClassifiedBy::Context,
        ),
        (
            &trusted,
            State::Unknown,
            Role::None,
            TlsState::Outside,
            ClassifiedBy::Neither,
        ),
        (
            &agreement(&[]),
            State::Unknown,
            Role::None,
            TlsState::WorkerPoll,
            ClassifiedBy::Neither,
        ),
        (
            &agreement(&[]),
            State::Blocked,
            WORKER,
            TlsState::Outside,
            ClassifiedBy::Symbols,
        ),
    ] {
        assert_eq!(
            of(agreement, state, role, tls_state),
            judge,
            "{state:?} {tls_state:?}"
        );
    }
}
