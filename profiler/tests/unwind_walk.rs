//! The walk against framehop: the same registers, the same memory, the same frames, on real
//! stacks of this process and of a child.

mod unwind_support;

use holdup::units::{Addr, Pid};
use holdup::unwind::{LEFT_OUT, Regs, RemoteMemory, Tables, walk, walk_outcome};
use profiler_common::row::walk as code;
use std::arch::asm;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::process::Command;
use std::sync::{LazyLock, Mutex, mpsc};
use std::time::{Duration, Instant};
use unwind_support::{Framehop, loaded, tables};

/// Both unwinders, made ready for the mappings of one process.
struct Both {
    pid: u32,
    tables: Tables,
    framehop: Framehop,
}

impl Both {
    fn new(pid: u32) -> Both {
        let modules = loaded(pid);
        Both {
            pid,
            tables: tables(&modules),
            framehop: Framehop::new(&modules),
        }
    }

    fn walk(&self, regs: Regs) -> (Vec<Addr>, u32) {
        self.walk_in(self.pid, regs)
    }

    /// Walks in `pid`, which has the same mappings, with both; demands the same frames, and
    /// gives them with how the walk ended.
    fn walk_in(&self, pid: u32, regs: Regs) -> (Vec<Addr>, u32) {
        let mut memory = RemoteMemory::new(Pid(pid));
        let mut ours = Vec::new();
        let outcome = walk(regs, |pc| self.tables.rule(pc), &mut memory, &mut ours);

        memory.forget();
        let (theirs, end) = self.framehop.walk(regs, &mut memory);
        assert_eq!(
            ours, theirs,
            "ours (left) ended with {outcome}, framehop's with {end:?}"
        );
        assert_eq!(end.is_ok(), outcome == code::COMPLETE, "{outcome} {end:?}");
        (ours, outcome)
    }
}

static OWN: LazyLock<Both> = LazyLock::new(|| Both::new(std::process::id()));

/// Registers of the function that this is expanded in. They stay true of its frame as long as
/// it does not return.
macro_rules! registers {
    () => {{
        let (ip, sp, bp): (u64, u64, u64);
        // SAFETY: reads three registers; touches neither memory nor flags.
        unsafe {
            asm!(
                "lea {ip}, [rip]",
                "mov {sp}, rsp",
                "mov {bp}, rbp",
                ip = out(reg) ip,
                sp = out(reg) sp,
                bp = out(reg) bp,
                options(nomem, nostack, preserves_flags),
            );
        }
        Regs {
            ip: Addr(ip),
            sp: Addr(sp),
            bp: Addr(bp),
        }
    }};
}

thread_local! {
    /// Frames of the last walk on this thread, and how it ended.
    static LAST: Cell<(usize, u32)> = const { Cell::new((0, 0)) };
    static WALKS: Cell<u32> = const { Cell::new(0) };
}

#[inline(never)]
fn compare() {
    let (frames, outcome) = OWN.walk(registers!());
    LAST.set((frames.len(), outcome));
    WALKS.set(WALKS.get() + 1);
}

/// Runs `call` on a new thread: a stack whose start is known. Gives frames of the last walk.
fn on_thread(call: impl FnOnce() + Send + 'static) -> usize {
    LazyLock::force(&OWN);
    std::thread::spawn(move || {
        call();
        assert!(WALKS.get() > 0, "no walk was made");
        let (frames, outcome) = LAST.get();
        assert_eq!(outcome, code::COMPLETE, "{:?}", walk_outcome(outcome));
        frames
    })
    .join()
    .unwrap()
}

#[inline(never)]
fn deep(depth: u32, f: &dyn Fn(u32)) -> u32 {
    if depth == 0 {
        f(0);
        return 1;
    }
    // Locals of various sizes, so that frames differ.
    let pad = black_box([depth; 9]);
    // What comes after the call keeps it from being a jump.
    deep(depth - 1, &|n| {
        f(n + pad[0]);
        black_box(&pad);
    }) + pad[3]
}

/// An array of 2 MiB on the stack: the compiler touches each of its pages first.
#[inline(never)]
fn large(f: &dyn Fn()) -> u8 {
    let array = black_box([1_u8; 2 << 20]);
    f();
    black_box(&array)[4096]
}

#[test]
fn frames_of_megabytes_are_passed() {
    LazyLock::force(&OWN);
    let thread = std::thread::Builder::new().stack_size(16 << 20);
    let walked = thread.spawn(|| {
        black_box(large(&|| {
            compare();
        }));
        LAST.get()
    });
    let (frames, outcome) = walked.expect("a thread").join().unwrap();
    assert_eq!(outcome, code::COMPLETE, "{frames} frames");
    assert!(frames >= 4, "{frames}");
}

