use super::super::conditions::Gate;
use super::super::names::Template;
use super::super::settings::{CaptureSpec, ConsoleSettings, Destination, OutputSpec, TargetChoice};
use super::*;
use crate::host::{Features, KernelBtf};
use crate::limits::Limits;
use crate::process::Selection;
use crate::recording::{
    Header, Host, Interval, Process, Recording, ShadowCheck, Tables, TokioFacts, Tool,
};
use crate::render::Format;
use crate::units::{Nanos, Pid, Timestamp};
use crate::{analyze, collect};
use std::ffi::OsString;
use std::path::Path;

/// Records nothing, but goes through all the motions.
struct Fake {
    targets: Vec<Arc<Target>>,
    /// The first target had not run when the session started.
    was_held: bool,
}

impl Recorder for Fake {
    /// Gives nothing up: this process has other tests to run.
    fn start(
        targets: &[Arc<Target>],
        _: &Features,
        options: &collect::Options,
        _: Keep,
    ) -> Result<Fake> {
        assert_eq!(options.min_block, Nanos(100_000));
        let targets = targets.to_vec();
        let stat = targets[0].proc_dir().read("status").expect("status");
        let was_held = String::from_utf8_lossy(&stat).contains("State:\tt");
        Ok(Fake { targets, was_held })
    }

    fn keep(&mut self, keep: crate::report::Keep) {
        assert!(!keep.anything(), "only what is asked for");
    }

    fn observe(&mut self, _: super::Observer) {}

    fn filter(&mut self, filter: &crate::report::Filter) {
        assert!(filter.is_all(), "only what is asked for");
    }

    fn stream(&mut self, _: super::Streams) {
        unreachable!("nothing is written meanwhile");
    }

    fn header(&self) -> Header {
        header(self.was_held)
    }

    async fn run(
        &mut self,
        stop: impl Future<Output = ()>,
        _: Option<&mut dyn Sink>,
    ) -> Result<()> {
        let all_end = async {
            for target in &self.targets {
                target.until_ended().await.expect("watched");
            }
        };
        tokio::select! {
            () = stop => {}
            () = all_end => {}
        }
        Ok(())
    }

    fn finish(self, ended: Option<String>, sink: Option<&mut dyn Sink>) -> Result<Reports> {
        let recording = Recording {
            header: header(self.was_held),
            tables: Tables {
                processes: vec![Process {
                    pid: self.targets[0].pid(),
                    exe: "x".into(),
                    build_id: None,
                    cmdline: Vec::new(),
                    tokio_version: Some("1.54.1".into()),
                    tokio: TokioFacts {
                        present: true,
                        ..TokioFacts::default()
                    },
                    parent: None,
                    earlier: Vec::new(),
                    ended,
                    has_symbols: true,
                    has_lines: true,
                    panic_probes: None,
                }],
                ..Tables::default()
            },
            intervals: vec![Interval {
                start: Timestamp(0),
                end: Timestamp(1),
                ..Interval::default()
            }],
        };
        if let Some(sink) = sink {
            for interval in recording.intervals.clone() {
                sink.take_last(&recording.tables, interval);
            }
        }
        Ok(Reports::of(analyze::build(&recording)))
    }
}

fn header(was_held: bool) -> Header {
    Header {
        tool: Tool {
            name: "holdup".into(),
            version: "0".into(),
        },
        host: Host {
            kernel: format!("held {}", was_held),
            cpus: 1,
        },
        started_at: 0.0,
        start: Timestamp(0),
        min_block: Nanos(1),
        long_poll: Nanos(10_000_000),
        sampling: None,
        calls_measured: false,
        panics_counted: false,
    }
}

fn settings(target: TargetChoice, duration: Option<Duration>, output: &Path) -> RecordSettings {
    let template = Template::parse(output.as_os_str()).expect("a name");
    RecordSettings {
        gate: Gate::default(),
        until_stall: None,
        fail_with_command: false,
        filter: crate::report::Filter::default(),
        target,
        duration,
        recording: collect::Options {
            interval: collect::INTERVAL,
            shadow_every: 0,
            calls: false,
            panics: false,
            launched: false,
            follow: false,
            joining: Selection::default(),
            min_block: Nanos(100_000),
            sample_period: None,
            long_poll: Nanos(10_000_000),
            limits: Limits::default(),
        },
        outputs: vec![OutputSpec {
            destination: Destination::File(template),
            format: Format::Json,
        }],
        capture: None,
        force: false,
        rendering: render::Options {
            color: true,
            ..render::Options::default()
        },
        invoker: None,
    }
}

fn go(settings: &RecordSettings, stop: Stop) -> Result<Exit> {
    let progress = Progress::new(ConsoleSettings {
        quiet: true,
        verbose: 0,
        color: false,
        spinner: false,
        ascii: false,
    });
    let features = Features {
        btf: KernelBtf::parse(empty_btf()).expect("an empty one"),
        map_files: true,
        other_users: true,
    };
    record::<Fake>(settings, &features, &progress, stop)
}

