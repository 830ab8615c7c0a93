//! Every rule of causes: a wait on which it, and no earlier one, decides.

mod cause_support;

use cause_support::frames;
use holdup::cause::{Cause, CauseClassifier, RULES, WaitContext};
use holdup::symbolize::Space;
use std::collections::BTreeSet;

struct Case {
    rule: &'static str,
    cause: Cause,
    syscall: Option<u32>,
    args: [u64; 6],
    kernel: &'static str,
    user: &'static str,
}

const fn case(
    rule: &'static str,
    cause: Cause,
    syscall: Option<u32>,
    kernel: &'static str,
    user: &'static str,
) -> Case {
    Case {
        rule,
        cause,
        syscall,
        // Of a futex: private.
        args: [0x1000, 128, 0, 0, 0, 0],
        kernel,
        user,
    }
}

impl Case {
    const fn args(mut self, args: [u64; 6]) -> Case {
        self.args = args;
        self
    }
}

const FUTEX: Option<u32> = Some(202);
const FUTEX_KERNEL: &str = "futex_wait_queue\n__futex_wait\nfutex_wait\ndo_futex\n__x64_sys_futex";
const FAULT: &str = "asm_exc_page_fault\nexc_page_fault\ndo_user_addr_fault\nhandle_mm_fault";

