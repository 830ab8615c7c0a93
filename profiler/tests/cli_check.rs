//! `holdup check` of the built program.

mod hostile_support;

use hostile_support::shared_object;
use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const NO_RUNTIME: i32 = 3;
const PERMISSION: i32 = 77;

fn command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("check").args(args);
    // What decides on width, color and logging must not come from whoever runs this.
    for name in ["COLUMNS", "HOLDUP_LOG", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command
}

fn check(args: &[&str]) -> Output {
    command(Path::new(env!("CARGO_BIN_EXE_holdup")), args)
        .output()
        .expect("holdup runs")
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The state of a requirement, and what was found.
fn requirement<'a>(document: &'a serde_json::Value, id: &str) -> (&'a str, &'a str) {
    let list = document["requirements"].as_array().expect("a list");
    let of_id = list.iter().find(|requirement| requirement["id"] == id);
    let requirement = of_id.unwrap_or_else(|| panic!("no {id} in {list:?}"));
    let text = |member: &str| requirement[member].as_str().expect("text");
    (text("state"), text("found"))
}

/// What `holdup record` would end with here.
fn expected() -> i32 {
    holdup::host::preflight().map_or_else(|error| holdup::cli::Exit::from(&error).code(), |_| 0)
}

#[test]
fn it_ends_as_a_recording_would() {
    let output = check(&[]);
    assert_eq!(output.status.code(), Some(expected()), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let word = if expected() == 0 {
        "\nREADY "
    } else {
        "\nNOT READY "
    };
    for part in [
        word,
        " CAP_BPF ",
        " tp_btf/sched_switch ",
        " BTF ",
        " kernel.kptr_restrict ",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(
        !text.contains('\x1b'),
        "no color where there is no terminal"
    );
    let colored = check(&["--color", "always"]);
    assert!(String::from_utf8_lossy(&colored.stdout).contains("\x1b[1m"));
}

/// Whoever may write to a library that a process has loaded could otherwise end us by SIGBUS.
#[test]
fn a_file_that_shrinks_meanwhile_ends_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    // Constants are searched from their beginning to their end.
    let library = shared_object(
        dir.path(),
        "shrinks",
        "int answer(void) { return 42; }\nconst char constants[64 << 20] = {1};",
        "c",
        &[],
    );
    let mut child = Command::new("sleep")
        .arg("600")
        .env("LD_PRELOAD", &library)
        .spawn()
        .expect("sleep runs");
    let pid = child.id().to_string();
    let maps = format!("/proc/{pid}/maps");
    let loaded = || std::fs::read_to_string(&maps).is_ok_and(|maps| maps.contains("shrinks.so"));
    let begun = Instant::now();
    while !loaded() {
        assert!(begun.elapsed() < Duration::from_secs(10), "not loaded");
        std::thread::sleep(Duration::from_millis(1));
    }
    let whole = std::fs::read(&library).expect("reads");
    let end = whole.len() - (1 << 20);
    let file = File::options().write(true).open(&library).expect("opens");
    let done = AtomicBool::new(false);
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                file.set_len(1 << 20).expect("shrinks");
                std::thread::sleep(Duration::from_millis(1));
                file.write_all_at(&whole[end..], end as u64)
                    .expect("writes");
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let outputs = (0..20).map(|_| check(&["-p", &pid])).collect();
        done.store(true, Ordering::Relaxed);
        outputs
    });
    child.kill().expect("ours");
    child.wait().expect("ours");
    for output in outputs {
        assert!(output.status.code().is_some(), "{output:?}");
    }
}

#[test]
fn json_says_the_same() {
    let document = json(&check(&["--format", "json"]));
    assert_eq!(document["schema"], 1);
    assert_eq!(document["exit"], expected());
    assert_eq!(document["can_record"], expected() == 0);
    assert_eq!(document["target"], serde_json::Value::Null);
    assert_eq!(
        requirement(&document, "machine").0,
        "ok",
        "or this would not have been built"
    );
}

