//! Replays stacks that real programs had, recorded by `fixtures/stack-recorder` with the ground
//! truth that the programs themselves stated: every thread must get its state and role.

use holdup::cause::{Cause, CauseClassifier, WaitContext};
use holdup::runtime::tokio::{Classifier, RULES, by_call};
use holdup::runtime::{Classification, State};
use holdup::symbolize::{Frame, FrameRef, Naming, Origin, Space};
use holdup::units::{Addr, Svma};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// One recorded thread (or several with the same stack and the same truth).
struct Thread {
    truth: String,
    syscall: Option<u32>,
    frames: Vec<FrameRef>,
}

struct Recording {
    name: String,
    threads: Vec<Thread>,
}

impl Recording {
    fn classifier(&self) -> Classifier {
        let mut c = Classifier::new();
        for t in &self.threads {
            c.learn(&t.frames);
        }
        c
    }
}

fn hex(v: &Value) -> u64 {
    u64::from_str_radix(v.as_str().expect("an address is text"), 16).expect("an address is hex")
}

/// Whose code a frame is, near enough to what the symbolizer says.
fn origin(function: &str, module: &str, file: Option<&str>) -> Origin {
    if module.contains(".so") {
        return Origin::System;
    }
    let word = |s: &str| {
        s.split([':', '<', ' ', '{'])
            .next()
            .unwrap_or("")
            .to_owned()
    };
    let mut krate = word(function.trim_start_matches(['<', '&']));
    if !function.contains("::") {
        let dir = file.and_then(|f| Some(f.rsplit_once("/src/")?.0.rsplit('/').next()?.to_owned()));
        krate = dir.map_or(krate, |d| d.split("-1.").next().unwrap_or("").to_owned());
    }
    match krate.as_str() {
        "tokio" | "mio" | "futures_executor" | "futures-executor" => Origin::Runtime,
        "std" | "core" | "alloc" | "parking_lot" | "parking_lot_core" | "main" | "_start" => {
            Origin::Library
        }
        _ => Origin::Application,
    }
}

fn recordings() -> Vec<Recording> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/stacks");
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .expect("tests/data/stacks is in the repository")
        .map(|e| e.expect("the directory is readable").path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    files.iter().map(|p| load(p)).collect()
}

fn load(path: &std::path::Path) -> Recording {
    let text = std::fs::read(path).expect("the recording is readable");
    let v: Value = serde_json::from_slice(&text).expect("the recording is JSON");
    let texts = |key: &str| -> Vec<Arc<str>> {
        serde_json::from_value(v[key].clone()).expect("a list of strings")
    };
    let (functions, strings) = (texts("functions"), texts("strings"));
    let index = |v: &Value| v.as_u64().map(|n| usize::try_from(n).expect("an index"));
    let table: Vec<FrameRef> = v["frames"]
        .as_array()
        .expect("a list of frames")
        .iter()
        .map(|f| {
            let function = functions[index(&f[0]).expect("a function")].clone();
            let module = strings[index(&f[1]).expect("a module")].clone();
            let file = index(&f[5]).map(|i| strings[i].clone());
            let address = Addr(hex(&f[2]));
            Arc::new(Frame {
                space: Space::User,
                naming: if function.contains("+0x") {
                    Naming::Offset
                } else {
                    Naming::Symbol
                },
                origin: origin(&function, &module, file.as_deref()),
                inlined: f[4] == 1,
                line: f[6].as_u64().and_then(|n| u32::try_from(n).ok()),
                function,
                file,
                module: Some(module),
                address,
                start: Some(Svma(hex(&f[3]))),
                place: None,
            })
        })
        .collect();
    let threads = v["threads"]
        .as_array()
        .expect("a list of threads")
        .iter()
        .map(|t| Thread {
            truth: t[0].as_str().expect("the truth is text").to_owned(),
            syscall: t[1].as_str().and_then(|number| number.parse().ok()),
            frames: t[3]
                .as_array()
                .expect("a stack is a list")
                .iter()
                .map(|i| table[index(i).expect("a frame")].clone())
                .collect(),
        })
        .collect();
    Recording {
        name: path
            .file_stem()
            .expect("a file has a name")
            .to_string_lossy()
            .into_owned(),
        threads,
    }
}

