//! holdup against programs that know the truth: every build of the fixture is recorded once, and
//! each promise of the report is one trial, listed under the build's name.
//!
//! Trials that cannot run here are shown as ignored, with the reason; in CI they fail.

mod support;
mod unwind_support;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;
use support::check;
use support::check_causes;
use support::check_modes;
use support::check_names;
use support::check_runtimes;
use support::check_wakers;
use support::fixture::{Profile, Variant};
use support::record::Ending;
use support::run::{Check, Run};
use support::truth::slowdown;
use support::{
    blame, callbacks, calls, captures, cargo, containers, cuts, demo, demo_teams, dump, dump_idle,
    ended, field, forks, gil, harm, hostile, idle, intervals, kernel_walk, leftovers, library,
    life, lookalike, losses, one_thread, phases, polls, prebuilt, privilege, rare, restarts,
    safety, scarce, selftest, standstills, start, stopped, streams, stripped, top, unattended,
};

const VARIANTS: &[Variant] = &[
    Variant {
        package: "tokio-newest",
        profile: Profile::Release,
    },
    Variant {
        package: "tokio-newest",
        profile: Profile::FatLto,
    },
    Variant {
        package: "tokio-newest",
        profile: Profile::Lines,
    },
    Variant {
        package: "tokio-newest",
        profile: Profile::Stripped,
    },
    Variant {
        package: "tokio-newest",
        profile: Profile::StrippedFatLto,
    },
    Variant {
        package: "tokio-1.38",
        profile: Profile::Release,
    },
    Variant {
        package: "tokio-1.38",
        profile: Profile::FatLto,
    },
    Variant {
        package: "tokio-1.20",
        profile: Profile::Release,
    },
    Variant {
        package: "tokio-1.20",
        profile: Profile::FatLto,
    },
    Variant {
        package: "tokio-newest",
        profile: Profile::Musl,
    },
    Variant {
        package: "tokio-newest",
        profile: Profile::NoUnwindTables,
    },
    Variant {
        package: "tokio-newest",
        profile: Profile::FramePointers,
    },
];

/// Builds with tokio's unstable features: counters stand in the cores of their runtimes, so that ticks,
/// queues and parkers are elsewhere.
const UNSTABLE: [Variant; 4] = [
    unstable("tokio-newest", Profile::Unstable),
    unstable("tokio-newest", Profile::StrippedUnstable),
    unstable("tokio-1.38", Profile::Unstable),
    unstable("tokio-1.38", Profile::StrippedUnstable),
];

const fn unstable(package: &'static str, profile: Profile) -> Variant {
    Variant { package, profile }
}

/// What holds for every recording.
const ALWAYS: &[(&str, Check)] = &[
    ("accounting", check::accounting),
    ("stacks_complete", |recorded| {
        check::stacks(&recorded.report)
    }),
];

