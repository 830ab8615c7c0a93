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

/// Everything `top` goes by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopSettings {
    pub(crate) target: TargetChoice,
    pub(crate) recording: collect::Options,
    /// What the key for it writes.
    pub(crate) save: OutputSpec,
    /// What is written meanwhile.
    pub(crate) capture: Option<CaptureSpec>,
    /// Whether a file that exists is overwritten.
    pub(crate) force: bool,
    /// How to draw the report at the end.
    pub(crate) rendering: render::Options,
    /// How to draw until then.
    pub(crate) look: Look,
    /// Who called `sudo`.
    pub(crate) invoker: Option<Invoker>,
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
        let path = Template::parse(&args.output)?;
        // The key has nothing to write where everything is written already.
        let (capture, format) = if is_capture(&args.output) {
            let bounds = Bounds::default();
            let path = path.clone();
            (Some(CaptureSpec { path, bounds }), Format::Json)
        } else {
            (None, format_of(&args.output, None)?)
        };
        let destination = Destination::File(path);
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
            save: OutputSpec {
                destination,
                format,
            },
            capture,
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
        assert_eq!(plain.save.format, Format::Json);
        assert!(!plain.look.color && !plain.look.ascii);
        assert_eq!(plain.recording.interval, collect::INTERVAL);
        let other = ["-p", "7", "--color", "always", "-o", "x.svg", "--force"];
        let other = resolve(&other, Some("xterm"), true).expect("sound");
        assert_eq!(other.save.format, Format::Svg);
        assert!(other.look.color && other.force && other.capture.is_none());
        let capture = resolve(&["-p", "7", "-o", "x.holdup"], Some("xterm"), true);
        assert!(capture.expect("sound").capture.is_some());
        assert!(resolve(&["-p", "7", "-o", "x.exe"], Some("xterm"), true).is_err());
        assert!(resolve(&[], Some("xterm"), true).is_err());
    }
}