/// Where fat LTO leaves no frame to go by, and what the rules then say. With line tables
/// (`fatlines`) all of these are right: an inlined `block_in_place` is the one false alarm.
fn known_limit(recording: &str, truth: &str) -> Option<&'static str> {
    let whole_program = recording.contains("fat") && !recording.contains("lines");
    if !whole_program {
        return None;
    }
    match truth.rsplit(' ').next().unwrap_or("") {
        "bip_sleep" | "bip_recv" | "bip_handle_block_on_root_sleeps" => Some("blocked worker"),
        "bip_in_root" | "mt_root_sleep" | "mt_root_condvar" | "handle_root_recv" => {
            Some("other none")
        }
        "ct_root_sleep" | "ct_root_condvar" | "ct_root_epoll" => Some("blocked block-on"),
        _ => None,
    }
}

fn as_said(v: &Classification) -> String {
    format!("{} {}", v.state.name(), v.role.name())
}

fn show(frames: &[FrameRef]) -> String {
    frames
        .iter()
        .map(|f| format!("\n      {}", f.function))
        .collect()
}

#[test]
fn every_recorded_thread_gets_its_state_and_role() {
    let (mut wrong, mut total) = (String::new(), 0);
    for r in recordings() {
        let c = r.classifier();
        for t in &r.threads {
            total += 1;
            let v = by_call(c.classify(&t.frames, false), t.syscall);
            let mut words = t.truth.split(' ');
            let (state, roles) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let said = as_said(&v);
            let right = v.state.name() == state && roles.split('|').any(|r| r == v.role.name());
            let expected = known_limit(&r.name, &t.truth);
            if expected.map_or(!right, |e| e != said) {
                wrong += &format!(
                    "\n{}: {}: said {said} by {} at {:?}{}",
                    r.name,
                    t.truth,
                    v.rule.0,
                    v.frame,
                    show(&t.frames)
                );
            }
        }
    }
    assert!(total > 300, "only {total} recorded threads");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_truncated_stack_says_the_same_or_nothing() {
    let mut decided = 0;
    for r in recordings() {
        let c = r.classifier();
        for t in &r.threads {
            let whole = c.classify(&t.frames, false);
            // An unwinder stops between physical frames.
            for n in (1..t.frames.len()).filter(|n| !t.frames[n - 1].inlined) {
                let v = c.classify(&t.frames[..n], true);
                if v.state != State::Unknown {
                    decided += 1;
                    assert_eq!(
                        as_said(&v),
                        as_said(&whole),
                        "{} {} cut to {n}{}",
                        r.name,
                        t.truth,
                        show(&t.frames)
                    );
                }
            }
        }
    }
    assert!(decided > 1000, "truncated stacks decide nothing");
}

/// The kernel side knows idle parks again by so many frames: whatever comes after them, a park it is.
#[test]
fn what_proves_a_park_proves_it_with_any_callers() {
    let (mut proven, mut shorter, mut of_all) = (0, 0, 0);
    for r in recordings() {
        let c = r.classifier();
        for t in &r.threads {
            let whole = c.classify(&t.frames, false);
            if whole.state != State::Idle {
                continue;
            }
            let Some(proof) = c.proof(&t.frames, &whole) else {
                of_all += 1;
                continue;
            };
            proven += 1;
            let physical = t.frames.iter().filter(|f| !f.inlined).count();
            shorter += usize::from(2 * (proof as usize) < physical);
            let end = (0..t.frames.len())
                .filter(|&i| !t.frames[i].inlined)
                .nth(proof as usize - 1)
                .expect("no more than there are");
            let proof = &t.frames[..=end];
            for other in &r.threads {
                for from in (0..other.frames.len()).step_by(5) {
                    let mut frames = proof.to_vec();
                    frames.extend_from_slice(&other.frames[from..]);
                    for truncated in [false, true] {
                        let v = c.classify(&frames, truncated);
                        assert_eq!(as_said(&v), as_said(&whole), "{}{}", r.name, show(&frames));
                    }
                }
                if proven % 16 != 0 {
                    break;
                }
            }
        }
    }
    // Pool threads are idle in std's thread entry where LTO has inlined their loop into it.
    assert!(proven > 100 && shorter > 50, "{proven} {shorter} {of_all}");
}

#[test]
fn recordings_exercise_the_rules() {
    let mut seen = BTreeSet::new();
    for r in recordings() {
        let c = r.classifier();
        seen.extend(
            r.threads
                .iter()
                .map(|t| c.classify(&t.frames, false).rule.0),
        );
    }
    // These need a lock to be contended at the very moment, or a release that is not recorded.
    let rare = ["park-lock", "park-lock-current-thread"];
    let missing: Vec<_> = RULES
        .iter()
        .map(|r| r.name.0)
        .filter(|n| !seen.contains(n) && !rare.contains(n))
        .collect();
    assert!(
        missing.is_empty(),
        "no recorded stack is decided by {missing:?}"
    );
}

#[test]
fn task_frames_lie_inside_the_task() {
    let mut named = 0;
    for r in recordings() {
        let c = r.classifier();
        for t in &r.threads {
            let v = c.classify(&t.frames, false);
            let (Some(frame), Some(task)) = (v.frame, v.task_frame) else {
                continue;
            };
            let function = &t.frames[task as usize].function;
            named += 1;
            assert_eq!(
                t.frames[task as usize].origin,
                Origin::Application,
                "{function}"
            );
            assert!(
                task < frame || v.state == State::HandedOff,
                "{} {}",
                r.name,
                t.truth
            );
        }
    }
    assert!(named > 100, "only {named} stacks have a task frame");
}

/// The causes that are right for what a thread did, by the last word or words of its truth; the
/// first is what names tell, the others what is left where everything was inlined.
fn right_causes(act: &str) -> Option<&'static [Cause]> {
    const PARK: &[Cause] = &[Cause::Condvar, Cause::Futex];
    Some(match act {
        _ if act.ends_with("sleep") || act.ends_with("sleeps") => &[Cause::Sleep],
        _ if act.contains("mutex") => &[Cause::Lock, Cause::Futex],
        _ if act.contains("rwlock") => &[Cause::Lock, Cause::Futex],
        // A condvar that was inlined into the function of an executor looks like the executor's.
        _ if act.contains("root_condvar") => &[Cause::Condvar, Cause::Futex, Cause::NestedBlockOn],
        _ if act.contains("condvar") => PARK,
        _ if act.ends_with("thread_park") => PARK,
        _ if act.ends_with("mpsc_recv") || act.ends_with("task_recv") => {
            &[Cause::Channel, Cause::Condvar, Cause::Futex]
        }
        _ if act.contains("futures") => &[Cause::NestedBlockOn, Cause::Condvar, Cause::Futex],
        // The recordings have neither arguments nor names of libc's own functions.
        _ if act.ends_with("thread_join") => &[Cause::ThreadJoin, Cause::Futex],
        _ if act.ends_with("child_wait") => &[Cause::ChildProcess],
        _ if act.ends_with("tcp_accept") || act.ends_with("pipe_read") => &[Cause::Network],
        "poll" => &[Cause::Poll],
        _ if act.ends_with("epoll") => &[Cause::Poll],
        _ => return None,
    })
}

