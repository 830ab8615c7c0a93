//! `holdup dump` on services that stand still, each in another way: in a second it says that they do, in
//! which function, for what each worker waits, and who has that.

use super::check::Complaints;
use super::dump::{Outcome, SOON, STANDSTILL, done, end, holder_of, holdup, json, trial, workers};
use super::fixture::{Profile, Running, Variant};
use super::library;
use super::report::is_in;
use super::truth::slowdown;
use children::Child;
use libtest_mimic::Trial;
use rustix::process::Signal;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// From start to exit.
const LONGEST: Duration = Duration::from_secs(1);

/// How often a dump is made that takes longer.
const TRIES: u32 = 3;

/// How a service stands still, and what a dump has to say of it.
struct Halt {
    kind: &'static str,
    service: Service,
    /// In which functions, where functions have names.
    functions: &'static [&'static str],
    /// A part of what they called, where functions have names.
    called: &'static str,
    cause: &'static str,
    /// The cause where no function has a name.
    stripped_cause: &'static str,
    /// The kind of the object, and the name of who holds it.
    object: &'static str,
    holder: Option<&'static str>,
    /// Whether the workers wait for each other.
    deadlock: bool,
    /// Whether each wait is one. Otherwise a worker looks again and again for what a thread has that
    /// stands still.
    one_wait: bool,
}

#[derive(Clone, Copy)]
enum Service {
    /// A mode of the fixture that needs nothing but tokio.
    Blockers(&'static str),
    /// A mode of the fixture that uses the crates that people use.
    Crates(&'static str),
    /// A library in Python.
    Python,
}

const PLAIN: Halt = Halt {
    kind: "",
    service: Service::Python,
    functions: &[],
    called: "",
    cause: "lock",
    stripped_cause: "lock",
    object: "futex",
    holder: None,
    deadlock: false,
    one_wait: true,
};

const HALTS: [Halt; 11] = [
    Halt {
        kind: "std_locks",
        service: Service::Blockers("deadlock-before"),
        functions: &["block_by_deadlock"],
        holder: Some("tokio-rt-worker"),
        deadlock: true,
        ..PLAIN
    },
    Halt {
        kind: "parking_lot_locks",
        service: Service::Blockers("stuck-parking-lot"),
        functions: &["stuck_by_parking_lot"],
        holder: Some("tokio-rt-worker"),
        deadlock: true,
        ..PLAIN
    },
    Halt {
        kind: "channel",
        service: Service::Blockers("stuck-channel"),
        functions: &["stuck_by_channel"],
        called: "std::sync::mp",
        cause: "channel",
        stripped_cause: "condvar",
        ..PLAIN
    },
    Halt {
        kind: "block_on",
        service: Service::Blockers("stuck-block-on"),
        functions: &["stuck_by_block_on"],
        cause: "nested-block-on",
        stripped_cause: "condvar",
        ..PLAIN
    },
    Halt {
        kind: "full_pipe",
        service: Service::Blockers("stuck-pipe"),
        functions: &["stuck_by_pipe"],
        cause: "pipe",
        stripped_cause: "pipe",
        object: "pipe",
        holder: Some("blockers"),
        ..PLAIN
    },
    // Outside every poll.
    Halt {
        kind: "hook",
        service: Service::Blockers("stuck-hook"),
        functions: &["stuck_in_hook"],
        cause: "pipe",
        stripped_cause: "pipe",
        object: "pipe",
        holder: Some("blockers"),
        ..PLAIN
    },
    Halt {
        kind: "hung_file_system",
        service: Service::Blockers("hung-files"),
        functions: &["block_by_stat", "block_by_open"],
        cause: "file-io",
        stripped_cause: "file-io",
        object: "path",
        holder: Some("blockers"),
        ..PLAIN
    },
    Halt {
        kind: "hung_file_system_in_reads",
        service: Service::Blockers("hung-reads"),
        functions: &["block_by_read"],
        cause: "file-io",
        stripped_cause: "file-io",
        object: "path",
        holder: Some("blockers"),
        ..PLAIN
    },
    Halt {
        kind: "child",
        service: Service::Blockers("stuck-child"),
        functions: &["stuck_by_child"],
        cause: "child-process",
        stripped_cause: "child-process",
        object: "process",
        holder: Some("sleep"),
        ..PLAIN
    },
    Halt {
        kind: "exhausted_pool",
        service: Service::Crates("stuck-pool"),
        functions: &["stuck_by_pool"],
        called: "r2d2::",
        cause: "condvar",
        stripped_cause: "futex",
        ..PLAIN
    },
    Halt {
        kind: "python_lock",
        service: Service::Python,
        functions: &["stuck_by_python"],
        cause: "gil",
        stripped_cause: "gil",
        holder: Some("python3"),
        one_wait: false,
        ..PLAIN
    },
];

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for stripped in [false, true] {
        let end = if stripped { "-stripped" } else { "" };
        for halt in &HALTS {
            let name = format!("standstill::{}{end}", halt.kind);
            trials.push(trial(name, move || stands_still(halt, stripped)));
        }
        let name = format!("standstill::stopped{end}");
        trials.push(trial(name, move || stopped(stripped)));
    }
    trials
}

const fn variant(stripped: bool) -> Variant {
    Variant {
        profile: if stripped {
            Profile::Stripped
        } else {
            Profile::Release
        },
        ..Variant::DEFAULT
    }
}

/// What stands still.
enum Standing {
    Fixture(Running),
    Python(Child),
}

impl Standing {
    fn start(service: Service, stripped: bool) -> Result<Standing, String> {
        let variant = variant(stripped);
        match service {
            Service::Blockers(mode) => Ok(Standing::Fixture(variant.start(mode)?)),
            Service::Crates(mode) => {
                let mut variant = Variant::CRATES;
                if stripped {
                    variant.profile = Profile::Stripped;
                }
                Ok(Standing::Fixture(variant.start(mode)?))
            }
            Service::Python => Ok(Standing::Python(library::python_with_its_lock(stripped)?)),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Standing::Fixture(fixture) => fixture.pid(),
            Standing::Python(python) => python.id(),
        }
    }

