use super::super::args::{Cli, Verb};
use super::super::exit::Exit;
use super::*;
use crate::units::{Nanos, Pid};
use clap::Parser;

fn resolve_in(
    words: &[&str],
    vars: &[(&str, &str)],
    terminal: bool,
) -> Result<(ConsoleSettings, RecordSettings)> {
    let all = ["holdup", "record"].iter().chain(words);
    let cli = Cli::try_parse_from(all).expect("well-formed words");
    let Some(Verb::Record(args)) = cli.verb else {
        panic!("another verb")
    };
    let var = |name: &str| -> Option<OsString> {
        vars.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).into())
    };
    let environment = Environment {
        var: &var,
        stdout_is_terminal: terminal,
        stderr_is_terminal: terminal,
        stdout_width: terminal.then_some(120),
        effective_uid: Uid::ROOT,
    };
    let console = ConsoleSettings::resolve(&cli.common, &environment);
    Ok((
        console,
        RecordSettings::resolve(args, &cli.common, &environment)?,
    ))
}

fn resolve(words: &[&str]) -> Result<RecordSettings> {
    Ok(resolve_in(words, &[], false)?.1)
}

fn file(name: &str, format: Format) -> OutputSpec {
    let template = Template::parse(OsStr::new(name)).expect("a name");
    OutputSpec {
        destination: Destination::File(template),
        format,
    }
}

fn stdout(format: Format) -> OutputSpec {
    OutputSpec {
        destination: Destination::Stdout,
        format,
    }
}

#[test]
fn defaults() {
    let got = resolve(&["-p", "7"]).expect("sense");
    let want = RecordSettings {
        gate: Gate::default(),
        until_stall: None,
        fail_with_command: false,
        filter: crate::report::Filter::default(),
        target: TargetChoice::Pids(vec![Pid(7)]),
        duration: None,
        recording: collect::Options {
            interval: collect::INTERVAL,
            shadow_every: 0,
            calls: false,
            panics: false,
            launched: false,
            follow: false,
            joining: Selection::default(),
            min_block: Nanos(100_000),
            sample_period: Some(Nanos(10_101_010)),
            long_poll: Nanos(10_000_000),
            limits: Limits::default(),
        },
        outputs: vec![stdout(Format::Text)],
        capture: None,
        force: false,
        // There is no terminal.
        rendering: render::Options {
            cut: false,
            // Where the test runs.
            sources: std::env::current_dir()
                .ok()
                .and_then(|dir| dir.into_os_string().into_string().ok()),
            ..render::Options::default()
        },
        invoker: None,
    };
    assert_eq!(got, want);
}

#[test]
fn names_tell_formats() {
    let words = [
        "-p", "7", "-o", "a.svg", "-o", "b.FOLDED", "-o", "c.json", "-o", "%p.txt",
    ];
    assert_eq!(
        resolve(&words).expect("sense").outputs,
        [
            stdout(Format::Text),
            file("a.svg", Format::Svg),
            file("b.FOLDED", Format::Folded),
            file("c.json", Format::Json),
            file("%p.txt", Format::Text),
        ]
    );
    let words = [
        "-p", "7", "-o", "-", "-o", "noname", "-o", "x.svg", "-f", "json",
    ];
    assert_eq!(
        resolve(&words).expect("sense").outputs,
        [
            stdout(Format::Json),
            file("noname", Format::Json),
            file("x.svg", Format::Svg)
        ]
    );
}

#[test]
fn names_without_sense_are_usage_errors() {
    for words in [
        &["-p", "7", "-o", "report"][..],
        &["-p", "7", "-o", "report.htm"],
        &["-p", "7", "-o", "x.gz"],
        &["-p", "7", "-o", "%q.svg"],
        &["-p", "7", "-o", "-", "-o", "-"],
        &["-p", "7", "-o", "a.svg", "-o", "a.svg"],
    ] {
        let error = resolve(words).expect_err("no sense");
        assert_eq!(error.exit_status(), Exit::Usage, "{words:?}: {error}");
    }
}

#[test]
fn there_must_be_a_target() {
    for words in [&[][..], &["-d", "1s"], &["--"]] {
        let error = resolve(words).expect_err("no target");
        assert_eq!(error.exit_status(), Exit::Usage, "{words:?}");
    }
}