#[test]
fn every_recorded_wait_has_its_cause() {
    let mut judge = CauseClassifier::default();
    let (mut judged, mut named) = (0, 0);
    for recording in recordings() {
        let classifier = recording.classifier();
        for thread in &recording.threads {
            let mut words = thread.truth.split(' ');
            let (state, act) = (words.next().unwrap_or(""), words.next_back().unwrap_or(""));
            let Some(right) = right_causes(act).filter(|_| state != "idle" && state != "other")
            else {
                continue;
            };
            let verdict = classifier.classify(&thread.frames, false);
            let end = verdict
                .frame
                .filter(|_| verdict.state == State::Blocked)
                .map_or(thread.frames.len(), |frame| frame as usize);
            let finding = judge.judge(&WaitContext {
                syscall: thread.syscall,
                args: None,
                kernel: &[],
                user: &thread.frames[..end],
            });
            assert!(
                right.contains(&finding.cause),
                "{}: {}: {} by {}: {:#?}",
                recording.name,
                thread.truth,
                finding.cause,
                finding.rule,
                thread
                    .frames
                    .iter()
                    .map(|f| &f.function)
                    .collect::<Vec<_>>()
            );
            judged += 1;
            named += usize::from(finding.cause == right[0]);
        }
    }
    assert!(judged > 500, "only {judged} were judged");
    // The others are of builds with fat LTO, where std itself is inlined.
    println!("{named} of {judged} by name");
    assert!(named * 20 > judged * 17, "only {named} of {judged} by name");
}