/// A header without types.
fn empty_btf() -> Vec<u8> {
    let mut data = 0xeb9fu16.to_ne_bytes().to_vec();
    data.extend([1, 0]);
    for word in [24u32, 0, 0, 0, 0] {
        data.extend(word.to_ne_bytes());
    }
    data
}

fn shell(script: &str) -> TargetChoice {
    TargetChoice::Command(["/bin/sh", "-c", script].map(OsString::from).to_vec())
}

#[test]
fn a_command_is_recorded_to_its_end() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("%p.json");
    let (_switch, stop) = Stop::switch();
    let exit = go(&settings(shell("exit 3"), None, &path), stop).expect("records");
    assert_eq!(exit, Exit::Success);
    let files: Vec<_> = std::fs::read_dir(dir.path())
        .expect("dir")
        .flatten()
        .collect();
    assert_eq!(files.len(), 1);
    let text = std::fs::read_to_string(files.first().expect("one").path()).expect("reads");
    assert!(
        text.contains("\"ended\": \"exited with status 3\""),
        "{text}"
    );
    assert!(text.contains("\"kernel\": \"held true\""), "{text}");
}

#[test]
fn a_command_that_outlives_the_recording_is_ended() {
    let dir = tempfile::tempdir().expect("dir");
    let (path, ready, ended) = (
        dir.path().join("out.json"),
        dir.path().join("ready"),
        dir.path().join("ended"),
    );
    let script = format!(
        "trap 'echo x > {}; exit 0' TERM; echo x > {}; while :; do sleep 0.05; done",
        ended.display(),
        ready.display()
    );
    let (switch, stop) = Stop::switch();
    let stopper = std::thread::spawn(move || {
        while !ready.exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        switch.send(true).expect("heard");
        switch
    });
    let exit = go(&settings(shell(&script), None, &path), stop);
    assert_eq!(exit.expect("records"), Exit::Success);
    assert!(ended.exists(), "asked to end, and waited for");
    let text = std::fs::read_to_string(path).expect("reads");
    assert!(
        text.contains("\"ended\": null"),
        "it had not ended by itself: {text}"
    );
    drop(stopper.join());
}

#[test]
fn the_time_is_up() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("out.json");
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .expect("sleep");
    let (_switch, stop) = Stop::switch();
    let length = Duration::from_millis(200);
    let begun = Instant::now();
    let target = TargetChoice::Pids(vec![Pid(child.id())]);
    let exit = go(&settings(target, Some(length), &path), stop).expect("records");
    assert_eq!(exit, Exit::Success);
    assert!(begun.elapsed() >= length);
    child.kill().expect("kill");
    child.wait().expect("wait");
}

#[test]
fn a_stop_ends_the_recording_and_leaves_the_target_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("out.json");
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .expect("sleep");
    let (switch, stop) = Stop::switch();
    let target = TargetChoice::Pids(vec![Pid(child.id())]);
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        switch.send(true).expect("heard");
        switch
    });
    let exit = go(&settings(target, None, &path), stop).expect("records");
    assert_eq!(exit, Exit::Success);
    assert!(path.exists());
    assert!(child.try_wait().expect("asked").is_none(), "it still runs");
    child.kill().expect("kill");
    child.wait().expect("wait");
    drop(stopper.join());
}

#[test]
fn the_end_of_the_target_ends_the_recording() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("out.json");
    let mut child = std::process::Command::new("sleep")
        .arg("0.3")
        .spawn()
        .expect("sleep");
    let (_switch, stop) = Stop::switch();
    let exit = go(
        &settings(TargetChoice::Pids(vec![Pid(child.id())]), None, &path),
        stop,
    );
    assert_eq!(exit.expect("records"), Exit::Success);
    child.wait().expect("wait");
    let text = std::fs::read_to_string(path).expect("reads");
    assert!(text.contains("\"ended\": \"exited\""), "{text}");
}

#[test]
fn the_end_of_the_last_of_several_targets_ends_the_recording() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("out.json");
    let sleep = |time: &str| {
        let mut command = std::process::Command::new("sleep");
        command.arg(time).spawn().expect("sleep")
    };
    let (mut short, mut long) = (sleep("0.1"), sleep("0.5"));
    let (_switch, stop) = Stop::switch();
    let begun = Instant::now();
    // One that is named twice is one.
    let pids = [short.id(), long.id(), short.id()].map(Pid).to_vec();
    let exit = go(&settings(TargetChoice::Pids(pids), None, &path), stop);
    assert_eq!(exit.expect("records"), Exit::Success);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    short.wait().expect("wait");
    long.wait().expect("wait");
}

#[test]
fn messages_name_some_processes_and_count_the_rest() {
    let own = Arc::new(Target::open(Pid(std::process::id())).expect("self"));
    let (name, pid) = (own.exe_name(), own.pid());
    let one = format!("{name} (pid {pid})");
    assert_eq!(
        begin_line(&[Arc::clone(&own)], None, false),
        format!("recording {one}, Ctrl-C to stop")
    );
    assert_eq!(
        begin_line(&[Arc::clone(&own)], None, true),
        format!("recording {one}, and new ones as they begin, until Ctrl-C")
    );
    let line = begin_line(&vec![own; 6], Some(Duration::from_secs(1)), false);
    assert!(line.ends_with(&format!("{one}, 2 more processes for 1 s, Ctrl-C to stop")));
    assert_eq!(line.matches(&one).count(), NAMED);
}