    fn end(self) -> Result<(), String> {
        match self {
            Standing::Fixture(fixture) => end(fixture),
            Standing::Python(mut python) => {
                drop(python.stdin()?);
                let status = python.wait(SOON)?;
                match status.success() {
                    true => Ok(()),
                    false => Err(format!("python ended with {status}")),
                }
            }
        }
    }
}

/// A dump as JSON, its exit code, and how long it took but for waiting for a CPU: what else the machine
/// does is not its fault.
fn timed(pid: u32) -> Result<(Value, Option<i32>, Duration), String> {
    let begun = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_holdup"))
        .args(["dump", "-p", &pid.to_string(), "-f", "json"])
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("holdup cannot be run: {error}"))?;
    let of = child.id();
    let reader = thread::spawn(move || (child.wait_with_output(), begun.elapsed()));
    let mut queued = Duration::ZERO;
    while !reader.is_finished() {
        queued = queued.max(in_run_queue(of));
        thread::sleep(Duration::from_millis(5));
    }
    let (output, took) = reader.join().map_err(|_| "the reader panicked")?;
    let output = output.map_err(|error| error.to_string())?;
    let json = json(&output)?;
    println!("it took {took:?}, of which {queued:?} in the run queue");
    Ok((json, output.status.code(), took.saturating_sub(queued)))
}

/// For how long the thread of a process that was kept waiting the longest has waited for a CPU, by the
/// second number of `schedstat`.
fn in_run_queue(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let waits = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse().ok()
    });
    Duration::from_nanos(waits.max().unwrap_or_default())
}

/// The quickest of some dumps, and its exit code.
fn quickest(pid: u32, complaints: &mut Complaints) -> Result<(Value, Option<i32>), String> {
    let longest = LONGEST * u32::try_from(slowdown()).unwrap_or(u32::MAX);
    let mut found = timed(pid)?;
    for _ in 1..TRIES {
        if found.2 <= longest {
            break;
        }
        let next = timed(pid)?;
        if next.2 < found.2 {
            found = next;
        }
    }
    let (dump, code, took) = found;
    if took > longest {
        complaints.push(format!("it took {took:?}"));
    }
    Ok((dump, code))
}

fn stands_still(halt: &Halt, stripped: bool) -> Outcome {
    let standing = Standing::start(halt.service, stripped)?;
    // Some are ready as soon as they stand.
    thread::sleep(STANDSTILL);
    let (since, pid) = (Instant::now(), standing.pid());
    let mut complaints = looked_at(halt, stripped, pid, since)?;
    // Who waits in pieces has no wait at times, but wants a CPU to look again.
    let again = if halt.one_wait { 0 } else { TRIES };
    for _ in 0..again {
        if complaints.is_empty() {
            break;
        }
        println!("looked at again, because of: {complaints:?}");
        complaints = looked_at(halt, stripped, pid, since)?;
    }
    let ended = standing.end();
    done(complaints)?;
    Ok(ended?)
}

