//! Commands that are held at their entry point, built here in every way in which a program can
//! be linked, and with a library that makes trouble while it is loaded.

use holdup::process::{Invoker, LaunchError, Launched, Target};
use holdup::units::Addr;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Writes its name and its effective user into the file that it is given, and ends as it is told.
const PROGRAM: &str = r#"
unsafe extern "C" { fn geteuid() -> u32; }
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let line = format!("{} as {}\n", args[1], unsafe { geteuid() });
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&args[2]).unwrap();
    file.write_all(line.as_bytes()).unwrap();
    std::process::exit(args[3].parse().unwrap());
}
"#;

/// The same, and a library whose initializer does what the first argument says.
const TROUBLED: &str = r#"
#[link(name = "trouble")]
unsafe extern "C" { fn trouble() -> i32; }
#[used]
static LINKED: unsafe extern "C" fn() -> i32 = trouble;
"#;

const LIBRARY: &str = r#"
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicI32, Ordering};
unsafe extern "C" {
    fn raise(signal: c_int) -> c_int;
    fn fork() -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, flags: c_int) -> c_int;
    fn execv(path: *const c_char, argv: *const *const c_char) -> c_int;
    fn _exit(status: c_int) -> !;
    fn signal(signal: c_int, handler: extern "C" fn(c_int)) -> usize;
}
static SEEN: AtomicI32 = AtomicI32::new(0);
extern "C" fn handler(signal: c_int) { SEEN.store(signal, Ordering::SeqCst); }
#[unsafe(no_mangle)]
pub extern "C" fn trouble() -> i32 { SEEN.load(Ordering::SeqCst) }
#[used]
#[unsafe(link_section = ".init_array")]
static INITIALIZER: extern "C" fn(c_int, *mut *const c_char) = initialize;
extern "C" fn initialize(argc: c_int, argv: *mut *const c_char) {
    if argc < 2 { return }
    unsafe {
        match CStr::from_ptr(*argv.add(1)).to_bytes() {
            b"trap" => { signal(5, handler); raise(5); assert_eq!(trouble(), 5) }
            b"user" => { signal(10, handler); raise(10); assert_eq!(trouble(), 10) }
            b"term" => { raise(15); }
            b"stop" => { raise(19); }
            b"end" => _exit(3),
            b"fork" => { fork(); }
            b"child" => if fork() == 0 { _exit(0) } else { assert!(waitpid(-1, &mut 0, 0) > 0) },
            b"exec" => {
                *argv.add(1) = c"again".as_ptr();
                execv(c"/proc/self/exe".as_ptr(), argv);
            }
            b"thread" => {
                let thread = std::thread::spawn(|| loop {
                    std::thread::sleep(std::time::Duration::from_millis(1))
                });
                std::mem::forget(thread);
            }
            _ => {}
        }
    }
}
"#;

/// Builds a program, unless it is there already: every test may run in a process of its own, at the
/// same time as others that want the same program.
fn rustc(source: &str, out: &Path, args: &[&str]) {
    let lock = File::create(out.with_extension("lock")).expect("a lock");
    lock.lock().expect("locked");
    let stamp = out.with_extension("stamp");
    let wanted = format!("{args:?}\n{source}");
    if out.exists() && std::fs::read_to_string(&stamp).is_ok_and(|built| built == wanted) {
        return;
    }
    let (file, new) = (out.with_extension("rs"), out.with_extension("new"));
    std::fs::write(&file, source).expect("written");
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition", "2024", "-C", "panic=abort"]);
    let output = command
        .args(args)
        .arg(&file)
        .arg("-o")
        .arg(&new)
        .output()
        .expect("rustc runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    // Whoever runs the old one goes on to do so.
    std::fs::rename(&new, out).expect("renamed");
    std::fs::write(&stamp, wanted).expect("written");
}

/// A directory below the build's: `/tmp` may forbid programs or set-user-ID ones.
fn directory(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("process_launch")
        .join(name);
    std::fs::create_dir_all(&dir).expect("directory");
    dir
}

/// The program with the library that makes trouble.
fn troubled() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let dir = directory("troubled");
        rustc(
            LIBRARY,
            &dir.join("libtrouble.so"),
            &["--crate-type", "cdylib"],
        );
        let path = dir.join("program");
        let (find, run) = (
            format!("-L{}", dir.display()),
            format!("-Wl,-rpath,{}", dir.display()),
        );
        let run = format!("link-arg={run}");
        rustc(&[PROGRAM, TROUBLED].concat(), &path, &[&find, "-C", &run]);
        path
    })
}