fn cases() -> Vec<Case> {
    use Cause::*;
    vec![
        case(
            "stopped",
            Other,
            FUTEX,
            "do_signal_stop\nget_signal",
            "syscall",
        ),
        case(
            "memory-reclaim",
            Memory,
            Some(0),
            "io_schedule\nshrink_folio_list\nshrink_lruvec\ntry_to_free_pages\n__alloc_pages_slowpath.constprop.0\nvfs_read",
            "read\napp::load",
        ),
        case(
            "swap-in",
            Memory,
            None,
            "folio_wait_bit_common\ndo_swap_page\nhandle_mm_fault\ndo_user_addr_fault\nexc_page_fault\nasm_exc_page_fault",
            "app::scan",
        ),
        case(
            "mmap-lock",
            Memory,
            None,
            "rwsem_down_read_slowpath\ndown_read_killable\nlock_mm_and_find_vma\ndo_user_addr_fault\nexc_page_fault\nasm_exc_page_fault",
            "app::scan",
        ),
        case(
            "page-fault-file",
            PageFault,
            None,
            "io_schedule\nfolio_wait_bit_common\nfilemap_fault\n__do_fault\nhandle_mm_fault\ndo_user_addr_fault\nexc_page_fault\nasm_exc_page_fault",
            "app::scan",
        ),
        case("page-fault", PageFault, None, FAULT, "app::scan"),
        case(
            "page-fault-in-call",
            PageFault,
            Some(1),
            "filemap_fault\nhandle_mm_fault\ndo_user_addr_fault\nexc_page_fault\nasm_exc_page_fault\ncopy_page_from_iter\npipe_write",
            "write\napp::send",
        ),
        case(
            "getaddrinfo",
            Dns,
            Some(7),
            "do_poll\ndo_sys_poll",
            "__poll\n__res_context_send\n__res_context_query\n_nss_dns_gethostbyname4_r\ngaih_inet\ngetaddrinfo\nstd::sys::net::connection::socket::lookup_host::{{closure}}\napp::resolve",
        ),
        case(
            "child-process",
            ChildProcess,
            Some(7),
            "do_poll",
            "__poll\nstd::sys::process::unix::common::read2\nstd::process::Command::output\napp::convert",
        ),
        case("wait4", ChildProcess, Some(61), "do_wait\nkernel_wait4", ""),
        case(
            "vfork",
            ChildProcess,
            Some(56),
            "wait_for_vfork_done\nkernel_clone",
            "",
        ),
        case(
            "thread-join",
            ThreadJoin,
            FUTEX,
            FUTEX_KERNEL,
            "__futex_abstimed_wait_common\n__pthread_clockjoin_ex\n<std::thread::JoinInner<T>>::join\napp::wait",
        ),
        case(
            "channel",
            Channel,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\n<std::thread::thread::Thread>::park\nstd::sync::mpmc::list::Channel<T>::recv::{{closure}}\napp::next",
        ),
        case(
            "barrier",
            Condvar,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\n<std::sys::sync::condvar::futex::Condvar>::wait\nstd::sync::barrier::Barrier::wait\napp::meet",
        ),
        case(
            "std-mutex",
            Lock,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\n<std::sys::sync::mutex::futex::Mutex>::lock_contended\napp::reserve",
        ),
        case(
            "std-rwlock",
            Lock,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\n<std::sys::sync::rwlock::futex::RwLock>::write_contended\napp::update",
        ),
        case(
            "parking-lot",
            Lock,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\nparking_lot::raw_mutex::RawMutex::lock_slow\napp::reserve",
        ),
        case(
            "pthread-lock",
            Lock,
            FUTEX,
            FUTEX_KERNEL,
            "__lll_lock_wait\n___pthread_mutex_lock\nmalloc\napp::allocate",
        ),
        case(
            "gil",
            Gil,
            FUTEX,
            FUTEX_KERNEL,
            "pthread_cond_timedwait\ntake_gil\nPyEval_RestoreThread\npyo3::marker::Python::detach\napp::score",
        ),
        case(
            "runtime-shutdown",
            ThreadJoin,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\nstd::sys::sync::condvar::futex::Condvar::wait\ntokio::runtime::blocking::shutdown::Receiver::wait\ntokio::runtime::blocking::pool::BlockingPool::shutdown\napp::call",
        ),
        case(
            "stdio-lock",
            Stdio,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\nstd::sys::sync::mutex::futex::Mutex::lock_contended\nstd::io::stdio::_print\napp::log",
        ),
        case(
            "stdio-write",
            Stdio,
            Some(1),
            "pipe_write\nvfs_write\nksys_write",
            "write\nstd::io::stdio::StdoutRaw::write\nstd::io::stdio::_print\napp::log",
        ),
        case(
            "stdio-descriptor",
            Stdio,
            Some(1),
            "pipe_write\nvfs_write\nksys_write",
            "",
        )
        .args([2, 0x1000, 80, 0, 0, 0]),
        case(
            "stdin-read",
            Stdio,
            Some(0),
            "pipe_read\nvfs_read\nksys_read",
            "read\nstd::io::stdio::Stdin::read_line\napp::ask",
        )
        .args([0, 0x1000, 80, 0, 0, 0]),
        case("futex-contended", Lock, FUTEX, FUTEX_KERNEL, "").args([0x1000, 137, 2, 0, 0, 0]),
        case("futex-rwlock", Lock, FUTEX, FUTEX_KERNEL, "").args([
            0x1000,
            137,
            0x7fff_ffff,
            0,
            0,
            0,
        ]),
        case(
            "tokio-blocking-pool",
            Lock,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\nstd::sys::sync::mutex::futex::Mutex::lock_contended\ntokio::runtime::blocking::pool::Spawner::spawn_task\napp::save",
        ),
        case(
            "tokio-injection-queue",
            Lock,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\nparking_lot::raw_mutex::RawMutex::lock_slow\ntokio::runtime::scheduler::inject::shared::Shared::push\napp::send",
        ),
        case(
            "tokio-timer",
            Lock,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\nstd::sys::sync::mutex::futex::Mutex::lock_contended\ntokio::runtime::time::Handle::reregister\napp::timeout",
        ),
        case(
            "rayon-pool",
            Condvar,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\nstd::sys::sync::condvar::futex::Condvar::wait\nrayon_core::sleep::Sleep::sleep\nrayon_core::registry::WorkerThread::wait_until_cold\nrayon_core::join::join_context\napp::sum",
        ),
        case(
            "rayon",
            ThreadJoin,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\nstd::sys::sync::condvar::futex::Condvar::wait\nrayon_core::latch::LockLatch::wait_and_reset\nrayon_core::registry::Registry::in_worker_cold\napp::sum",
        ),
        case(
            "block-on",
            NestedBlockOn,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\nstd::thread::functions::park\nfutures_executor::local_pool::run_executor\nfutures_executor::local_pool::block_on\napp::fetch",
        ),
        case(
            "block-on-driver",
            NestedBlockOn,
            Some(232),
            "ep_poll",
            "epoll_wait\nasync_io::driver::block_on\napp::fetch",
        ),
        case(
            "once",
            Lock,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\n<std::sys::sync::once::futex::Once>::call\nstd::sync::once_lock::OnceLock<T>::initialize\napp::settings",
        ),
        case(
            "condvar",
            Condvar,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\n<std::sys::sync::condvar::futex::Condvar>::wait_optional_timeout\napp::await_signal",
        ),
        case(
            "thread-park",
            Condvar,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\nstd::thread::functions::park_timeout\napp::pause",
        ),
        case(
            "futex-park",
            Condvar,
            FUTEX,
            FUTEX_KERNEL,
            "syscall\napp::pause",
        )
        .args([0x1000, 137, 0xffff_ffff, 0, 0, 0]),
        case("futex-pi", Lock, FUTEX, "", "").args([0x1000, 128 + 6, 0, 0, 0, 0]),
        case("futex-requeue", Condvar, FUTEX, "", "").args([0x1000, 128 + 11, 0, 0, 0, 0]),
        case(
            "futex-shared",
            ThreadJoin,
            FUTEX,
            FUTEX_KERNEL,
            "__futex_abstimed_wait_common64",
        )
        .args([0x1000, 0x109, 77, 0, 0, 0]),
        case("futex", Futex, FUTEX, FUTEX_KERNEL, "").args([0x1000, 128, 3, 0, 0, 0]),
        case(
            "flock",
            FileLock,
            Some(73),
            "flock_lock_inode_wait",
            "flock\nstd::fs::File::lock",
        ),
        case("fcntl-lock", FileLock, Some(72), "", "fcntl").args([3, 38, 0, 0, 0, 0]),
        case(
            "file-lock",
            FileLock,
            Some(72),
            "posix_lock_inode_wait\nfcntl_setlk",
            "fcntl",
        ),
        case(
            "sqlite-busy",
            FileLock,
            Some(230),
            "hrtimer_nanosleep",
            "clock_nanosleep\nusleep\nunixSleep\nsqlite3OsSleep\nsqliteDefaultBusyCallback\nbtreeBeginTrans\nsqlite3VdbeExec\nrusqlite::statement::Statement::execute\napp::store",
        ),
        case(
            "sleep",
            Sleep,
            Some(230),
            "hrtimer_nanosleep",
            "clock_nanosleep",
        ),
        case("poll-sleep", Sleep, Some(7), "do_poll", "__poll").args([0, 0, 100, 0, 0, 0]),
        case(
            "fsync",
            FileIo,
            Some(74),
            "jbd2_log_wait_commit\next4_sync_file\nvfs_fsync_range",
            "fsync",
        ),
        case(
            "sync-write",
            FileIo,
            Some(1),
            "folio_wait_writeback\next4_sync_file\ngeneric_write_sync\nvfs_write",
            "write",
        ),
        case(
            "dirty-throttle",
            FileIo,
            Some(1),
            "io_schedule_timeout\nbalance_dirty_pages\nbalance_dirty_pages_ratelimited_flags\ngeneric_perform_write",
            "write",
        ),
        case(
            "pipe",
            Pipe,
            Some(257),
            "wait_for_partner\nfifo_open\ndo_dentry_open\npath_openat",
            "open64",
        ),
        case(
            "event-loop",
            Poll,
            Some(281),
            "ep_poll",
            "epoll_pwait\nuv__io_poll\nuv_run\nnode::SpinEventLoop",
        ),
        case("poll", Poll, Some(7), "do_poll", "__poll").args([0x1000, 3, 0, 0, 0, 0]),
        case(
            "socket-call",
            Network,
            Some(288),
            "inet_csk_accept",
            "accept4",
        ),
        case(
            "socket",
            Network,
            Some(0),
            "wait_woken\nsk_wait_data\ntcp_recvmsg\nsock_read_iter\nvfs_read",
            "read",
        ),
        case(
            "terminal",
            Other,
            Some(0),
            "wait_woken\nn_tty_read\ntty_read\nvfs_read",
            "read",
        ),
        case(
            "event-descriptor",
            Other,
            Some(0),
            "eventfd_read\nvfs_read",
            "read",
        ),
        case(
            "memory-call",
            Memory,
            Some(11),
            "synchronize_rcu_expedited",
            "munmap",
        ),
        case("file-call", FileIo, Some(257), "", "open64"),
        case(
            "file",
            FileIo,
            Some(0),
            "io_schedule\nfolio_wait_bit_common\nfilemap_read\next4_file_read_iter\nvfs_read",
            "read",
        ),
        case(
            "std-pipe",
            Pipe,
            Some(0),
            "",
            "read\nstd::io::pipe::PipeReader::read",
        ),
        case(
            "std-net",
            Network,
            Some(0),
            "",
            "read\nstd::os::unix::net::UnixStream::read",
        ),
        case("std-fs", FileIo, Some(0), "", "read\nstd::fs::read"),
        case("semaphore", Lock, Some(65), "", "semop"),
        case("message-queue", Channel, Some(70), "", "msgrcv"),
        case("signal", Other, Some(34), "", "pause"),
        case("library-sleep", Sleep, Some(999), "", "usleep"),
        case("no-cause", Other, Some(999), "", "ioperm"),
    ]
}

