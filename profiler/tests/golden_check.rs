//! Golden files of what `holdup check` prints.
//!
//! To accept changed output, look at it first and then run the tests with `INSTA_UPDATE=always`.

use holdup::recording::{Host, Tool};
use holdup::render::{Options, check_json, check_text};
use holdup::report::check::{
    Check, CheckArea as Area, CheckRefusal, CheckState as State, CheckedTarget, Requirement,
};
use holdup::units::Pid;

fn requirement(area: Area, id: &'static str, name: &'static str, state: State) -> Requirement {
    Requirement {
        id,
        area,
        name,
        purpose: "do what it is good for",
        state,
        found: String::new(),
        remedy: None,
    }
}

fn with(mut requirement: Requirement, found: &str, remedy: Option<&str>) -> Requirement {
    requirement.found = found.to_owned();
    requirement.remedy = remedy.map(str::to_owned);
    requirement
}

fn target(pid: u32, exe: Option<&str>, requirements: Vec<Requirement>) -> CheckedTarget {
    CheckedTarget {
        pid: Pid(pid),
        exe: exe.map(str::to_owned),
        refusal: None,
        requirements,
    }
}

fn check(targets: Vec<CheckedTarget>, requirements: Vec<Requirement>) -> Check {
    Check {
        tool: Tool {
            name: "holdup".into(),
            version: "1.2.3".into(),
        },
        host: Host {
            kernel: "6.12.48-1-amd64".into(),
            cpus: 16,
        },
        targets,
        refusal: None,
        requirements,
    }
}

fn refused_with(exit: i32, message: impl Into<String>, check: Check) -> Check {
    let message = message.into();
    let refusal = Some(CheckRefusal { exit, message });
    let mut targets = check.targets;
    for target in &mut targets {
        target.refusal.clone_from(&refusal);
    }
    Check {
        refusal,
        targets,
        ..check
    }
}

fn good() -> Check {
    check(
        Vec::new(),
        vec![
            requirement(Area::Permission, "cap-bpf", "CAP_BPF", State::Ok),
            requirement(Area::Kernel, "bpf-loop", "bpf_loop", State::Ok),
            with(
                requirement(Area::Kernel, "btf", "BTF", State::Ok),
                "126585 types",
                None,
            ),
        ],
    )
}

/// Every state, and more text than fits on a line.
fn mixed() -> Check {
    let limited = with(
        requirement(
            Area::Setting,
            "kptr-restrict",
            "kernel.kptr_restrict",
            State::Limited,
        ),
        "2: kernel functions have no names in reports",
        Some("sudo sysctl kernel.kptr_restrict=1"),
    );
    let mut list = good().requirements;
    list.push(limited);
    check(Vec::new(), list)
}

fn refused() -> Check {
    let capability = |id, name: &'static str| {
        with(
            requirement(Area::Permission, id, name, State::Missing),
            "",
            Some("sudo /srv/tools/with/a/path/that/is/long/holdup check -p 4711 --format text"),
        )
    };
    let unknown = with(
        requirement(
            Area::Kernel,
            "bpf-system-call",
            "bpf system call",
            State::Unknown,
        ),
        "cannot be tried without CAP_BPF and CAP_PERFMON",
        None,
    );
    let process = with(
        requirement(Area::Target, "target-process", "process", State::Missing),
        "no process has pid 4711",
        Some("pgrep -a NAME"),
    );
    let message = "not permitted to load BPF programs: CAP_BPF and CAP_PERFMON missing";
    refused_with(
        77,
        message,
        check(
            vec![target(4711, None, vec![process])],
            vec![
                capability("cap-bpf", "CAP_BPF"),
                capability("cap-perfmon", "CAP_PERFMON"),
                unknown,
            ],
        ),
    )
}

/// A target that chose its names to deceive whoever reads them.
fn hostile() -> Check {
    let path = "/srv/\u{1b}[2J\u{202e}a<script>\"';\n\r  ok       forged line";
    let message = format!("no sign of tokio in {path}");
    let mut list = vec![with(
        requirement(Area::Target, "target-executable", "executable", State::Ok),
        path,
        Some("rm \u{1b}]0;title\u{7}"),
    )];
    list.push(with(
        requirement(Area::Target, "target-tokio", "tokio", State::Missing),
        &message,
        None,
    ));
    refused_with(
        3,
        message,
        check(vec![target(4711, Some(path), list)], Vec::new()),
    )
}