/// The program as it is linked by default.
fn dynamic() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = directory("dynamic").join("program");
        rustc(PROGRAM, &path, &[]);
        path
    })
}

/// A started command and the file that it writes.
struct Held {
    launched: Launched,
    target: Target,
    said: PathBuf,
    _dir: tempfile::TempDir,
}

impl Held {
    fn start(program: &Path, name: &str, status: i32) -> Held {
        let dir = tempfile::tempdir().expect("directory");
        let said = dir.path().join("said");
        let command: [OsString; 4] = [
            program.into(),
            name.into(),
            (&said).into(),
            status.to_string().into(),
        ];
        let launched = Launched::spawn(&command, None).expect("starts");
        let target = Target::open(launched.pid()).expect("opens");
        Held {
            launched,
            target,
            said,
            _dir: dir,
        }
    }

    fn has_mapped(&self, library: &str) -> bool {
        let mappings = self.target.mappings().expect("maps");
        mappings
            .iter()
            .any(|mapping| mapping.file_name().starts_with(library))
    }

    /// Where the processor stands: the last word of proc_pid_syscall(5). A program without a
    /// loader is still about to return from its exec.
    fn instruction_pointer(&self) -> Addr {
        let words = self
            .target
            .proc_dir()
            .read("syscall")
            .map(text)
            .expect("it is stopped");
        let address = words.split_whitespace().next_back();
        let address = address
            .and_then(|word| word.strip_prefix("0x"))
            .expect("an address");
        Addr(u64::from_str_radix(address, 16).expect("a number"))
    }

    /// `R`, `t`, `T` and so on, by proc_pid_stat(5).
    fn state(&self) -> u8 {
        let stat = self.target.proc_dir().read("stat").expect("it lives");
        let name_ends = stat.iter().rposition(|&byte| byte == b')').expect("a name");
        stat[name_ends + 2]
    }

