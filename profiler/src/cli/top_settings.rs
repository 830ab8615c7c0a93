//! What `holdup top` is to do, resolved once.

use super::args::Common;
use super::error::{Error, Result};
use super::hint::{option_of, shell_word};
use super::names::Template;
use super::settings::CaptureSpec;
use super::settings::{
    Destination, Environment, OutputSpec, TargetChoice, format_of, invoker, is_capture, rendering,
    test_limits, view,
};
use super::target_choice::joining;
use super::terminal::is_plain;
use super::top_args::TopArgs;
use crate::capture::Bounds;
use crate::collect;
use crate::process::Invoker;
use crate::render::{self, Format};
use crate::tui::Look;
use crate::units::Nanos;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Everything `top` goes by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopSettings {
    pub(crate) target: TargetChoice,
    pub(crate) recording: collect::Options,
    /// What is saved, and when.
    pub(crate) saving: Saving,
    /// Whether a file that exists is overwritten.
    pub(crate) force: bool,
    /// How to draw the report at the end.
    pub(crate) rendering: render::Options,
    /// How to draw until then.
    pub(crate) look: Look,
    /// Who called `sudo`.
    pub(crate) invoker: Option<Invoker>,
}

/// What `top` saves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Saving {
    /// A capture of everything, as it is recorded: the key has nothing to add.
    AllAlong(CaptureSpec),
    /// What the key writes: a capture of what was seen, and a report, if one is wanted besides.
    ByKey {
        capture: Template,
        report: Option<OutputSpec>,
    },
}

/// Where the key saves to, unless a name is given.
pub(crate) const SAVED: &str = "holdup-%p-%t.holdup";

impl Saving {
    fn of(name: Option<&OsStr>) -> Result<Saving> {
        let Some(name) = name else {
            return Ok(Saving::ByKey {
                capture: Template::parse(OsStr::new(SAVED))?,
                report: None,
            });
        };
        let path = Template::parse(name)?;
        if is_capture(name) {
            let bounds = Bounds::default();
            return Ok(Saving::AllAlong(CaptureSpec { path, bounds }));
        }
        let format = format_of(name, None)?;
        Ok(Saving::ByKey {
            capture: Template::parse(&beside(name, format))?,
            report: Some(OutputSpec {
                destination: Destination::File(path),
                format,
            }),
        })
    }
}

/// The name of the capture that is saved with a report of this name: `seen.holdup` with `seen.wakers.svg`.
fn beside(report: &OsStr, format: Format) -> OsString {
    let bytes = report.as_bytes();
    let end = bytes.len().saturating_sub(format.extension().len());
    let stem = bytes.get(..end).and_then(|stem| stem.strip_suffix(b"."));
    let Some(stem) = stem else {
        // A name that is nothing but the extension.
        return Path::new(report).with_extension("holdup").into();
    };
    let mut name = OsStr::from_bytes(stem).to_owned();
    name.push(".holdup");
    name
}

impl TopSettings {
    /// # Errors
    /// Where the words make no sense together, or there is no terminal to draw on.
    pub(crate) fn resolve(
        args: TopArgs,
        common: &Common,
        environment: &Environment<'_>,
    ) -> Result<TopSettings> {
        let target = args.target.choice_or(args.command);
        let target = target.ok_or_else(|| {
            Error::usage("no target is given").hint("holdup top -p PID, or -n NAME, or -- COMMAND")
        })?;
        if let Some(why) = no_terminal(environment) {
            return Err(Error::new(why).hint(instead(&target)));
        }
        let saving = Saving::of(args.output.as_deref())?;
        let rendering = view(args.view, rendering(common, environment));
        Ok(TopSettings {
            recording: collect::Options {
                interval: collect::INTERVAL,
                launched: matches!(target, TargetChoice::Command(_)),
                follow: args.follow,
                joining: joining(&target),
                min_block: args.min_block,
                sample_period: (args.freq > 0).then(|| Nanos(1_000_000_000 / u64::from(args.freq))),
                long_poll: Nanos(10_000_000),
                shadow_every: 0,
                calls: false,
                panics: false,
                limits: test_limits(environment),
            },
            target,
            saving,
            force: args.force,
            look: Look {
                color: rendering.color,
                ascii: is_plain(environment.var),
            },
            rendering,
            invoker: invoker(environment),
        })
    }
}