#[test]
fn an_unwritable_output_is_known_before_the_command_runs() {
    let dir = tempfile::tempdir().expect("dir");
    let mark = dir.path().join("mark");
    let script = format!("echo x > {}", mark.display());
    let (_switch, stop) = Stop::switch();
    let error = go(
        &settings(shell(&script), None, Path::new("/proc/x.json")),
        stop,
    );
    assert!(error.is_err());
    assert!(!mark.exists());
}

#[test]
fn the_last_line_tells_of_every_loss() {
    assert_eq!(
        last_line(&["a.svg".into(), "b".into()], &Losses::default()),
        "wrote a.svg, b; nothing lost"
    );
    let losses = Losses {
        events: 1,
        stacks: 2,
        truncated: 3,
        unresolved: 4,
        unknown_waits: 5,
        timeline: 6,
        objects: 7,
        mistaken_parks: 7,
        walked: 700,
        samples: 8,
        shadow: Some(ShadowCheck {
            compared: 90,
            differing: 7,
            ..ShadowCheck::default()
        }),
        ..Losses::default()
    };
    assert_eq!(
        last_line(&[], &losses),
        "lost: 1 event, 2 waits without stack, 3 of 700 stacks truncated, 4 frames unnamed, \
         5 waits of unknown state, 6 waits left out of the timeline, \
         7 waits summed without their object, 7 of 90 stacks unwound twice differ, 8 samples, \
         7 parks mistaken"
    );
}

#[test]
fn lengths_of_time() {
    assert_eq!(seconds(Duration::from_millis(1500)), "1.5 s");
    assert_eq!(seconds(Duration::from_secs(30)), "30 s");
    assert_eq!(seconds(Duration::from_micros(2)), "2.00 µs");
    assert_eq!(seconds(Duration::from_secs(90 * 60)), "1 h 30 min");
}

#[test]
fn progress_is_told_as_one_would_say_it() {
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    let so_far = SoFar {
        blocked_share: 0.784,
        worst: Some(("shop::ask_blocking".into(), Nanos(1))),
    };
    let three = Duration::from_millis(3_999);
    assert_eq!(
        so_far_text(three, minutes(5), &so_far, Nanos(1_200_000_000)),
        "3 s of 5 min · blocked 78.4 % · starved 1.20 s · worst ask_blocking"
    );
    assert_eq!(
        so_far_text(three, None, &so_far, Nanos::ZERO),
        "3 s · blocked 78.4 % · worst ask_blocking"
    );
    let nothing = SoFar::default();
    let shown = |elapsed, of| so_far_text(Duration::from_secs(elapsed), of, &nothing, Nanos::ZERO);
    assert_eq!(shown(125, minutes(90)), "2 min 5 s of 1 h 30 min");
    assert_eq!(shown(0, Some(Duration::from_millis(1500))), "0 s of 1.50 s");
}

#[test]
fn a_capture_is_written_beside_the_report() {
    let dir = tempfile::tempdir().expect("dir");
    let (report, capture) = (dir.path().join("report.json"), dir.path().join("%p.holdup"));
    let command = ["sleep", "0.2"].map(OsString::from).to_vec();
    let settings = RecordSettings {
        capture: Some(CaptureSpec {
            path: Template::parse(capture.as_os_str()).expect("a name"),
            bounds: crate::capture::Bounds::default(),
        }),
        ..settings(TargetChoice::Command(command), None, &report)
    };
    let (_switch, stop) = Stop::switch();
    go(&settings, stop).expect("records");
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .expect("reads")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    let [capture, json] = &names[..] else {
        panic!("there are {names:?}")
    };
    assert_eq!(json, "report.json");
    let file = std::fs::File::open(dir.path().join(capture)).expect("opens");
    let capture = crate::capture::Capture::open(file).expect("a capture");
    assert_eq!(capture.end, crate::capture::End::Complete);
    assert_eq!(capture.header.host.kernel, "held true");
    let mut intervals = 0;
    let all = crate::capture::Range::ALL;
    capture
        .intervals(all, |_| intervals += 1)
        .expect("intervals");
    assert_eq!(intervals, 1);
}

#[test]
fn a_capture_and_a_report_of_one_name_are_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let (report, capture) = (dir.path().join("x.holdup"), dir.path().join("./x.holdup"));
    let settings = RecordSettings {
        capture: Some(CaptureSpec {
            path: Template::parse(capture.as_os_str()).expect("a name"),
            bounds: crate::capture::Bounds::default(),
        }),
        ..settings(
            TargetChoice::Pids(vec![Pid(std::process::id())]),
            None,
            &report,
        )
    };
    let (_switch, stop) = Stop::switch();
    let error = go(&settings, stop).expect_err("one place");
    assert_eq!(error.exit_status(), Exit::Usage);
    assert_eq!(std::fs::read_dir(dir.path()).expect("reads").count(), 0);
}
