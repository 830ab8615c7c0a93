//! How the built program fails: exit status, message and what it suggests.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const PERMISSION: i32 = 77;

fn command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    // What decides on width, color, logging and owners must not come from whoever runs this.
    for name in [
        "COLUMNS",
        "HOLDUP_LOG",
        "CLICOLOR_FORCE",
        "SUDO_UID",
        "SUDO_GID",
        "SUDO_USER",
    ] {
        command.env_remove(name);
    }
    command
}

fn holdup(args: &[&str]) -> Output {
    command(Path::new(env!("CARGO_BIN_EXE_holdup")), args)
        .output()
        .expect("holdup runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// What comes out where the machine lets us record; elsewhere `None`, after testing that the
/// refusal is the right one.
fn permitted(args: &[&str]) -> Option<Output> {
    let output = holdup(args);
    match holdup::host::preflight() {
        Ok(_) => Some(output),
        Err(error) => {
            assert_eq!(
                output.status.code(),
                Some(holdup::cli::Exit::from(&error).code()),
                "{output:?}"
            );
            None
        }
    }
}

struct Sleeper(Child);

impl Sleeper {
    fn new(program: &Path) -> Sleeper {
        Sleeper(Command::new(program).arg("60").spawn().expect("sleep"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn usage_errors() {
    let cases: [&[&str]; 21] = [
        &["record"],
        &["record", "--"],
        &["record", "-p", "0"],
        &["record", "-p", "1,x"],
        &["record", "-p", "1", "-n", "x"],
        &["record", "-p", "1", "--", "true"],
        &["record", "-p", "1", "-d", "0"],
        &["record", "-p", "1", "-d", "soon"],
        &["record", "-p", "1", "-m", "100"],
        &["record", "-p", "1", "-d", "1h30"],
        &["record", "-p", "1", "-m", "10ns"],
        &["record", "-p", "1", "-f", "pdf"],
        &["record", "-p", "1", "-o", "report"],
        &["record", "-p", "1", "-o", "%x.svg"],
        &["record", "-p", "1", "-q", "-v"],
        &["recrod", "-p", "1"],
        &["record", "4711"],
        &["record", "claims_api", "-d", "1s"],
        &["record", "-p", "-1"],
        &["record", "-p", "1", "-d", "-5"],
        &["record", "--container", "claims"],
    ];
    let mut all = String::new();
    for args in cases {
        let output = holdup(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
        let text = stderr(&output);
        assert!(text.starts_with("holdup: error: "), "{args:?}: {text}");
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        all.push_str(&format!(
            "$ holdup {}\n{}\n\n",
            args.join(" "),
            lines.join("\n")
        ));
    }
    insta::assert_snapshot!(all);
}

/// A copy that a user without any rights may execute, wherever this is checked out.
fn copy_for_others(dir: &Path) -> PathBuf {
    let path = dir.join("holdup");
    // By a process of its own: a descriptor of ours to write to it could be inherited by what another
    // test starts meanwhile, and nothing that somebody may write to is executed.
    let copied = Command::new("cp")
        .args([Path::new(env!("CARGO_BIN_EXE_holdup")), &path])
        .status();
    assert!(copied.is_ok_and(|copied| copied.success()));
    for path in [dir, &path] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("chmod");
    }
    path
}

#[test]
fn without_capabilities_it_asks_for_sudo() {
    let dir = tempfile::tempdir().expect("dir");
    let program = copy_for_others(dir.path());
    let mut command = command(&program, &["record", "-n", "a b", "-d", "1s"]);
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let output = command.output().expect("holdup runs");
    assert_eq!(output.status.code(), Some(PERMISSION), "{output:?}");
    let want = format!(
        "holdup: error: not permitted to load BPF programs: CAP_BPF and CAP_PERFMON missing\n  \
         try: sudo {} record -n 'a b' -d 1s\n",
        program.display()
    );
    assert_eq!(stderr(&output), want);
}

#[test]
fn targets_that_cannot_be_recorded() {
    let pid = i32::MAX.to_string();
    if let Some(output) = permitted(&["record", "-p", &pid]) {
        assert_eq!(output.status.code(), Some(1));
        let want = format!("holdup: error: no process has pid {pid}\n  try: pgrep -a NAME\n");
        assert_eq!(stderr(&output), want);
    }
    if let Some(output) = permitted(&["record", "-n", "no such \x1b[31mname"]) {
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            stderr(&output),
            "holdup: error: no process is called no such \\u{1b}[31mname\n  \
             try: pgrep -af 'no such \\u{1b}[31mname'\n"
        );
    }
    if let Some(output) = permitted(&["record", "--", "/no/such/program", "x"]) {
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        let want = "holdup: error: cannot run /no/such/program: No such file";
        assert!(text.starts_with(want), "{text}");
    }
}

#[test]
fn of_too_many_of_a_name_some_are_left_out() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir
        .path()
        .join(format!("hldp-{}", std::process::id() % 100_000));
    // By a process of its own: another test may fork while this one has the copy open for writing,
    // and nobody executes what anybody has open so (`ETXTBSY`).
    let copied = Command::new("cp").arg("/bin/sleep").arg(&path).status();
    assert!(copied.expect("cp").success());
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    // One more than can be recorded at once.
    let sleepers: Vec<_> = (0..65).map(|_| Sleeper::new(&path)).collect();
    if let Some(output) = permitted(&["record", "-d", "10ms", "-n", name]) {
        // They are not what it records.
        assert_eq!(output.status.code(), Some(3));
        let told = format!(
            "65 processes are called {name}, and 64 can be recorded at once: 1 left out, root's and \
             yours last; --user USER chooses one user's\n"
        );
        assert!(stderr(&output).contains(&told), "{}", stderr(&output));
    }
    let user = rustix::process::getuid().as_raw();
    let other = (user + 1).to_string();
    let output = holdup(&["check", "-n", name, "--user", &other]);
    let first = sleepers.iter().map(Sleeper::pid).min();
    let said = stderr(&output);
    let line = format!("no process of the user with the id {other} is called {name}\n");
    assert!(
        said.starts_with(&format!("holdup: error: {line}")),
        "{said}"
    );
    assert!(
        said.contains(&format!("{:>7}  ", first.expect("65"))),
        "{said}"
    );
    assert!(said.contains("  and 45 more\n  try: --user "), "{said}");
}

#[test]
fn outputs_are_tested_before_anything_is_recorded() {
    let dir = tempfile::tempdir().expect("dir");
    let sleeper = Sleeper::new(Path::new("sleep"));
    let pid = sleeper.pid().to_string();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("old.json"), "precious").expect("writes");
    std::os::unix::fs::symlink(path("old.json"), path("link.json")).expect("links");
    std::fs::create_dir(path("dir.json")).expect("makes");
    for (name, force, why) in [
        ("old.json", false, "it exists"),
        ("link.json", false, "it is a symbolic link"),
        ("link.json", true, "it is a symbolic link"),
        ("dir.json", true, "it is a directory"),
        (
            "no/such/dir/x.json",
            false,
            "No such file or directory (os error 2)",
        ),
    ] {
        let output = path(name);
        let mut args = vec!["record", "-p", &pid, "-d", "1ms", "-o", &output];
        args.extend(force.then_some("--force"));
        if let Some(output) = permitted(&args) {
            assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
            let text = stderr(&output);
            assert!(
                text.lines().next().is_some_and(|line| line.ends_with(why)),
                "{name}: {text}"
            );
            assert!(!text.contains("recording "), "{name}: {text}");
        }
    }
    assert_eq!(
        std::fs::read_to_string(path("old.json")).expect("reads"),
        "precious"
    );
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = command(
        Path::new(env!("CARGO_BIN_EXE_holdup")),
        &["completions", "bash"],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("holdup runs");
    drop(child.stdout.take());
    let mut text = String::new();
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut text)
        .expect("reads");
    assert_eq!(child.wait().expect("ends").code(), Some(0), "{text}");
    assert_eq!(text, "");
}

/// Said before anything is looked up: no right is needed for it.
#[test]
fn top_without_a_terminal_says_what_to_use() {
    let output = holdup(&["top", "-n", "claims_api"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        stderr(&output),
        "holdup: error: top draws on a terminal, and standard output is none\n  \
         try: holdup record -d 10s -n claims_api\n"
    );
}

/// With what a shell's `>&-` leaves: no standard output at all.
fn without_stdout(args: &[&str]) -> Output {
    let mut all = vec!["-c", r#"exec "$0" "$@" >&-"#, env!("CARGO_BIN_EXE_holdup")];
    all.extend(args);
    command(Path::new("sh"), &all).output().expect("sh runs")
}

#[test]
fn a_closed_standard_output_is_told_before_anything_is_done() {
    const CAPTURE: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/captures/incident.holdup"
    );
    let want = "holdup: error: the report could be written nowhere: standard output is not there: \
                it was closed when holdup began\n  \
                try: write it to a file with -o report.html, or to nowhere with > /dev/null\n";
    let output = without_stdout(&["report", CAPTURE]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(stderr(&output), want);
    if holdup::host::preflight().is_ok() {
        let output = without_stdout(&["record", "-d", "10s", "--", "true"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(stderr(&output), want);
    }
    let output = without_stdout(&["completions", "bash"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("it was closed"), "{output:?}");
    // A file is a place, and so is /dev/null.
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("report.json");
    let path = path.to_str().expect("UTF-8");
    let output = without_stdout(&["report", CAPTURE, "-o", path]);
    let into_file = command(
        Path::new(env!("CARGO_BIN_EXE_holdup")),
        &["report", CAPTURE],
    )
    .stdout(Stdio::null())
    .stderr(Stdio::piped())
    .output()
    .expect("holdup runs");
    assert_eq!(output.status.code(), into_file.status.code(), "{output:?}");
    assert_ne!(output.status.code(), Some(1), "{output:?}");
    let written = std::fs::read(path).expect("the report");
    assert!(serde_json::from_slice::<serde_json::Value>(&written).is_ok());
}