#[test]
fn colors_follow_the_terminal_and_no_color() {
    let color = |words: &[&str], vars: &[(&str, &str)], terminal| {
        let (console, record) = resolve_in(words, vars, terminal).expect("sense");
        assert_eq!(console.color, record.rendering.color);
        record.rendering.color
    };
    assert!(color(&["-p", "1"], &[], true));
    assert!(!color(&["-p", "1"], &[], false));
    assert!(!color(&["-p", "1"], &[("NO_COLOR", "1")], true));
    assert!(color(&["-p", "1"], &[("NO_COLOR", "")], true));
    assert!(color(
        &["-p", "1", "--color", "always"],
        &[("NO_COLOR", "1")],
        false
    ));
    assert!(!color(&["-p", "1", "--color", "never"], &[], true));
    assert!(!color(&["-p", "1"], &[("TERM", "dumb")], true));
}

#[test]
fn a_spinner_only_on_a_terminal() {
    let spinner =
        |words: &[&str], terminal| resolve_in(words, &[], terminal).expect("sense").0.spinner;
    assert!(spinner(&["-p", "1"], true));
    assert!(!spinner(&["-p", "1"], false));
    assert!(!spinner(&["-p", "1", "-q"], true));
    assert!(
        !spinner(&["-p", "1", "-v"], true),
        "log lines would be drawn over"
    );
    let dumb = resolve_in(&["-p", "1"], &[("TERM", "dumb")], true).expect("sense");
    assert!(!dumb.0.spinner && dumb.0.ascii);
    let latin = resolve_in(&["-p", "1"], &[("LC_ALL", "C")], true).expect("sense");
    assert!(latin.0.spinner && latin.0.ascii);
    let file = resolve_in(&["-p", "1"], &[("LC_ALL", "C")], false).expect("sense");
    assert!(!file.0.ascii);
}

#[test]
fn the_invoker_comes_from_sudo() {
    let vars = [
        ("SUDO_UID", "1000"),
        ("SUDO_GID", "1000"),
        ("SUDO_USER", "nobody-here"),
    ];
    let (_, settings) = resolve_in(&["-n", "x"], &vars, false).expect("sense");
    assert_eq!(
        settings.invoker.map(|invoker| invoker.uid.as_raw()),
        Some(1000)
    );
}

#[test]
fn a_test_can_make_tables_small() {
    let vars = [("HOLDUP_TEST_LIMITS", "STACKS=16")];
    let (_, settings) = resolve_in(&["-n", "x"], &vars, false).expect("sense");
    assert_eq!(settings.recording.limits.table("STACKS", 100), 16);
}

#[test]
fn how_much_is_told() {
    let of = |words: &[&str]| resolve(words).expect("sense").rendering;
    let top = of(&["-p", "7", "--top", "3"]);
    assert_eq!((top.max_sites, top.sites_in_full), (3, 3));
    let all = of(&["-p", "7", "--all"]);
    assert_eq!((all.max_sites, all.sites_in_full), (usize::MAX, usize::MAX));
    assert!(of(&["-p", "7", "--brief"]).brief && !all.brief);
}

#[test]
fn a_capture_is_no_report() {
    let got = resolve(&["-p", "7", "-o", "a.holdup", "-o", "b.json"]).expect("sense");
    assert_eq!(
        got.outputs,
        [stdout(Format::Text), file("b.json", Format::Json)]
    );
    let template = Template::parse(OsStr::new("a.holdup")).expect("a name");
    let want = CaptureSpec {
        path: template,
        bounds: Bounds::default(),
    };
    assert_eq!(got.capture, Some(want));
    let words = [
        "-p",
        "7",
        "-o",
        "dir/%p.HOLDUP",
        "--keep",
        "10m",
        "--max-size",
        "2G",
    ];
    let got = resolve(&words).expect("sense").capture.expect("a capture");
    let want = Bounds {
        max_size: Some(2 << 30),
        keep: Some(Nanos(600_000_000_000)),
    };
    assert_eq!(got.bounds, want);
    for words in [
        &["-p", "7", "-o", "a.holdup", "-o", "b.holdup"][..],
        &["-p", "7", "--keep", "10m"],
        &["-p", "7", "--max-size", "2G", "-o", "a.json"],
        // A name with nothing before the dot selects nothing.
        &["-p", "7", "-o", ".holdup"],
        &["-p", "7", "-o", "a%x.holdup"],
    ] {
        let error = resolve(words).expect_err("no sense");
        assert_eq!(error.exit_status(), Exit::Usage, "{words:?}");
    }
}