fn judged(case: &Case) -> (Cause, &'static str) {
    let (kernel, user) = (
        frames(case.kernel, Space::Kernel),
        frames(case.user, Space::User),
    );
    let finding = CauseClassifier::default().judge(&WaitContext {
        syscall: case.syscall,
        args: case.syscall.map(|_| case.args),
        kernel: &kernel,
        user: &user,
    });
    (finding.cause, finding.rule)
}

#[test]
fn every_rule_decides_where_it_should() {
    for case in cases() {
        assert_eq!(judged(&case), (case.cause, case.rule));
    }
}

#[test]
fn every_rule_has_a_case_and_a_reason() {
    let tried: BTreeSet<&str> = cases().iter().map(|case| case.rule).collect();
    let mut names = BTreeSet::new();
    for rule in RULES {
        assert!(tried.contains(rule.name), "no case for {}", rule.name);
        assert!(!rule.why.is_empty(), "{}", rule.name);
        assert!(names.insert(rule.name), "two rules called {}", rule.name);
    }
}

/// What the kernel and the system call tell is enough for the general cause: nothing here has a
/// name, as in a stripped binary.
#[test]
fn a_stripped_binary_has_the_general_cause() {
    for mut case in cases() {
        case.user = "";
        let (cause, _) = judged(&case);
        let wanted = match case.cause {
            // Of a futex only the expected word tells more.
            cause if case.rule.starts_with("futex-") => cause,
            Cause::Stdio | Cause::Lock if case.syscall == FUTEX => Cause::Futex,
            Cause::Gil => Cause::Futex,
            Cause::Stdio if case.rule == "stdio-write" => Cause::Pipe,
            Cause::ThreadJoin | Cause::Channel if case.syscall == FUTEX && case.args[1] == 128 => {
                Cause::Futex
            }
            Cause::Condvar if case.args[1] == 128 => Cause::Futex,
            Cause::NestedBlockOn if case.syscall == FUTEX => Cause::Futex,
            Cause::NestedBlockOn | Cause::Dns => Cause::Poll,
            Cause::FileLock if case.rule == "sqlite-busy" => Cause::Sleep,
            Cause::ChildProcess if case.syscall == Some(7) => Cause::Poll,
            // Without the kernel's stack too nothing is left.
            _ if case.rule.starts_with("std-") && case.syscall == Some(0) => Cause::Other,
            _ if case.rule == "library-sleep" => Cause::Other,
            cause => cause,
        };
        assert_eq!(cause, wanted, "{}", case.rule);
    }
}

