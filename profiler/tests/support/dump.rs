//! `holdup dump` on programs that do not stand still, and on processes of which little is to be seen;
//! `holdup list`.

use super::check::Complaints;
use super::fixture::{Profile, Running, Variant};
use super::live_recording::Recording;
use super::privilege;
use super::report::is_in;
use children::Child;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A wait that has lasted for so long is a standstill.
pub(super) const STANDSTILL: Duration = Duration::from_millis(1200);
/// For a program to start.
pub(super) const SOON: Duration = Duration::from_secs(30);

pub(super) type Outcome = Result<(), Failed>;
pub(super) type Test = fn() -> Outcome;

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 10] = [
        ("dump::a_healthy_service", healthy),
        ("dump::holders_that_locks_name", holders),
        ("dump::processes_that_cannot_be_looked_at", not_to_be_seen),
        ("dump::a_main_thread_that_has_ended", headless),
        ("dump::a_process_that_ends_meanwhile", ends_meanwhile),
        ("dump::waits_of_less_than_a_second", no_standstill),
        ("dump::without_rights", without_rights),
        ("dump::without_one_right", without_one_right),
        ("list::programs", programs),
        ("list::a_library_and_another_namespace", elsewhere),
    ];
    let tests = tests.into_iter();
    tests
        .map(|(name, run)| trial(name.to_owned(), run))
        .collect()
}

pub(super) fn trial(name: String, run: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || {
        privilege::unless_skipped(privilege::missing_root(), run)
    })
}

/// Runs `holdup`.
pub(super) fn holdup(args: &[&str]) -> Result<Output, String> {
    Command::new(env!("CARGO_BIN_EXE_holdup"))
        .args(args)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("holdup cannot be run: {error}"))
}

/// A dump as JSON, and its exit code.
pub(super) fn dump(pid: u32) -> Result<(Value, Option<i32>), String> {
    let output = holdup(&["dump", "-p", &pid.to_string(), "-f", "json"])?;
    Ok((json(&output)?, output.status.code()))
}

/// What a dump says as JSON.
pub(super) fn json(output: &Output) -> Result<Value, String> {
    serde_json::from_slice(&output.stdout).map_err(|error| {
        let message = String::from_utf8_lossy(&output.stderr);
        format!("no JSON: {error}; {message}")
    })
}

pub(super) fn done(complaints: Complaints) -> Outcome {
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(complaints.join("\n").into())
    }
}

/// Who holds something: the name of the thread, or of the first process.
pub(super) fn holder_of(thread: &Value) -> Option<&str> {
    let holder = &thread["holder"];
    let process = holder["processes"][0]["name"].as_str();
    process.or(holder["name"].as_str())
}

pub(super) fn workers(dump: &Value) -> Vec<&Value> {
    let threads = dump["threads"].as_array().into_iter().flatten();
    threads
        .filter(|thread| thread["role"] == "worker")
        .collect()
}

/// Lets a fixture go on that has stood still since before it was ready, and so come to its end.
pub(super) fn end(mut fixture: Running) -> Result<(), String> {
    fixture.go()?;
    fixture.finish()
}

/// A runtime that waits for something to do.
fn healthy() -> Outcome {
    let fixture = Variant::DEFAULT.start("scenarios")?;
    let (dump, code) = dump(fixture.pid())?;
    let by_name = holdup(&["dump", "-n", "blockers"])?;
    fixture.kill()?;
    let text = String::from_utf8_lossy(&by_name.stdout);
    if code == Some(0) && dump["verdict"]["kind"] == "healthy" && text.contains("\nHEALTHY ") {
        Ok(())
    } else {
        Err(format!("exit {code:?}, {}\n{text}", dump["verdict"]).into())
    }
}

/// Workers that are blocked for 0.4 s again and again are no standstill, however often one looks.
fn no_standstill() -> Outcome {
    let fixture = Variant::DEFAULT.start("stuck-pauses")?;
    let mut kinds = BTreeMap::new();
    for _ in 0..20 {
        let (dump, code) = dump(fixture.pid())?;
        let kind = dump["verdict"]["kind"]
            .as_str()
            .unwrap_or("none")
            .to_owned();
        *kinds.entry((kind, code)).or_insert(0) += 1;
    }
    end(fixture)?;
    let blocked = ["all_blocked", "blocked"].map(|kind| (kind.to_owned(), Some(0)));
    let blocked: i32 = blocked.iter().filter_map(|kind| kinds.get(kind)).sum();
    let wedged = kinds
        .keys()
        .any(|(kind, code)| kind == "wedged" || *code != Some(0));
    // Now and then one of them is just between two waits.
    match blocked >= 15 && !wedged {
        true => Ok(()),
        false => Err(format!("{kinds:?}").into()),
    }
}