/// Why nothing can be drawn.
fn no_terminal(environment: &Environment<'_>) -> Option<&'static str> {
    if !environment.stdout_is_terminal {
        return Some("top draws on a terminal, and standard output is none");
    }
    let term = (environment.var)("TERM").filter(|term| !term.is_empty());
    match term {
        None => Some("top draws on a terminal, and TERM does not say which"),
        Some(term) if term == "dumb" => Some("top moves the cursor, which TERM=dumb cannot"),
        Some(_) => None,
    }
}

/// The command that needs no terminal.
fn instead(target: &TargetChoice) -> String {
    let target = match target {
        TargetChoice::Pids(pids) => {
            let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
            format!("-p {}", pids.join(","))
        }
        TargetChoice::Selected(selection) => {
            let options = selection.selectors.iter().map(option_of);
            let user = selection.user.map(|user| format!("--user {user}"));
            options.chain(user).collect::<Vec<_>>().join(" ")
        }
        TargetChoice::Command(command) => {
            let words = command
                .iter()
                .map(|word| shell_word(&word.to_string_lossy()));
            format!("-- {}", words.collect::<Vec<_>>().join(" "))
        }
    };
    format!("holdup record -d 10s {target}")
}

#[cfg(test)]
mod tests {
    use super::super::args::{Cli, Verb};
    use super::*;
    use clap::Parser;
    use rustix::process::Uid;
    use std::ffi::OsString;

    fn resolve(words: &[&str], term: Option<&str>, is_terminal: bool) -> Result<TopSettings> {
        let words = ["holdup", "top"].iter().chain(words);
        let cli = Cli::try_parse_from(words).expect("sound words");
        let Some(Verb::Top(args)) = cli.verb else {
            panic!("parsed as {:?}", cli.verb)
        };
        let var = |name: &str| match name {
            "TERM" => term.map(OsString::from),
            "NO_COLOR" => Some("1".into()),
            _ => None,
        };
        let environment = Environment {
            var: &var,
            stdout_is_terminal: is_terminal,
            stderr_is_terminal: is_terminal,
            stdout_width: None,
            effective_uid: Uid::from_raw(1000),
        };
        TopSettings::resolve(args, &cli.common, &environment)
    }

    #[test]
    fn without_a_terminal_it_says_what_to_use_instead() {
        for (term, is_terminal, says) in [
            (Some("xterm"), false, "standard output is none"),
            (Some("dumb"), true, "TERM=dumb cannot"),
            (Some(""), true, "TERM does not say which"),
            (None, true, "TERM does not say which"),
        ] {
            let error = resolve(&["-p", "1,2"], term, is_terminal).expect_err("no terminal");
            assert!(error.chain().contains(says), "{}", error.chain());
            assert_eq!(error.suggestion(), Some("holdup record -d 10s -p 1,2"));
        }
        let error = resolve(&["--", "a b", "-c"], None, true).expect_err("no terminal");
        assert_eq!(error.suggestion(), Some("holdup record -d 10s -- 'a b' -c"));
        let error = resolve(&["-n", "x"], None, true).expect_err("no terminal");
        assert_eq!(error.suggestion(), Some("holdup record -d 10s -n x"));
        let error = resolve(&["--unit", "a b"], None, true).expect_err("no terminal");
        assert_eq!(
            error.suggestion(),
            Some("holdup record -d 10s --unit 'a b.service'")
        );
    }

    #[test]
    fn what_is_asked_for_is_done() {
        let plain = resolve(&["-n", "x"], Some("xterm"), true).expect("sound");
        let named = |name: &str| Template::parse(OsStr::new(name)).expect("a name");
        let by_default = Saving::ByKey {
            capture: named(SAVED),
            report: None,
        };
        assert_eq!(plain.saving, by_default);
        assert!(!plain.look.color && !plain.look.ascii);
        assert_eq!(plain.recording.interval, collect::INTERVAL);
        let other = ["-p", "7", "--color", "always", "-o", "x.svg", "--force"];
        let other = resolve(&other, Some("xterm"), true).expect("sound");
        assert!(other.look.color && other.force);
        for (report, format, capture) in [
            ("x.svg", Format::Svg, "x.holdup"),
            ("a.b/x-%t.wakers.svg", Format::WakersSvg, "a.b/x-%t.holdup"),
            ("a.b/wakers.svg", Format::WakersSvg, "a.b/wakers.holdup"),
        ] {
            let saving = Saving::of(Some(OsStr::new(report))).expect("sound");
            let expected = Saving::ByKey {
                capture: named(capture),
                report: Some(OutputSpec {
                    destination: Destination::File(named(report)),
                    format,
                }),
            };
            assert_eq!(saving, expected);
        }
        let capture = resolve(&["-p", "7", "-o", "x.holdup"], Some("xterm"), true);
        let all_along = Saving::AllAlong(CaptureSpec {
            path: named("x.holdup"),
            bounds: Bounds::default(),
        });
        assert_eq!(capture.expect("sound").saving, all_along);
        assert!(resolve(&["-p", "7", "-o", "x.exe"], Some("xterm"), true).is_err());
        assert!(resolve(&[], Some("xterm"), true).is_err());
    }
}