/// What holds where functions have names.
const NAMED: &[(&str, Check)] = &[
    ("blocked_sites", |recorded| {
        check::recall(&recorded.report, &recorded.truth)
    }),
    ("blocked_times", check::times),
    ("no_false_alarms", |recorded| {
        check::false_alarms(&recorded.report, &recorded.truth)
    }),
    ("no_losses", |recorded| check::losses(&recorded.report)),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Recordings side by side would disturb each other's times; whoever asks for it gets it.
    arguments.test_threads.get_or_insert(1);
    if std::env::var_os("HOLDUP_FIXTURES").is_some_and(|how| how == "build") {
        return build_fixtures(&arguments);
    }
    if slowdown() != 1 {
        println!(
            "the truth's own error of 60 us a call is taken {} times (HOLDUP_TEST_SLOWDOWN)",
            slowdown()
        );
    }
    let mut trials = selftest::trials();
    for variant in VARIANTS {
        trials.extend(scenarios(*variant));
    }
    trials.extend(modes());
    trials.extend(runtimes());
    trials.extend(hung());
    trials.extend(harm_trials());
    trials.extend(unstable_trials());
    trials.extend(idle_trials());
    trials.extend(losses::trials());
    trials.extend(intervals::trials());
    trials.extend(callbacks::trials());
    trials.extend(calls::trials());
    trials.extend(captures::trials());
    trials.extend(cargo::trials());
    trials.extend(streams::trials());
    trials.extend(containers::trials());
    trials.extend(cuts::trials());
    trials.extend(safety::trials());
    trials.extend(scarce::trials());
    trials.extend(hostile::trials());
    trials.extend(life::trials());
    trials.extend(forks::trials());
    trials.extend(ended::trials());
    trials.extend(restarts::trials());
    trials.extend(phases::trials());
    trials.extend(library::trials());
    trials.extend(gil::trials());
    trials.extend(one_thread::trials());
    trials.extend(lookalike::trials());
    trials.extend(leftovers::trials());
    trials.extend(demo::trials());
    trials.extend(demo_teams::trials());
    trials.extend(field::trials());
    trials.extend(dump::trials());
    trials.extend(standstills::trials());
    trials.extend(dump_idle::trials());
    trials.extend(start::trials());
    trials.extend(top::trials());
    trials.extend(unattended::trials());
    trials.extend(stopped::trials());
    trials.extend(blame::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// With `HOLDUP_FIXTURES=build`: builds what trials elsewhere will need, except for the variants
/// that `--skip` leaves out, and prints the path of each.
fn build_fixtures(arguments: &Arguments) -> ExitCode {
    let of_crates = (Variant::CRATES, "crates::".to_owned());
    let small = Variant {
        profile: Profile::Small,
        ..Variant::DEFAULT
    };
    let named = VARIANTS.iter().chain(&UNSTABLE).chain([&small]);
    let named = named.map(|variant| (*variant, variant.name()));
    match prebuilt::build(named.chain([of_crates]), &arguments.skip) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn scenarios(variant: Variant) -> Vec<Trial> {
    let run = Run::new(variant, "scenarios", Ending::Stays);
    let mut checks: Vec<(&str, Check)> = ALWAYS.to_vec();
    checks.push(("target", |recorded| {
        match recorded.variant.tokio_version() {
            Ok(version) => check::target(recorded, &version),
            Err(error) => vec![error],
        }
    }));
    if variant.named().is_some() {
        checks.extend_from_slice(&[
            ("states", stripped::states),
            ("bystander", stripped::bystander),
            ("no_losses", |recorded| check::losses(&recorded.report)),
            ("runtimes", |recorded| {
                check::runtimes(&recorded.report, &recorded.truth)
            }),
            ("causes", |recorded| {
                check_causes::stripped(&recorded.report)
            }),
        ]);
    } else {
        checks.extend_from_slice(NAMED);
        checks.extend_from_slice(&[
            ("allowed_waits", check::allowed),
            ("runtimes", |recorded| {
                check::runtimes(&recorded.report, &recorded.truth)
            }),
            ("judges", |recorded| check_modes::judges(&recorded.report)),
            ("folded", |recorded| {
                check::folded(&recorded.folded, &recorded.truth)
            }),
        ]);
    }
    // Fat LTO inlines what tells the locks of std apart.
    if matches!(variant.profile, Profile::Release | Profile::Lines) {
        checks.push(("causes", |recorded| {
            check_causes::causes(&recorded.report, &recorded.truth)
        }));
    }
    if matches!(
        variant.profile,
        Profile::NoUnwindTables | Profile::FramePointers
    ) {
        checks.push(("unknown", |recorded| check::unknown(&recorded.report)));
    }
    if variant.profile == Profile::Musl {
        checks.push(("unwound_by_code", |recorded| {
            check_modes::by_code(&recorded.report)
        }));
    }
    if variant.profile == Profile::Lines {
        checks.extend_from_slice(&[
            ("lines", |recorded| {
                check::lines(&recorded.report, &recorded.truth)
            }),
            ("frames_apart", |recorded| {
                check_names::frames_apart(&recorded.folded)
            }),
            ("paths", |recorded| check_names::paths(&recorded.report)),
            ("task_frames", |recorded| {
                check::tasks(&recorded.report, &recorded.truth)
            }),
        ]);
    }
    run.trials(&variant.name(), &checks)
}

fn modes() -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut mode = |mode: &'static str, ending: Ending, own: &[(&'static str, Check)]| {
        let checks = [ALWAYS, NAMED, own].concat();
        trials.extend(Run::new(Variant::DEFAULT, mode, ending).trials(mode, &checks));
    };
    mode(
        "churn",
        Ending::Stays,
        &[("threads", |recorded| {
            check_modes::churn(&recorded.report, &recorded.truth)
        })],
    );
    mode(
        "deadlock",
        Ending::Wedged,
        &[("open_waits", |recorded| {
            check_modes::wedged(&recorded.report, &recorded.truth, false)
        })],
    );
    mode(
        "deadlock-before",
        Ending::Wedged,
        &[("open_waits", |recorded| {
            check_modes::wedged(&recorded.report, &recorded.truth, true)
        })],
    );
    mode(
        "deep-deadlock",
        Ending::Wedged,
        &[("open_waits", |recorded| {
            check_modes::wedged(&recorded.report, &recorded.truth, true)
        })],
    );
    mode(
        "exit-midway",
        Ending::Exits,
        &[("ended", check_modes::ended)],
    );
    mode(
        "generated",
        Ending::Stays,
        &[("frames", check_modes::generated)],
    );
    // Nothing more to check: it is recorded as well as without them.
    mode("broken-maps", Ending::Stays, &[]);
    let checks = [
        ALWAYS,
        NAMED,
        &[
            ("causes_and_wakers", check_wakers::all),
            ("object_groups", check_wakers::groups),
        ],
    ]
    .concat();
    let crates = Run::new(Variant::CRATES, "crates", Ending::Stays);
    trials.extend(crates.trials("crates", &checks));
    // Not that nothing is lost: the loader begins in code without unwinding information.
    let mut checks: Vec<(&str, Check)> = vec![
        ("accounting", check::accounting),
        ("after_exec", check_modes::after_exec),
    ];
    checks.extend(NAMED.iter().filter(|(name, _)| *name != "no_losses"));
    trials.extend(
        Run::new(Variant::DEFAULT, "exec-midway", Ending::Execs).trials("exec-midway", &checks),
    );
    trials.push(Trial::ignorable_test(
        "unwind::kernel_walk_equals_framehop",
        || {
            privilege::unless_skipped(privilege::missing(), || {
                let complaints = kernel_walk::compare(Variant::DEFAULT)?.complaints();
                if complaints.is_empty() {
                    Ok(())
                } else {
                    Err(complaints.join("\n").into())
                }
            })
        },
    ));
    trials
}

