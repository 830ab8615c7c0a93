//! Every line of advice: a wait that gets it.

mod cause_support;

use cause_support::frames;
use holdup::cause::{ADVICE, Cause, CauseClassifier, RULES, WaitContext};
use holdup::symbolize::Space;

/// The advice for a wait in `functions` of the library.
fn advice(syscall: u32, kernel: &str, functions: &str) -> String {
    let (kernel, user) = (
        frames(kernel, Space::Kernel),
        frames(&format!("{functions}\napp::handler"), Space::User),
    );
    let finding = CauseClassifier::default().judge(&WaitContext {
        syscall: Some(syscall),
        args: Some([0x1000, 1, 1, 0, 0, 0]),
        kernel: &kernel,
        user: &user,
    });
    let advice = finding.advice.expect("there is advice");
    advice.suggestion.text.to_owned()
}

#[test]
fn advice_is_about_what_was_called() {
    for (syscall, kernel, functions, wanted) in [
        (257, "", "open64\nstd::fs::read", "tokio::fs::read(path)"),
        (
            0,
            "filemap_read",
            "read\nstd::fs::read_to_string",
            "tokio::fs::read_to_string",
        ),
        (
            1,
            "ext4_file_write_iter",
            "write\nstd::fs::write",
            "tokio::fs::write",
        ),
        (74, "", "fsync\nstd::fs::File::sync_all", "sync_all().await"),
        (
            230,
            "",
            "clock_nanosleep\nstd::thread::sleep",
            "tokio::time::sleep",
        ),
        (
            45,
            "",
            "recv\npostgres::client::Client::query",
            "tokio-postgres",
        ),
        (
            17,
            "",
            "pread64\nsqlite3VdbeExec\nrusqlite::statement::Statement::query",
            "spawn_blocking",
        ),
        (
            232,
            "",
            "epoll_wait\nreqwest::blocking::client::Client::get",
            "async `reqwest::Client`",
        ),
        (
            202,
            "",
            "syscall\nstd::thread::park\nreqwest::blocking::wait::timeout",
            "async `reqwest::Client`",
        ),
        (7, "", "__poll\ngetaddrinfo", "lookup_host"),
        (
            281,
            "ep_poll",
            "epoll_pwait\nuv__io_poll\nuv_run",
            "event loop",
        ),
        (
            202,
            "",
            "syscall\nrayon_core::latch::LockLatch::wait_and_reset\nrayon_core::registry::Registry::in_worker_cold",
            "`rayon::spawn`",
        ),
        (
            202,
            "",
            "syscall\nrayon_core::sleep::Sleep::sleep\nrayon_core::registry::WorkerThread::wait_until_cold",
            "rayon's pool waits",
        ),
        (
            202,
            "",
            "syscall\nfutures_executor::local_pool::block_on",
            ".await",
        ),
        (
            202,
            "",
            "syscall\nstd::sys::sync::mutex::futex::Mutex::lock_contended",
            "tokio::sync::Mutex",
        ),
        (
            202,
            "",
            "syscall\nstd::sys::sync::rwlock::futex::RwLock::write_contended",
            "tokio::sync::RwLock",
        ),
        (
            202,
            "",
            "syscall\nparking_lot::raw_rwlock::RawRwLock::lock_shared_slow",
            "tokio::sync::RwLock",
        ),
        (
            61,
            "",
            "wait4\nstd::process::Command::output",
            "output().await",
        ),
        (
            61,
            "",
            "wait4\nstd::process::Command::status",
            "status().await",
        ),
        (
            202,
            "",
            "syscall\nstd::sync::mpmc::Receiver<T>::recv",
            "recv().await",
        ),
        (
            202,
            "",
            "syscall\nstd::sync::mpmc::array::Channel<T>::send",
            "send(value).await",
        ),
        (
            202,
            "",
            "syscall\npthread_join\nstd::thread::JoinHandle<T>::join",
            "spawn_blocking",
        ),
        (
            42,
            "",
            "connect\nstd::net::tcp::TcpStream::connect",
            "tokio::net::TcpStream::connect",
        ),
        (
            45,
            "",
            "recv\nstd::os::unix::net::stream::UnixStream::read",
            "UnixStream",
        ),
    ] {
        let text = advice(syscall, kernel, functions);
        assert!(text.contains(wanted), "{functions}: {text}");
    }
}

#[test]
fn every_advice_is_one_line_with_a_reference() {
    for line in ADVICE.iter() {
        let suggestion = line.suggestion;
        assert!(suggestion.url.starts_with("https://"), "{suggestion:?}");
        assert!(!suggestion.text.contains('\n'));
        assert!(suggestion.text.len() < 200, "{suggestion:?}");
        for rule in line.rules {
            assert!(RULES.iter().any(|known| known.name == *rule), "{rule}");
        }
    }
    // Whatever the cause, there is something to say; but for what nobody can know.
    for cause in Cause::ALL {
        let general = ADVICE
            .iter()
            .any(|line| line.cause == cause && line.called.is_empty() && line.rules.is_empty());
        assert_eq!(general, cause != Cause::Other, "{cause}");
    }
}