/// Three processes, of which one has no tokio and one is gone.
fn several() -> Check {
    let tokio = |state| requirement(Area::Target, "target-tokio", "tokio", state);
    let version = with(tokio(State::Ok), "1.54.1", None);
    let stripped = with(
        requirement(Area::Target, "target-symbols", "symbols", State::Limited),
        "stripped: functions are named by their addresses",
        Some("build it with strip = false in [profile.release]"),
    );
    let mut plain = target(
        4712,
        Some("/usr/bin/sleep"),
        vec![with(
            tokio(State::Missing),
            "no sign of tokio in sleep",
            None,
        )],
    );
    plain.refusal = Some(CheckRefusal {
        exit: 3,
        message: "no sign of tokio in sleep".into(),
    });
    let process = requirement(Area::Target, "target-process", "process", State::Missing);
    let mut gone = target(
        4713,
        None,
        vec![with(process, "no process has pid 4713", None)],
    );
    gone.refusal = Some(CheckRefusal {
        exit: 1,
        message: "no process has pid 4713".into(),
    });
    let claims = target(4711, Some("/srv/claims_api"), vec![version, stripped]);
    check(vec![claims, plain, gone], good().requirements)
}

fn written(check: &Check, options: &Options, as_json: bool) -> String {
    let mut out = Vec::new();
    let done = if as_json {
        check_json(check, &mut out)
    } else {
        check_text(check, options, &mut out)
    };
    done.expect("writing to memory");
    String::from_utf8(out).expect("UTF-8")
}

fn all() -> [(&'static str, Check); 5] {
    [
        ("several", several()),
        ("good", good()),
        ("mixed", mixed()),
        ("refused", refused()),
        ("hostile", hostile()),
    ]
}

#[test]
fn as_text() {
    for (name, check) in all() {
        insta::assert_snapshot!(
            format!("{name}_text"),
            written(&check, &Options::default(), false)
        );
    }
}

#[test]
fn in_colour() {
    let options = Options {
        color: true,
        ..Options::default()
    };
    for (name, check) in [("mixed", mixed()), ("refused", refused())] {
        let text = written(&check, &options, false).replace('\u{1b}', "␛");
        insta::assert_snapshot!(format!("{name}_colour"), text);
    }
}

#[test]
fn as_json() {
    for (name, check) in all() {
        insta::assert_snapshot!(
            format!("{name}_json"),
            written(&check, &Options::default(), true)
        );
    }
}

#[test]
fn the_exit_is_that_of_the_refusal() {
    for (name, exit, can_record) in [
        ("several", 0, true),
        ("good", 0, true),
        ("mixed", 0, true),
        ("refused", 77, false),
        ("hostile", 3, false),
    ] {
        let (_, check) = all().into_iter().find(|(n, _)| *n == name).expect("known");
        let text = written(&check, &Options::default(), true);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["exit"], exit, "{name}");
        assert_eq!(value["can_record"], can_record, "{name}");
    }
}

#[test]
fn names_stay_text_and_stay_whole() {
    let text = written(&hostile(), &Options::default(), false);
    let bad = text
        .chars()
        .find(|&c| c.is_control() && c != '\n' || c == '\u{202e}');
    assert_eq!(bad, None);
    assert!(
        !text
            .lines()
            .any(|line| line.starts_with("  ok       forged")),
        "{text}"
    );
    let text = written(&hostile(), &Options::default(), true);
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let exe = hostile().targets.remove(0).exe;
    assert_eq!(value["target"]["exe"].as_str(), exe.as_deref());
}

#[test]
fn no_line_is_wider_than_asked() {
    for (name, check) in all() {
        for width in [60, 80, 140] {
            let options = Options {
                width,
                ..Options::default()
            };
            for line in written(&check, &options, false).lines() {
                let columns = unicode_width::UnicodeWidthStr::width(line);
                // A path in running text is never cut: here behind state and name.
                let words = line.split_whitespace().count();
                assert!(columns <= width || words <= 3, "{name} at {width}: {line}");
            }
        }
    }
}