/// What the application does while something of the library is further out is no business of
/// that.
#[test]
fn frames_beyond_the_application_say_nothing() {
    for (syscall, user, wanted) in [
        (
            230,
            "clock_nanosleep\nstd::thread::functions::sleep\napp::init\n<std::sys::sync::once::futex::Once>::call",
            "sleep",
        ),
        (
            202,
            "syscall\n<std::sys::sync::mutex::futex::Mutex>::lock_contended\napp::poll\nfutures_executor::local_pool::block_on",
            "std-mutex",
        ),
        // Inlined into the executor, too.
        (
            230,
            "clock_nanosleep\nstd::thread::functions::sleep\nfutures_executor::local_pool::block_on\napp::fetch",
            "sleep",
        ),
        (
            202,
            "syscall\n<std::sys::sync::mutex::futex::Mutex>::lock_contended\npollster::block_on\napp::fetch",
            "std-mutex",
        ),
    ] {
        let user = frames(user, Space::User);
        let finding = CauseClassifier::default().judge(&WaitContext {
            syscall: Some(syscall),
            args: None,
            kernel: &[],
            user: &user,
        });
        assert_eq!(finding.rule, wanted);
    }
}

/// Locks, channels and block_ons of the crates that people use.
#[test]
fn other_crates_are_known() {
    for (user, wanted) in [
        (
            "syscall\n<std::sys::sync::condvar::futex::Condvar>::wait\npollster::block_on",
            "block-on",
        ),
        (
            "syscall\nparking::Inner::park\nasync_io::driver::block_on\nsmol::block_on",
            "block-on",
        ),
        (
            "syscall\nstd::sys::sync::condvar::futex::Condvar::wait\ntokio::runtime::park::Inner::park\ntokio::runtime::park::CachedParkThread::block_on\ntokio::runtime::handle::Handle::block_on",
            "block-on",
        ),
        (
            "syscall\nstd::thread::park\ncrossbeam_channel::flavors::list::Channel<T>::recv",
            "channel",
        ),
        (
            "syscall\nstd::thread::park\nflume::Receiver<T>::recv",
            "channel",
        ),
        (
            "syscall\nparking_lot::raw_rwlock::RawRwLock::lock_shared_slow\ndashmap::lock::RawRwLock::lock",
            "parking-lot",
        ),
        (
            "syscall\nparking_lot::condvar::Condvar::wait_until_internal",
            "condvar",
        ),
        (
            "syscall\nstd::sys::unix::locks::futex_mutex::Mutex::lock_contended",
            "std-mutex",
        ),
        (
            "syscall\nstd::sys::unix::locks::futex_rwlock::RwLock::read_contended",
            "std-rwlock",
        ),
    ] {
        let user = frames(&format!("{user}\napp::call"), Space::User);
        let finding = CauseClassifier::default().judge(&WaitContext {
            syscall: FUTEX,
            args: None,
            kernel: &[],
            user: &user,
        });
        assert_eq!(finding.rule, wanted);
    }
}