#[test]
fn without_capabilities_it_lists_them_and_ends_with_77() {
    let dir = tempfile::tempdir().expect("dir");
    // A copy that a user without any rights may execute, wherever this is checked out.
    let program = dir.path().join("holdup");
    // By a process of its own: a descriptor of ours to write to it could be inherited by what another
    // test starts meanwhile, and nothing that somebody may write to is executed.
    let copied = Command::new("cp")
        .args([Path::new(env!("CARGO_BIN_EXE_holdup")), &program])
        .status();
    assert!(copied.is_ok_and(|copied| copied.success()));
    for path in [dir.path(), &program] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("chmod");
    }
    let as_nobody = |args: &[&str]| {
        let mut command = command(&program, args);
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        command.output().expect("holdup runs")
    };
    let output = as_nobody(&[]);
    assert_eq!(output.status.code(), Some(PERMISSION), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let verdict = "NOT READY  not permitted to load BPF programs: CAP_BPF and CAP_PERFMON missing";
    assert!(text.contains(verdict), "{text}");
    let remedy = format!("try: sudo {} check", program.display());
    assert!(text.contains(&remedy), "{text}");

    let document = json(&as_nobody(&["--format", "json"]));
    assert_eq!(document["exit"], PERMISSION);
    for (id, state) in [
        ("cap-bpf", "missing"),
        ("cap-perfmon", "missing"),
        ("cap-sys-ptrace", "limited"),
        ("cap-checkpoint-restore", "limited"),
        ("bpf-system-call", "unknown"),
    ] {
        assert_eq!(requirement(&document, id).0, state, "{id}");
    }
    if rustix::process::geteuid().is_root() {
        let own = std::process::id().to_string();
        let document = json(&as_nobody(&["--format", "json", "-p", &own]));
        let (state, found) = requirement(&document, "target-process");
        assert_eq!(
            state, "missing",
            "a process of root is not nobody's to look into"
        );
        assert!(found.contains("CAP_SYS_PTRACE missing"), "{found}");
    }
}

#[test]
fn a_process_that_is_not_there() {
    let pid = i32::MAX.to_string();
    let output = check(&["-p", &pid, "-f", "json"]);
    let document = json(&output);
    assert_eq!(
        requirement(&document, "target-process"),
        ("missing", format!("no process has pid {pid}").as_str())
    );
    if expected() == 0 {
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_process_without_tokio() {
    let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
    let output = check(&["-p", &child.id().to_string(), "-f", "json"]);
    child.kill().expect("kill");
    child.wait().expect("wait");
    let document = json(&output);
    assert_eq!(document["target"]["pid"], child.id());
    for (id, state) in [
        ("target-process", "ok"),
        ("target-executable", "ok"),
        ("target-unwinding", "ok"),
        ("target-tokio", "missing"),
    ] {
        assert_eq!(requirement(&document, id).0, state, "{id}: {document}");
    }
    if expected() == 0 {
        assert_eq!(output.status.code(), Some(NO_RUNTIME));
    }
}

/// Each has a list of its own; one with tokio is enough to record.
#[test]
fn several_processes() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
    let pids = format!("{},{},{0}", child.id(), std::process::id());
    let (both, gone, text) = runtime.block_on(async {
        let none = format!("{pids},{}", i32::MAX);
        (
            check(&["-p", &pids, "-f", "json"]),
            check(&["-p", &none, "-f", "json"]),
            check(&["-p", &pids]),
        )
    });
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert_eq!(both.status.code(), Some(expected()), "{both:?}");
    let document = json(&both);
    assert_eq!(document["target"], serde_json::Value::Null);
    let targets = document["targets"].as_array().expect("a list");
    let [plain, own] = targets.as_slice() else {
        panic!("each once: {document}");
    };
    assert_eq!(
        (&plain["pid"], &plain["exit"]),
        (&child.id().into(), &NO_RUNTIME.into())
    );
    assert_eq!(
        (&own["pid"], &own["exit"]),
        (&std::process::id().into(), &0.into())
    );
    assert_eq!(requirement(plain, "target-tokio").0, "missing");
    assert_eq!(requirement(own, "target-tokio").0, "ok");
    if expected() == 0 {
        let text = String::from_utf8(text.stdout).expect("UTF-8");
        assert!(text.contains("to record 1 of 2 processes"), "{text}");
        // A process that was named has to be there, as for a recording.
        assert_eq!(gone.status.code(), Some(1), "{gone:?}");
    }
}

/// This very test, within a runtime.
#[test]
fn a_process_with_tokio() {
    let own = std::process::id().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let document = runtime.block_on(async { json(&check(&["-p", &own, "-f", "json"])) });
    let (state, found) = requirement(&document, "target-tokio");
    assert_eq!(state, "ok", "{document}");
    assert!(found.starts_with("1."), "{found}");
    assert_eq!(requirement(&document, "target-symbols").0, "ok");
    assert_eq!(document["exit"], expected());
}