/// What is wrong with a dump of a process that stands still `since` then.
fn looked_at(halt: &Halt, stripped: bool, pid: u32, since: Instant) -> Result<Complaints, String> {
    let mut complaints = Complaints::new();
    let (dump, code) = quickest(pid, &mut complaints)?;
    let text = holdup(&["dump", "-p", &pid.to_string(), "--stacks"])?;
    if code != Some(4) || dump["verdict"]["kind"] != "wedged" {
        complaints.push(format!("exit {code:?}, {}", dump["verdict"]));
    }
    let workers = workers(&dump);
    if workers.len() != 2 {
        complaints.push(format!("{} workers", workers.len()));
    }
    let most = (STANDSTILL + since.elapsed() + SOON).as_nanos() as u64;
    for worker in &workers {
        if !is_as_told(halt, stripped, worker, most) {
            complaints.push(format!("a worker: {worker:#}"));
        }
    }
    complaints.extend(circle(halt, &dump, &workers));
    let text = String::from_utf8_lossy(&text.stdout);
    let holder = halt.holder.unwrap_or_default();
    let has_stack = text.lines().any(|line| line.trim_start().starts_with('#'));
    if !text.contains("\nWEDGED ") || !has_stack || !text.contains(holder) {
        complaints.push(format!("the text: {text}"));
    }
    Ok(complaints)
}

/// Whether a worker is where it stands, and waits for what whoever has it.
fn is_as_told(halt: &Halt, stripped: bool, worker: &Value, most: u64) -> bool {
    let function = worker["function"].as_str().unwrap_or_default();
    let named = halt.functions.iter().any(|name| is_in(function, name));
    let called = worker["wait"].as_str().unwrap_or_default();
    let longer = worker["since_ns"].as_u64().unwrap_or_default();
    let long = (1_000_000_000..most).contains(&longer);
    let cause = if stripped {
        halt.stripped_cause
    } else {
        halt.cause
    };
    worker["state"] == "blocked"
        && worker["cause"] == cause
        && worker["object"]["kind"] == halt.object
        && holder_of(worker) == halt.holder
        && worker["holder"]["likely"].as_bool().unwrap_or(false) == halt.deadlock
        && named != stripped
        && (stripped || called.contains(halt.called))
        && (!halt.one_wait || long && worker["unmoved"] == true)
}

/// The workers wait for each other, where they should.
fn circle(halt: &Halt, dump: &Value, workers: &[&Value]) -> Complaints {
    let mut complaints = Complaints::new();
    let tids: Vec<u64> = workers
        .iter()
        .filter_map(|one| one["tid"].as_u64())
        .collect();
    let deadlocks = dump["deadlocks"].as_array().map_or(0, Vec::len);
    if deadlocks != usize::from(halt.deadlock) {
        complaints.push(format!("{deadlocks} deadlocks"));
    }
    if halt.deadlock {
        let circle = dump["deadlocks"][0]["threads"].as_array();
        let circle: Vec<u64> = circle
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect();
        if circle.len() != 2 || !circle.iter().all(|tid| tids.contains(tid)) {
            complaints.push(format!("the circle {circle:?} of {tids:?}"));
        }
    }
    complaints
}

/// A signal stops it: told from a service that hangs, and yet no task of it runs.
fn stopped(stripped: bool) -> Outcome {
    let fixture = variant(stripped).start("stuck-child")?;
    fixture.signal(Signal::STOP)?;
    thread::sleep(Duration::from_millis(50));
    let mut complaints = Complaints::new();
    let found = quickest(fixture.pid(), &mut complaints);
    let text = holdup(&["dump", "-p", &fixture.pid().to_string()]);
    fixture.signal(Signal::CONT)?;
    end(fixture)?;
    let (dump, code) = found?;
    let text = text?;
    let text = String::from_utf8_lossy(&text.stdout);
    if code != Some(4)
        || dump["verdict"]["kind"] != "stopped"
        || workers(&dump).iter().any(|one| one["state"] != "stopped")
        || !text.contains("kill -CONT")
    {
        complaints.push(format!("exit {code:?}, {dump:#}\n{text}"));
    }
    done(complaints)
}