#[test]
fn threads_closures_and_dynamic_calls() {
    let shallow = on_thread(compare);
    let frames = on_thread(|| {
        deep(20, &|n| {
            compare();
            black_box(n);
        });
    });
    // 21 calls of `deep` and as many closures.
    assert!(frames >= shallow + 42, "{frames} and {shallow}");
}

#[test]
fn the_main_thread_of_the_harness_and_panics_in_flight() {
    on_thread(|| {
        struct OnDrop;
        impl Drop for OnDrop {
            #[inline(never)]
            fn drop(&mut self) {
                compare();
            }
        }
        let result = std::panic::catch_unwind(|| {
            let _guard = OnDrop;
            std::panic::resume_unwind(Box::new(1));
        });
        assert!(result.is_err());
    });
}

#[test]
fn too_deep_stacks_are_cut_at_the_limit() {
    LazyLock::force(&OWN);
    std::thread::spawn(|| {
        deep(2_000, &|_| {
            let regs = registers!();
            let mut memory = RemoteMemory::new(Pid(std::process::id()));
            let mut out = Vec::new();
            let outcome = walk(regs, |pc| OWN.tables.rule(pc), &mut memory, &mut out);
            assert_eq!(outcome, code::TOO_DEEP);
            // Both ends, and one entry for what was left out.
            assert_eq!(out.len(), profiler_common::stack::MAX_USER_FRAMES + 1);
            assert_eq!(out.get(64), Some(&LEFT_OUT));
        });
    })
    .join()
    .unwrap();
}

#[repr(align(256))]
struct Aligned([u8; 512]);

/// An over-aligned local makes the compiler keep the frame by rbp.
#[inline(never)]
fn by_rbp(depth: u32, f: &dyn Fn()) -> u8 {
    let local = black_box(Aligned([depth as u8; 512]));
    let inner = match depth {
        0 => {
            f();
            0
        }
        _ => by_rbp(depth - 1, f),
    };
    black_box(&local).0[7].wrapping_add(inner)
}

#[test]
fn frames_by_rbp() {
    // The test is worth nothing if the compiler found another way.
    let start = by_rbp as *const () as u64;
    let rbp = (start..start + 128)
        .filter_map(|pc| OWN.tables.rule(Addr(pc)))
        .any(|rule| rule.kind() == profiler_common::row::kind::RBP);
    assert!(rbp, "no rbp rule in by_rbp");
    let frames = on_thread(|| {
        by_rbp(5, &|| {
            deep(3, &|_| {
                by_rbp(2, &compare);
            });
        });
    });
    assert!(frames > 12, "{frames}");
}

/// More than one page: the walk must cross pages, and read rbp from a page behind it.
#[test]
fn big_frames() {
    #[inline(never)]
    fn big(depth: u32) -> u64 {
        let local = black_box([u64::from(depth); 3000]);
        if depth == 0 {
            compare();
        } else {
            by_rbp(1, &|| {
                big(depth - 1);
            });
        }
        black_box(&local)[17]
    }
    on_thread(|| {
        big(6);
    });
}

extern "C" fn by_value(a: *const libc::c_void, b: *const libc::c_void) -> libc::c_int {
    compare();
    // SAFETY: qsort passes pointers to two elements of the array of `u32`.
    let (a, b) = unsafe { (*a.cast::<u32>(), *b.cast::<u32>()) };
    a.cmp(&b) as libc::c_int
}

#[test]
fn callbacks_out_of_libc() {
    let frames = on_thread(|| {
        let mut numbers = [5u32, 3, 9, 1, 7, 2];
        // SAFETY: the array has six elements of four bytes, and `by_value` compares such.
        unsafe {
            libc::qsort(numbers.as_mut_ptr().cast(), 6, 4, Some(by_value));
        }
        assert_eq!(numbers, [1, 2, 3, 5, 7, 9]);
        assert!(WALKS.get() >= 5);
    });
    assert!(frames > 5, "{frames}");
}

type SignalHandler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, context: *mut libc::c_void);