/// A mutex of the C library, a thread that is joined, a child: who holds what is sure.
fn holders() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("held")?;
    fixture.go()?;
    fixture.truth()?;
    thread::sleep(STANDSTILL);
    let found = dump(fixture.pid());
    fixture.finish()?;
    let (dump, code) = found?;
    let mut complaints = Complaints::new();
    if code != Some(4) {
        complaints.push(format!("exit {code:?}, {}", dump["verdict"]));
    }
    for (function, holder, likely) in [
        ("block_by_held_pthread", "lock-holder", false),
        ("block_by_held_mutex", "lock-holder", true),
        ("block_by_held_join", "endless", false),
        ("block_by_held_child", "sleep", false),
        ("block_by_held_file", "blockers", false),
    ] {
        let own: Vec<&Value> = workers(&dump)
            .into_iter()
            .filter(|one| is_in(one["function"].as_str().unwrap_or_default(), function))
            .collect();
        let fits = |one: &&Value| {
            let is_likely = one["holder"]["likely"].as_bool().unwrap_or(false);
            holder_of(one) == Some(holder) && is_likely == likely
        };
        if own.is_empty() || !own.iter().all(fits) {
            complaints.push(format!("{function}: {own:#?}"));
        }
    }
    done(complaints)
}

/// No process, no tokio, a thread of the kernel, a zombie: each is said, none hangs.
fn not_to_be_seen() -> Outcome {
    let mut ended = Command::new("true")
        .spawn()
        .map_err(|error| error.to_string())?;
    thread::sleep(Duration::from_millis(200));
    let mut plain = Command::new("sleep")
        .arg("60")
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut complaints = Complaints::new();
    for (what, pid, code, says) in [
        ("none", 2_000_000_000, 1, "no process has pid"),
        ("zombie", ended.id(), 1, "zombie"),
        ("plain", plain.id(), 3, "no sign of tokio"),
        ("kernel", 2, 1, "thread of the kernel"),
    ] {
        let output = holdup(&["dump", "-p", &pid.to_string()])?;
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        // In a container there may be no thread of the kernel to be seen.
        let is_hidden = what == "kernel" && message.contains("no process has pid");
        if output.status.code() != Some(code) || !(message.contains(says) || is_hidden) {
            complaints.push(format!("{what}: {:?}, {message}", output.status.code()));
        }
    }
    let _ = plain.kill();
    let _ = plain.wait();
    let _ = ended.wait();
    done(complaints)
}

/// A process whose main thread has ended is a zombie by its id, and yet its workers go on: they are told as
/// those of any other, by `dump` and by `record`.
fn headless() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("headless")?;
    let pid = fixture.pid().to_string();
    fixture.go()?;
    let truth = fixture.truth()?;
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let deadline = Instant::now() + SOON;
    while !stat().contains(") Z ") && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    let mut complaints = Complaints::new();
    if !stat().contains(") Z ") {
        complaints.push(format!("its main thread has not ended: {}", stat()));
    }
    let wanted = &truth.open.first().ok_or("nothing is open")?.function;
    let dumped = holdup(&["dump", "-p", &pid])?;
    let text = String::from_utf8_lossy(&dumped.stdout).into_owned();
    if !text.contains(wanted) || !text.contains("2 workers") {
        let errors = String::from_utf8_lossy(&dumped.stderr).into_owned();
        complaints.push(format!("dump: {text}{errors}"));
    }
    let recorded = Recording::start(&["-p", &pid, "-d", "2s"])?.end()?;
    fixture.finish()?;
    let sites = recorded.report.sites.iter();
    let mut blocked = sites.filter(|site| site.state == "blocked");
    if !blocked.any(|site| is_in(&site.function, wanted)) {
        complaints.push(format!("record: {}", recorded.text));
    }
    done(complaints)
}

