//! What is said where clap does not understand the command line. Its own tips take every word for a value
//! that should stand behind `--`, where it would be a command for us to start.

use super::args::Cli;
use super::error::Error;
use super::exit::Exit;
use super::hint;
use super::progress::{error_text, stderr_is_terminal};
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::io::Write;

/// Prints what clap has to say instead of doing something: an error, the help or the version.
pub(super) fn misunderstood(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        // Who does not read it needs none.
        let _ = error.print();
        return Exit::Success;
    }
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut stderr = std::io::stderr();
    let _ = match better(error, &words) {
        Some(error) => stderr.write_all(error_text(&error, stderr_is_terminal()).as_bytes()),
        // Named like every other error, since it may stand among those of other programs.
        None => stderr.write_all(b"holdup: ").and_then(|()| error.print()),
    };
    Exit::Usage
}

/// Something more useful than what clap says; none where that is right.
fn better(error: &clap::Error, words: &[String]) -> Option<Error> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let wrong = text(ContextKind::InvalidArg)?;
    match error.kind() {
        ErrorKind::UnknownArgument => bare_target(wrong, words)
            .or_else(|| negative(wrong, words))
            .or_else(|| unknown_option(error, wrong, words)),
        ErrorKind::InvalidValue
            if wrong.starts_with("--format")
                && text(ContextKind::InvalidValue) == Some("holdup") =>
        {
            let error = Error::usage("a capture is no format of a report: it is a file");
            Some(error.hint("-o incident.holdup"))
        }
        _ => None,
    }
}

/// `holdup record 4711`: a target without the option for it.
fn bare_target(wrong: &str, words: &[String]) -> Option<Error> {
    let (verb, target) = hint::bare_target(words, wrong)?;
    let error = Error::usage(format!("unexpected argument '{target}'"));
    Some(error.hint(hint::of_bare_word(verb, target)))
}

/// `--duration -1s`: a value that clap takes for an option.
fn negative(wrong: &str, words: &[String]) -> Option<Error> {
    let is_number = |word: &str| {
        let rest = word.strip_prefix('-');
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
    };
    if !is_number(wrong) {
        return None;
    }
    let at = words.iter().position(|word| word.starts_with(wrong))?;
    let value = words.get(at)?;
    let option = words.get(at.checked_sub(1)?)?;
    if !option.starts_with('-') || is_number(option) {
        return None;
    }
    let error = Error::usage(format!(
        "{option} takes no negative value, and {value} is one"
    ));
    Some(error.hint(format!("holdup help {}", verb_of(words)?)))
}

/// An option that the verb does not have.
fn unknown_option(error: &clap::Error, wrong: &str, words: &[String]) -> Option<Error> {
    let unknown = || Error::usage(format!("unexpected argument '{wrong}' found"));
    let verb = verb_of(words)?;
    let others = verbs_with(wrong);
    if wrong == "--json" && has(verb, "--format") {
        return Some(unknown().hint("-f json"));
    }
    if !others.is_empty() {
        let error = unknown().detail(format!("it is an option of {}", others.join(", ")));
        return Some(error.hint(format!("holdup help {verb}")));
    }
    // A misspelled option: clap says which.
    let is_near = error.get(ContextKind::SuggestedArg).is_some();
    (!is_near).then(|| unknown().hint(format!("holdup help {verb}")))
}

/// The verb that was typed.
fn verb_of(words: &[String]) -> Option<&str> {
    let typed = words.iter().find(|word| !word.starts_with('-'))?;
    let is_verb = Cli::command().find_subcommand(typed).is_some();
    is_verb.then_some(typed.as_str())
}

/// Whether a verb has an option, as it is written: `--follow` or `-d`.
fn has(verb: &str, option: &str) -> bool {
    let command = Cli::command();
    command
        .find_subcommand(verb)
        .is_some_and(|verb| is_in(verb, option))
}

fn is_in(verb: &clap::Command, option: &str) -> bool {
    verb.get_arguments().any(|argument| {
        let long = argument.get_long().map(|long| format!("--{long}"));
        let short = argument.get_short().map(|short| format!("-{short}"));
        [long, short].into_iter().flatten().any(|own| own == option)
    })
}

fn verbs_with(option: &str) -> Vec<String> {
    let command = Cli::command();
    let verbs = command.get_subcommands();
    let verbs = verbs.filter(|verb| !verb.is_hide_set() && is_in(verb, option));
    verbs
        .map(|verb| format!("holdup {}", verb.get_name()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn said(line: &str) -> Option<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let all = std::iter::once("holdup").chain(line.split(' '));
        let error = Cli::try_parse_from(all).expect_err("no command line");
        better(&error, &words).map(|error| error_text(&error, false))
    }

    #[test]
    fn a_negative_value_is_told_as_one() {
        for (line, wanted) in [
            (
                "record -p 1 -d -1s",
                "-d takes no negative value, and -1s is one",
            ),
            (
                "record -p 1 --keep -2h",
                "--keep takes no negative value, and -2h is one",
            ),
            (
                "report x --min -5",
                "--min takes no negative value, and -5 is one",
            ),
            (
                "list --look -1s",
                "--look takes no negative value, and -1s is one",
            ),
        ] {
            let said = said(line).unwrap_or_default();
            assert!(
                said.starts_with(&format!("holdup: error: {wanted}\n")),
                "{said}"
            );
            assert!(!said.contains("'--"), "{said}");
        }
    }

    #[test]
    fn an_option_of_another_verb_is_told() {
        let text = said("dump --follow -p 1").unwrap_or_default();
        assert_eq!(
            text,
            "holdup: error: unexpected argument '--follow' found\n  \
             it is an option of holdup record, holdup top\n  try: holdup help dump\n"
        );
        let text = said("top -d 3s -p 1").unwrap_or_default();
        assert!(
            text.contains("it is an option of holdup record\n"),
            "{text}"
        );
    }

    #[test]
    fn json_is_a_format_and_a_capture_is_none() {
        for line in ["dump --json", "check --json", "diff a b --json"] {
            let text = said(line).unwrap_or_default();
            assert!(text.ends_with("  try: -f json\n"), "{line}: {text}");
        }
        let text = said("record -p 1 -f holdup").unwrap_or_default();
        assert!(text.ends_with("  try: -o incident.holdup\n"), "{text}");
    }

    #[test]
    fn what_nobody_knows_gets_no_tip_that_starts_a_command() {
        let text = said("record -p 1 --json7").unwrap_or_default();
        assert!(text.ends_with("  try: holdup help record\n"), "{text}");
        // A misspelled option keeps clap's suggestion.
        assert_eq!(said("record -p 1 --folow"), None);
    }
}