fn handle(signal: libc::c_int, flags: libc::c_int, handler: SignalHandler) {
    // SAFETY: an all-zero `sigaction` is valid; the handler has the type that goes with
    // SA_SIGINFO. No two tests use the same signal.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = flags | libc::SA_SIGINFO | libc::SA_RESTART;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

fn interrupted(context: *mut libc::c_void) -> Regs {
    let context: *const libc::ucontext_t = context.cast();
    // SAFETY: with SA_SIGINFO the third argument points at the interrupted context.
    let regs = unsafe { (*context).uc_mcontext.gregs };
    let reg = |which: libc::c_int| Addr(regs[which as usize] as u64);
    Regs {
        ip: reg(libc::REG_RIP),
        sp: reg(libc::REG_RSP),
        bp: reg(libc::REG_RBP),
    }
}

fn raise(signal: libc::c_int) {
    // SAFETY: a handler for the signal is installed.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// framehop cannot leave a signal trampoline (it evaluates no expression that reads memory), so
/// it gets the interrupted registers from the handler's argument: from there on its frames
/// must be what our walk through the trampoline gives.
extern "C" fn through_trampoline(
    _: libc::c_int,
    _: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let (behind, outcome) = OWN.walk(interrupted(context));
    assert_eq!(outcome, code::COMPLETE);
    let mut memory = RemoteMemory::new(Pid(std::process::id()));
    let mut all = Vec::new();
    let outcome = walk(
        registers!(),
        |pc| OWN.tables.rule(pc),
        &mut memory,
        &mut all,
    );
    assert_eq!(outcome, code::COMPLETE, "{all:?}");
    // This function and the trampoline come before.
    assert_eq!(all[2..], behind);
    let trampoline = OWN.tables.rule(Addr(all[1].0 - 1));
    assert_eq!(trampoline, Some(profiler_common::row::Rule::SIG));
    LAST.set((all.len(), outcome));
    WALKS.set(WALKS.get() + 1);
}

#[test]
fn a_signal_handler_on_the_stack() {
    handle(libc::SIGUSR1, 0, through_trampoline);
    let frames = on_thread(|| {
        deep(4, &|_| {
            by_rbp(1, &|| raise(libc::SIGUSR1));
        });
    });
    assert!(frames > 15, "{frames}");
}

#[test]
fn a_signal_handler_on_a_stack_of_its_own() {
    handle(libc::SIGUSR2, libc::SA_ONSTACK, through_trampoline);
    on_thread(|| {
        let mut stack = vec![0u8; 256 << 10];
        let alternative = libc::stack_t {
            ss_sp: stack.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: stack.len(),
        };
        let mut before = libc::stack_t {
            ss_sp: std::ptr::null_mut(),
            ..alternative
        };
        // SAFETY: the stack outlives its use: the one before is put back before it is freed.
        unsafe { assert_eq!(libc::sigaltstack(&alternative, &mut before), 0) };
        deep(4, &|_| raise(libc::SIGUSR2));
        // SAFETY: std's own alternative stack, which lives as long as the thread.
        unsafe { assert_eq!(libc::sigaltstack(&before, std::ptr::null_mut()), 0) };
    });
}

thread_local! {
    /// Where the profiling signal struck, and our frames through its trampoline.
    static STRUCK: RefCell<Vec<(Regs, u32, Vec<Addr>)>> = const { RefCell::new(Vec::new()) };
}

thread_local! {
    /// Whether the thread is where the handler may allocate: not in the allocator itself.
    static WORKING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps what it sees for later: a panic could not leave the handler.
extern "C" fn strike(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if !WORKING.get() {
        return;
    }
    STRUCK.with_borrow_mut(|kept| {
        if kept.len() < kept.capacity() {
            let regs = interrupted(context);
            let mut memory = RemoteMemory::new(Pid(std::process::id()));
            let mut frames = Vec::with_capacity(128);
            let outcome = walk(regs, |pc| OWN.tables.rule(pc), &mut memory, &mut frames);
            kept.push((regs, outcome, frames));
        }
    });
}

/// Calls and returns all the time: many samples fall into prologues and epilogues.
#[inline(never)]
fn work(n: u64) -> u64 {
    match n {
        0 | 1 => n,
        _ => black_box(work(n - 1)) + black_box(work(n - 2)),
    }
}

#[test]
fn interrupted_at_any_instruction() {
    LazyLock::force(&OWN);
    handle(libc::SIGPROF, 0, strike);
    std::thread::spawn(|| {
        STRUCK.with_borrow_mut(|kept| kept.reserve(400));
        // SAFETY: has no preconditions.
        let thread = unsafe { libc::pthread_self() };
        let (stop, stopped) = mpsc::channel::<()>();
        let sender = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_micros(500))
                == Err(mpsc::RecvTimeoutError::Timeout)
            {
                // SAFETY: the thread is alive: it joins this one before it ends.
                unsafe { libc::pthread_kill(thread, libc::SIGPROF) };
            }
        });
        let began = Instant::now();
        let enough = || STRUCK.with_borrow(Vec::len) >= 200;
        while !enough() && began.elapsed() < Duration::from_secs(20) {
            WORKING.set(true);
            black_box(work(20));
            WORKING.set(false);
        }
        stop.send(()).unwrap();
        sender.join().unwrap();
        let kept = STRUCK.take();
        assert!(kept.len() >= 50, "{} interruptions", kept.len());
        let pcs: BTreeSet<Addr> = kept.iter().map(|(regs, ..)| regs.ip).collect();
        assert!(pcs.len() > 5, "{pcs:?}");
        for (regs, outcome, frames) in kept {
            assert_eq!(outcome, code::COMPLETE, "at {}: {frames:?}", regs.ip);
        }
    })
    .join()
    .unwrap();
}