/// Whenever it ends, the dump does too, without a panic.
fn ends_meanwhile() -> Outcome {
    for after in [5, 40, 90, 130, 160, 200, 250] {
        let fixture = Variant::DEFAULT.start("scenarios")?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
        command
            .args(["dump", "-p", &fixture.pid().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut holdup = Child::spawn("holdup", &mut command)?;
        let mut messages = holdup.stderr()?;
        thread::sleep(Duration::from_millis(after));
        fixture.kill()?;
        let status = holdup.wait(SOON)?;
        messages.drain(Duration::from_secs(1));
        let said = messages.transcript();
        if !matches!(status.code(), Some(0 | 1 | 3 | 4)) || said.contains("panicked") {
            return Err(format!("killed after {after} ms: {status}; {said}").into());
        }
    }
    Ok(())
}

/// Who may not look is told so, and what to type.
fn without_rights() -> Outcome {
    // Whoever cannot even execute the program says so in another way.
    refused_as_nobody(&[], "sudo")
}

/// All rights but one, without which the stacks of another user's process cannot be read.
fn without_one_right() -> Outcome {
    let caps = "-all,+bpf,+perfmon,+sys_ptrace";
    let rights = ["--inh-caps", caps, "--ambient-caps", caps];
    refused_as_nobody(&rights, "DAC_READ_SEARCH")
}

/// Another user with these rights is refused a dump, in these words among others.
fn refused_as_nobody(rights: &[&str], word: &str) -> Outcome {
    let fixture = Variant::DEFAULT.start("scenarios")?;
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(rights)
        .arg(env!("CARGO_BIN_EXE_holdup"))
        .args(["dump", "-p", &fixture.pid().to_string()])
        .output();
    fixture.kill()?;
    let output = output.map_err(|error| format!("setpriv: {error}"))?;
    let message = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) && message.contains(word) {
        Ok(())
    } else {
        Err(format!("{:?}: {message}", output.status.code()).into())
    }
}

fn listed(args: &[&str]) -> Result<Value, String> {
    let output = holdup(&[&["list", "-f", "json"], args].concat())?;
    serde_json::from_slice(&output.stdout).map_err(|error| {
        let message = String::from_utf8_lossy(&output.stderr);
        format!("no JSON: {error}; {message}")
    })
}

fn of_pid(list: &Value, pid: u32) -> Option<&Value> {
    let mut processes = list["processes"].as_array()?.iter();
    processes.find(|process| process["pid"] == pid)
}

/// With and without symbols; and, of one that is blocked, for how much of its time.
fn programs() -> Outcome {
    let stripped = Variant {
        profile: Profile::Stripped,
        ..Variant::DEFAULT
    };
    let idle = Variant::DEFAULT.start("scenarios")?;
    let stuck = stripped.start("stuck-block-on")?;
    let mut plain = Command::new("sleep")
        .arg("60")
        .spawn()
        .map_err(|error| error.to_string())?;
    let found = listed(&["--look"]);
    let text = holdup(&["list"]);
    let short = holdup(&["list", "--json"]);
    let (one, other, none) = (idle.pid(), stuck.pid(), plain.id());
    let _ = plain.kill();
    let _ = plain.wait();
    idle.kill()?;
    stuck.kill()?;
    let list = found?;
    let version = Variant::DEFAULT.tokio_version()?;
    let mut complaints = Complaints::new();
    for (pid, symbols, workers, blocked) in [(one, true, 4, false), (other, false, 2, true)] {
        let Some(process) = of_pid(&list, pid) else {
            complaints.push(format!("{pid} is not listed: {list:#}"));
            continue;
        };
        let share = process["blocked_share"].as_f64();
        if process["name"] != "blockers"
            || process["tokio_versions"][0] != version.as_str()
            || process["has_symbols"] != symbols
            || process["can_record"] != true
            || process["runtimes"] != 1
            || process["workers"] != workers
            || share.is_none_or(|share| (share > 0.9) != blocked)
        {
            complaints.push(format!("{process:#}"));
        }
    }
    if of_pid(&list, none).is_some() {
        complaints.push("a process without tokio is listed".to_owned());
    }
    let short = short?.stdout;
    if serde_json::from_slice::<serde_json::Value>(&short).is_err() {
        complaints.push(format!("--json: {}", String::from_utf8_lossy(&short)));
    }
    let text = text?;
    let text = String::from_utf8_lossy(&text.stdout);
    if !text.contains(&format!("{one}  ")) || !text.contains(&version) {
        complaints.push(format!("the text: {text}"));
    }
    done(complaints)
}

/// A tokio in a library that Python loaded, and a process that has another id where it lives.
fn elsewhere() -> Outcome {
    let python = super::library::python()?;
    let program = Variant::DEFAULT.build()?;
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(program)
        .arg("scenarios")
        .arg(dir.path());
    let apart = Running::start(command)?;
    let list = listed(&[]);
    let parent = apart.pid();
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let of_python = python.id();
    python.kill()?;
    apart.kill()?;
    let (list, children) = (list?, children.map_err(|error| error.to_string())?);
    let child = children.split_ascii_whitespace().next();
    let child: u32 = child
        .and_then(|pid| pid.parse().ok())
        .ok_or("unshare has no child")?;
    let mut complaints = Complaints::new();
    match of_pid(&list, child) {
        Some(process) if process["own_pid"] == 1 => {}
        other => complaints.push(format!("in its own namespace: {other:#?}")),
    }
    match of_pid(&list, of_python) {
        Some(process) if process["tokio_in"][0] == "liblibrary.so" => {}
        other => complaints.push(format!("in Python: {other:#?}")),
    }
    done(complaints)
}