/// Attached to a service that hangs, with and without the names of functions.
fn hung() -> Vec<Trial> {
    let modes: [(&'static str, Check); 2] = [
        ("hung-files", check_modes::hung_files),
        ("hung-reads", check_modes::hung_reads),
    ];
    let mut trials = Vec::new();
    for profile in [Profile::Release, Profile::Stripped, Profile::Small] {
        let variant = Variant {
            profile,
            ..Variant::DEFAULT
        };
        for (mode, paths) in modes {
            let checks: [(&str, Check); 2] = [("accounting", check::accounting), ("paths", paths)];
            let group = format!("{mode}-{}", variant.name());
            trials.extend(Run::new(variant, mode, Ending::Wedged).trials(&group, &checks));
        }
    }
    trials
}

/// Programs of several runtimes, with and without the names of functions.
fn runtimes() -> Vec<Trial> {
    let modes: [(&'static str, Ending, Check); 3] = [
        ("two-runtimes", Ending::Wedged, check_runtimes::two),
        ("made-anew", Ending::Stays, check_runtimes::made_anew),
        ("local-set", Ending::Stays, check_runtimes::local_set),
    ];
    let mut trials = Vec::new();
    for profile in [Profile::Release, Profile::Stripped, Profile::Small] {
        let variant = Variant {
            profile,
            ..Variant::DEFAULT
        };
        for (mode, ending, check) in modes {
            let checks: [(&str, Check); 2] = [("accounting", check::accounting), ("states", check)];
            let group = format!("{mode}-{}", variant.name());
            trials.extend(Run::new(variant, mode, ending).trials(&group, &checks));
        }
    }
    // The handle of the first is elsewhere than that of newer ones, the other's is not known.
    for package in ["tokio-1.20", "tokio-1.28"] {
        let old = Variant {
            package,
            profile: Profile::Release,
        };
        let checks: [(&str, Check); 1] = [("states", check_runtimes::two)];
        let run = Run::new(old, "two-runtimes", Ending::Wedged);
        trials.extend(run.trials(&format!("two-runtimes-{package}"), &checks));
    }
    trials
}

/// Three ways to come to a halt, each with its verdict; and who holds a lock.
fn harm_trials() -> Vec<Trial> {
    let old = |package| Variant {
        package,
        profile: Profile::Release,
    };
    let of = |profile| Variant {
        profile,
        ..Variant::DEFAULT
    };
    let all: [(&str, Variant, &'static str, Check); 17] = [
        ("harm-cpu-hog", Variant::DEFAULT, "cpu-hog", harm::cpu_hog),
        (
            "harm-cpu-hog-tokio-1.38",
            old("tokio-1.38"),
            "cpu-hog",
            harm::cpu_hog,
        ),
        (
            "harm-cpu-hog-tokio-1.20",
            old("tokio-1.20"),
            "cpu-hog",
            harm::cpu_hog_by_stack,
        ),
        ("stopped", Variant::DEFAULT, "stopped", stopped::by_signal),
        ("driver", Variant::DEFAULT, "driver", polls::unattended),
        (
            "driver-stripped",
            of(Profile::Stripped),
            "driver",
            polls::unattended,
        ),
        ("polls", Variant::DEFAULT, "polls", polls::joined),
        (
            "polls-current-thread",
            Variant::DEFAULT,
            "polls-current-thread",
            polls::joined,
        ),
        ("rare-stall", Variant::DEFAULT, "rare-stall", rare::stall),
        (
            "slow-stderr",
            Variant::DEFAULT,
            "slow-stderr",
            rare::slow_reader,
        ),
        (
            "short-locks",
            Variant::DEFAULT,
            "short-locks",
            rare::short_holder,
        ),
        ("queued", Variant::DEFAULT, "queued", rare::queued),
        (
            "queued-current-thread",
            Variant::DEFAULT,
            "queued-current-thread",
            rare::queued_on_one_thread,
        ),
        (
            "polls-stripped",
            of(Profile::Stripped),
            "polls",
            polls::in_stripped,
        ),
        ("polls-lines", of(Profile::Lines), "polls", polls::joined),
        (
            "harm-too-few-cpus",
            Variant::DEFAULT,
            "too-few-cpus",
            harm::too_few_cpus,
        ),
        (
            "harm-held-locks",
            Variant::DEFAULT,
            "held-locks",
            harm::held_locks,
        ),
    ];
    verdicts(&all)
}

fn unstable_trials() -> Vec<Trial> {
    let [newest, stripped, old, stripped_old] = UNSTABLE;
    let mut trials = scenarios(stripped);
    let (single, joined, in_stripped) = ("polls-current-thread", polls::joined, polls::in_stripped);
    trials.extend(verdicts(&[
        ("unstable-polls", newest, "polls", joined),
        ("unstable-polls-single", newest, single, joined),
        ("unstable-polls-stripped", stripped, "polls", in_stripped),
        ("unstable-queued", newest, "queued", rare::queued),
        ("unstable-polls-1.38", old, "polls", joined),
        ("unstable-polls-single-1.38", old, single, joined),
        ("unstable-stripped-1.38", stripped_old, "polls", in_stripped),
    ]));
    trials
}

/// What one check says of a mode of the fixture, for each group.
fn verdicts(all: &[(&str, Variant, &'static str, Check)]) -> Vec<Trial> {
    let of = |(group, variant, mode, check): &(&str, Variant, &'static str, Check)| {
        let checks: [(&str, Check); 2] = [("accounting", check::accounting), ("verdict", *check)];
        Run::new(*variant, mode, Ending::Stays).trials(group, &checks)
    };
    all.iter().flat_map(of).collect()
}

/// Where no worker is blocked and the service hangs all the same.
fn idle_trials() -> Vec<Trial> {
    let newest = Variant::DEFAULT;
    let old = Variant {
        package: "tokio-1.38",
        ..newest
    };
    let stripped = Variant {
        profile: Profile::Stripped,
        ..newest
    };
    type Case = (&'static str, Variant, &'static str, Ending, Check);
    let (stays, wedged) = (Ending::Stays, Ending::Wedged);
    let [full, busy] = ["full-pool", "busy-pool"];
    let [stuck, settled] = ["stuck-pool", "settled-pool"];
    let [deadlock, nested] = ["async-deadlock", "nested-block-on"];
    let all: [Case; 8] = [
        (full, newest, full, stays, idle::full_pool),
        (busy, newest, busy, stays, idle::busy_pool),
        (stuck, newest, stuck, wedged, idle::stuck_pool),
        (
            "stuck-pool-tokio-1.38",
            old,
            stuck,
            wedged,
            idle::stuck_pool,
        ),
        (
            "stuck-pool-stripped",
            stripped,
            stuck,
            wedged,
            idle::stuck_pool,
        ),
        (settled, newest, settled, wedged, idle::settled_pool),
        (deadlock, newest, deadlock, wedged, idle::async_deadlock),
        (nested, newest, nested, wedged, idle::nested_block_on),
    ];
    let trials = all
        .into_iter()
        .flat_map(|(group, variant, mode, ending, check)| {
            let checks: [(&str, Check); 2] = [("accounting", check::accounting), ("told", check)];
            Run::new(variant, mode, ending).trials(group, &checks)
        });
    trials.collect()
}