    fn until_state(&self, state: u8) {
        let begun = Instant::now();
        while self.state() != state {
            let now = char::from(self.state());
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "its state is {now}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Tests that it stands unharmed at the entry point that its file states.
    fn is_at_entry(&self) {
        use object::{Object, ObjectSegment};
        let file = std::fs::read(
            self.target
                .proc_dir()
                .read_link("exe")
                .map(text)
                .expect("exe"),
        );
        let file = file.expect("read");
        let elf = object::File::parse(&*file).expect("ELF");
        let at = self.instruction_pointer();
        let mappings = self.target.mappings().expect("maps");
        let first = mappings
            .iter()
            .find(|mapping| mapping.path == self.target.exe());
        let bias = match elf.kind() {
            object::ObjectKind::Dynamic => first.expect("mapped").range.start.0,
            _ => 0,
        };
        assert_eq!(at.0 - bias, elf.entry());

        let mut bytes = [0; 16];
        self.target.read_memory(at, &mut bytes).expect("memory");
        let code = elf
            .segments()
            .find_map(|s| s.data_range(elf.entry(), 16).ok().flatten());
        assert_eq!(&bytes[..], code.expect("code"), "a breakpoint is left");
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Lets it run and tests that it ends with `status`; what it said.
    fn end(self, status: i32) -> String {
        assert_eq!(self.said(), "", "it ran before the release");
        self.goes_on_to_end(status)
    }

    /// The same where it was released already.
    fn goes_on_to_end(self, status: i32) -> String {
        let Held {
            launched,
            target,
            said,
            _dir,
        } = self;
        let ended = launched.wait().expect("reaped");
        assert_eq!(ended.code(), Some(status), "{ended}");
        assert!(target.ended());
        std::fs::read_to_string(said).expect("it says something")
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

fn says(name: &str) -> String {
    format!("{name} as {}\n", rustix::process::geteuid().as_raw())
}

fn send(target: &Target, signal: rustix::process::Signal) {
    rustix::process::pidfd_send_signal(target, signal).expect("sent");
}

/// Writes what is to be executed, by a process of its own: in this one another test may fork while
/// the file is open, and nobody executes what anybody has open for writing (`ETXTBSY`).
fn write_program(path: &Path, bytes: &[u8]) {
    let mut writer = Command::new("tee")
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("tee");
    let mut input = writer.stdin.take().expect("piped");
    input.write_all(bytes).expect("written");
    drop(input);
    assert!(writer.wait().expect("waited").success());
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("executable");
}

#[test]
fn a_dynamic_program_is_held_with_its_libraries() {
    let held = Held::start(dynamic(), "hello", 7);
    held.is_at_entry();
    assert!(held.has_mapped("libc.so"));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(held.state(), b't');
    assert_eq!(held.end(7), says("hello"));
}

#[test]
fn a_program_at_a_fixed_address_is_held() {
    let path = directory("fixed").join("program");
    rustc(PROGRAM, &path, &["-C", "relocation-model=static"]);
    let held = Held::start(&path, "fixed", 0);
    held.is_at_entry();
    assert!(held.has_mapped("libc.so"));
    assert_eq!(held.end(0), says("fixed"));
}

#[test]
fn static_programs_are_held() {
    for model in ["relocation-model=pic", "relocation-model=static"] {
        let path = directory(model).join("program");
        rustc(
            PROGRAM,
            &path,
            &["-C", "target-feature=+crt-static", "-C", model],
        );
        let held = Held::start(&path, "static", 1);
        assert!(!held.has_mapped("ld-linux"), "{model}: it has a loader");
        held.is_at_entry();
        assert_eq!(held.end(1), says("static"));
    }
}

#[test]
fn of_a_script_the_interpreter_is_held() {
    let dir = directory("script");
    let path = dir.join("script");
    let script = "#!/bin/sh\necho \"$1 as $(id -u)\" > \"$2\"\nexit \"$3\"\n";
    write_program(&path, script.as_bytes());
    let held = Held::start(&path, "script", 5);
    held.is_at_entry();
    assert!(held.has_mapped("libc.so"));
    let shell = std::fs::canonicalize("/bin/sh").expect("a shell");
    assert_eq!(Path::new(&text(held.target.exe().to_vec())), shell);
    assert_eq!(held.end(5), says("script"));
}

#[test]
fn what_the_command_executes_later_is_not_held() {
    let dir = tempfile::tempdir().expect("directory");
    let said = dir.path().join("said");
    let mut command: Vec<OsString> = ["/bin/sh", "-c", "exec \"$0\" \"$@\""]
        .map(Into::into)
        .to_vec();
    command.extend([
        dynamic().into(),
        "second".into(),
        (&said).into(),
        "4".into(),
    ]);
    let launched = Launched::spawn(&command, None).expect("starts");
    let target = Target::open(launched.pid()).expect("opens");
    assert!(!target.exe().ends_with(b"/program"));
    assert_eq!(launched.wait().expect("reaped").code(), Some(4));
    assert_eq!(
        std::fs::read_to_string(said).expect("written"),
        says("second")
    );
}

#[test]
fn killed_while_held_it_has_run_nothing() {
    let Held {
        mut launched,
        target,
        said,
        _dir,
    } = Held::start(dynamic(), "killed", 0);
    send(&target, rustix::process::Signal::KILL);
    let begun = Instant::now();
    while !target.ended() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not end");
    }
    launched.release();
    assert_eq!(
        launched.wait().expect("reaped").signal(),
        Some(libc::SIGKILL)
    );
    assert!(!said.exists());
}

#[test]
fn a_signal_while_held_comes_after_the_release() {
    let Held {
        mut launched,
        target,
        said,
        _dir,
    } = Held::start(dynamic(), "ended", 0);
    send(&target, rustix::process::Signal::TERM);
    std::thread::sleep(Duration::from_millis(20));
    assert!(!target.ended());
    launched.release();
    assert_eq!(
        launched.wait().expect("reaped").signal(),
        Some(libc::SIGTERM)
    );
    assert!(
        !said.exists(),
        "the signal came before the first instruction"
    );
}

#[test]
fn stopped_while_held_it_stops_at_the_release() {
    let mut held = Held::start(dynamic(), "stopped", 0);
    send(&held.target, rustix::process::Signal::STOP);
    assert_eq!(held.state(), b't');
    held.launched.release();
    held.until_state(b'T');
    assert_eq!(held.said(), "");
    send(&held.target, rustix::process::Signal::CONT);
    assert_eq!(held.goes_on_to_end(0), says("stopped"));
}

#[test]
fn stopped_while_loading_it_stops_at_the_release() {
    let mut held = Held::start(troubled(), "stop", 0);
    held.is_at_entry();
    held.launched.release();
    held.until_state(b'T');
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(held.state(), b'T');
    assert_eq!(held.said(), "");
    send(&held.target, rustix::process::Signal::CONT);
    assert_eq!(held.goes_on_to_end(0), says("stop"));
}

#[test]
fn continued_while_held_it_does_not_stop() {
    let held = Held::start(troubled(), "stop", 0);
    send(&held.target, rustix::process::Signal::CONT);
    assert_eq!(held.end(0), says("stop"));
}

#[test]
fn handlers_run_while_loading() {
    for name in ["user", "trap"] {
        let held = Held::start(troubled(), name, 0);
        held.is_at_entry();
        assert!(held.has_mapped("libtrouble.so"));
        assert_eq!(held.end(0), says(name));
    }
}

#[test]
fn ended_while_loading_it_says_how() {
    for (name, how) in [("end", "exit status: 3"), ("term", "SIGTERM")] {
        let command = [troubled().into(), name.into()];
        let error = Launched::spawn(&command, None).expect_err("it has ended");
        assert!(matches!(error, LaunchError::Ended { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains(how), "{said}");
    }
}

#[test]
fn a_program_executed_while_loading_is_held_in_its_place() {
    let held = Held::start(troubled(), "exec", 0);
    assert_eq!(
        held.target.cmdline_text().get(1).map(String::as_str),
        Some("again")
    );
    held.is_at_entry();
    assert!(held.has_mapped("libc.so"));
    assert_eq!(held.end(0), says("again"));
}

#[test]
fn a_process_forked_while_loading_runs_on() {
    let held = Held::start(troubled(), "child", 0);
    held.is_at_entry();
    assert_eq!(held.end(0), says("child"));

    // Here the child runs the program as well: no breakpoint may be in its way.
    let held = Held::start(troubled(), "fork", 0);
    held.is_at_entry();
    let begun = Instant::now();
    while held.said() != says("fork") {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "said: {:?}",
            held.said()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(held.state(), b't');
    let Held {
        launched,
        said,
        _dir,
        ..
    } = held;
    assert!(launched.wait().expect("reaped").success());
    assert_eq!(
        std::fs::read_to_string(said).expect("said"),
        says("fork").repeat(2)
    );
}

#[test]
fn a_thread_started_while_loading_runs_on() {
    let held = Held::start(troubled(), "thread", 0);
    held.is_at_entry();
    assert_eq!(
        held.target
            .proc_dir()
            .list_numbers("task")
            .expect("threads")
            .len(),
        2
    );
    assert_eq!(held.end(0), says("thread"));
}

#[test]
fn a_library_that_is_missing_ends_it() {
    let path = directory("lonely").join("program");
    let hidden = directory("troubled").join("libtrouble.so");
    let bytes = std::fs::read(troubled()).expect("read");
    let (from, to) = (b"libtrouble.so".as_slice(), b"libmissing.so".as_slice());
    assert!(hidden.exists());
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .expect("named");
    let bytes = [&bytes[..at], to, &bytes[at + from.len()..]].concat();
    write_program(&path, &bytes);
    let error = Launched::spawn(&[path.into()], None).expect_err("it has ended");
    assert!(error.to_string().contains("exit status: 127"), "{error}");
}

#[test]
fn set_user_id_gives_nothing_to_a_user_who_could_not_trace() {
    use rustix::process::{Gid, Uid};
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "not root");
        return;
    }
    let dir = tempfile::tempdir_in(directory("setuid")).expect("directory");
    let path = dir.path().join("program");
    write_program(&path, &std::fs::read(dynamic()).expect("read"));
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("mode");
    };
    open(&path, 0o4755);
    open(dir.path(), 0o777);
    let args = |said: &Path| -> [OsString; 3] { ["setuid".into(), said.into(), "0".into()] };

    let said = dir.path().join("alone");
    let alone = Command::new(&path)
        .args(args(&said))
        .uid(65534)
        .gid(65534)
        .status();
    let reachable = alone.is_ok_and(|status| status.success());
    if !reachable || std::fs::read_to_string(said).expect("said") != "setuid as 0\n" {
        eprintln!(
            "skipped: the directory is not for others, or its file system knows no such programs"
        );
        return;
    }
    let nobody = Invoker {
        uid: Uid::from_raw(65534),
        gid: Gid::from_raw(65534),
        groups: Vec::new(),
    };
    let said = dir.path().join("launched");
    let command = [&[path.into()], &args(&said)[..]].concat();
    let launched = Launched::spawn(&command, Some(&nobody)).expect("starts");
    assert!(launched.wait().expect("reaped").success());
    assert_eq!(
        std::fs::read_to_string(said).expect("said"),
        "setuid as 65534\n"
    );
}