/// Where a blocked thread is, as `/proc/PID/task/TID/syscall` tells: `nr args… sp pc`.
fn blocked_at(pid: u32, tid: u32) -> Option<Regs> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    let fields: Vec<&str> = text.split_whitespace().collect();
    let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    match fields[..] {
        [_, _, _, _, _, _, _, sp, pc] => Some(Regs {
            ip: Addr(hex(pc)?),
            sp: Addr(hex(sp)?),
            // Not told. A wrong one shows as frames that differ from framehop's or end early.
            bp: Addr(0),
        }),
        _ => None,
    }
}

fn until<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "never happened");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Registers of a child, by stopping it.
fn stopped_registers(pid: u32) -> Regs {
    let pid = pid as libc::pid_t;
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests take no pointer from us but `regs`, which the last one fills: all
    // zero is a valid value, and it is read only if the request succeeded. `pid` is our child.
    unsafe {
        let mut regs: libc::user_regs_struct = std::mem::zeroed();
        assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, pid, none, none), 0);
        assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, pid, none, none), 0);
        assert_eq!(libc::waitpid(pid, std::ptr::null_mut(), 0), pid);
        assert_eq!(
            libc::ptrace(libc::PTRACE_GETREGS, pid, none, &raw mut regs),
            0
        );
        Regs {
            ip: Addr(regs.rip),
            sp: Addr(regs.rsp),
            bp: Addr(regs.rbp),
        }
    }
}

/// The child has this process's mappings, and a stack down to the start of the forking thread.
#[test]
fn another_process_blocked_in_a_lock() {
    let lock = Mutex::new(());
    let guard = lock.lock().unwrap();
    on_thread_of(|| {
        // SAFETY: the child allocates nothing and takes no lock but the one it stays blocked in.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: takes no pointers. The child must not outlive a test that is killed.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            by_rbp(2, &|| {
                deep(6, &|_| {
                    let _forever = lock.lock();
                });
            });
            // SAFETY: has no preconditions. Not reached unless the lock is broken.
            unsafe { libc::_exit(1) };
        }
        let pid = child as u32;
        let result = std::panic::catch_unwind(|| {
            until(|| {
                let syscall = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
                let futex = format!("{} ", libc::SYS_futex);
                syscall.starts_with(&futex).then_some(())
            });
            OWN.walk_in(pid, stopped_registers(pid))
        });
        // SAFETY: `child` is our own, not yet waited for.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        let (frames, outcome) = result.unwrap();
        assert_eq!(outcome, code::COMPLETE, "{frames:?}");
        assert!(frames.len() > 20, "{frames:?}");
    });
    drop(guard);
}

/// A new thread that may borrow: its stack is the one the child gets.
fn on_thread_of(call: impl FnOnce() + Send) {
    LazyLock::force(&OWN);
    std::thread::scope(|scope| scope.spawn(call).join().unwrap());
}

#[test]
fn another_process() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = child.id();
    let regs = until(|| {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let executed = exe.file_name()? != std::env::current_exe().ok()?.file_name()?;
        // Not before it sleeps: while it is loaded it may wait for its file.
        let syscall = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
        let sleeps = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep]
            .iter()
            .any(|number| syscall.starts_with(&format!("{number} ")));
        (executed && sleeps).then(|| blocked_at(pid, pid)).flatten()
    });
    let result = std::panic::catch_unwind(|| Both::new(pid).walk(regs));
    child.kill().unwrap();
    child.wait().unwrap();
    let (frames, outcome) = result.unwrap();
    assert_eq!(outcome, code::COMPLETE, "{frames:?}");
    // The wrapper of the system call, main, libc's start, _start.
    assert!(frames.len() >= 4, "{frames:?}");
}
