//! What to try next: the one place of hints.

use super::error::Error;
use super::exit::Exit;
use crate::host::{Fix, PreflightError, Refused};
use crate::process::{Barrier, FindError, Found, LaunchError, Selector, TargetError, user_names};
use crate::units::Pid;
use std::ffi::OsStr;
use std::io;
use std::sync::OnceLock;

/// Processes of one name listed at most.
const MAX_LISTED: usize = 20;

/// Digits of a container's id that `docker ps` shows.
const SHORT_ID: usize = 12;

const NEWER_KERNEL: &str = "use Linux 5.8 or newer";

/// What stands for what would help on this machine.
pub(super) fn of_fix(fix: Fix) -> String {
    match fix {
        Fix::Give(capability) => give(capability),
        Fix::HostUserNamespace => {
            "run holdup on the host, or in a container without user namespaces".into()
        }
        Fix::HostPidNamespace => {
            "run holdup on the host, or start the container with --pid=host".into()
        }
        Fix::NoSeccomp => "docker run --security-opt seccomp=unconfined; in a unit of systemd: \
                           SystemCallFilter=bpf perf_event_open"
            .into(),
        Fix::LetBpfPass => "see what was denied: journalctl -k -g denied".into(),
        Fix::NoLockdown => "boot with lockdown=integrity or without lockdown".into(),
        Fix::KernelWithBtf => "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as all large \
                               distributions have; in a container that hides it: \
                               docker run -v /sys/kernel/btf:/sys/kernel/btf:ro"
            .into(),
        Fix::NewerKernel => NEWER_KERNEL.into(),
        Fix::ShowKernelAddresses => "sudo sysctl kernel.kptr_restrict=1".into(),
        Fix::KernelWithKallsyms => "use a kernel built with CONFIG_KALLSYMS=y".into(),
        Fix::LowerPtraceScope => {
            "it is 3 until the next boot: set kernel.yama.ptrace_scope to 2 or less then".into()
        }
    }
}

/// How a capability is given to whoever runs holdup.
fn give(capability: &str) -> String {
    let short = capability.strip_prefix("CAP_").unwrap_or(capability);
    format!("run holdup with sudo; in a container: docker run --cap-add {short}")
}

/// The same command with sudo; for root, who lacks capabilities only in a container, the way to
/// give them.
pub(super) fn of_permission() -> String {
    if rustix::process::geteuid().is_root() {
        return "give the container CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE (docker run --cap-add)"
            .into();
    }
    let mut words = std::env::args_os();
    let typed = words.next().unwrap_or_default();
    // sudo looks in its own PATH, where a program under a home directory is not found.
    let program = match std::env::current_exe() {
        Ok(path) if !path.starts_with("/usr") && !path.starts_with("/bin") => path.into(),
        _ => typed,
    };
    let mut hint = format!("sudo {}", shell_word(&program.to_string_lossy()));
    for word in words {
        hint.push(' ');
        hint.push_str(&shell_word(&word.to_string_lossy()));
    }
    hint
}

/// Where there is nothing of a name: what may have been meant, and how that is given.
fn did_you_mean(plain: Error, near: &[(Pid, String)], option: &str) -> Option<Error> {
    let (_, nearest) = near.first()?;
    let hint = format!("holdup {} {option} {}", verb(), shell_word(nearest));
    let named = near.iter().fold(plain, |error, (pid, name)| {
        error.detail(format!("did you mean {name} (pid {pid})?"))
    });
    Some(named.hint(hint))
}

/// The option that means these processes.
pub(super) fn option_of(selector: &Selector) -> String {
    let (option, word) = match selector {
        Selector::Name(name) => ("-n", name),
        Selector::Exe(path) => ("-n", path),
        Selector::Unit(unit) => ("--unit", unit),
        Selector::Cgroup(path) => ("--cgroup", path),
        Selector::Container(id) => ("--container", id),
    };
    format!("{option} {}", shell_word(word))
}

/// Verbs that have targets.
const VERBS: [&str; 5] = ["record", "top", "dump", "check", "list"];

/// The verb that was typed, where it has targets.
static VERB: OnceLock<&'static str> = OnceLock::new();

/// Takes note of which verb was typed, so that hints are of the same.
pub(super) fn note_verb(words: &[impl AsRef<OsStr>]) {
    if let Some(verb) = verb_of(words) {
        // It is noted once.
        let _ = VERB.set(verb);
    }
}

/// The verb that was typed, where it has targets; else `record`.
fn verb() -> &'static str {
    VERB.get().copied().unwrap_or("record")
}

fn verb_of(words: &[impl AsRef<OsStr>]) -> Option<&'static str> {
    let mut words = words.iter().filter_map(|word| word.as_ref().to_str());
    let typed = words.find(|word| !word.starts_with('-'))?;
    VERBS.into_iter().find(|verb| *verb == typed)
}

/// `holdup VERB WORD` names no target: how it is given.
pub(super) fn of_bare_word(verb: &str, word: &str) -> String {
    let is_pids = word.split(',').all(|part| part.parse::<u32>().is_ok());
    let is_unit = [".service", ".scope"]
        .iter()
        .any(|kind| word.ends_with(kind));
    let option = match (is_pids, is_unit) {
        (true, _) => "-p",
        (_, true) => "--unit",
        _ => "-n",
    };
    format!("holdup {verb} {option} {}", shell_word(word))
}

/// `text` as a shell takes it for one word.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/=:,@+%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

impl From<PreflightError> for Error {
    fn from(error: PreflightError) -> Error {
        match error {
            PreflightError::Refused(refused) => refused.into(),
            other => Error::of(&other).exit((&other).into()),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        Error::new(refused.message)
            .exit(refused.kind.into())
            .maybe_hint(refused.fix.map(of_fix))
    }
}

impl From<TargetError> for Error {
    fn from(error: TargetError) -> Error {
        let hint = match &error {
            TargetError::Gone(_) => Some("pgrep -a NAME".to_owned()),
            TargetError::Thread { owner, .. } => Some(format!("holdup {} -p {owner}", verb())),
            TargetError::NoPidfd => Some(NEWER_KERNEL.to_owned()),
            TargetError::Denied {
                why: Barrier::Stronger(lacking),
                ..
            } => {
                let lacking = lacking.iter_names();
                let options = lacking.map(|(name, _)| format!("--cap-add {name}"));
                let options: Vec<String> = options.collect();
                Some(format!(
                    "docker run {}, or holdup on the host",
                    options.join(" ")
                ))
            }
            TargetError::Denied {
                why: Barrier::Protected,
                ..
            } => Some("see what was denied: journalctl -k -g denied".to_owned()),
            _ => None,
        };
        Error::of(&error).exit((&error).into()).maybe_hint(hint)
    }
}

impl From<FindError> for Error {
    fn from(error: FindError) -> Error {
        let plain = || Error::of(&error).exit((&error).into());
        match &error {
            FindError::List(_) => plain(),
            FindError::None { selector, near } => {
                let word = match selector {
                    Selector::Exe(path) => path.rsplit('/').next().unwrap_or_default(),
                    Selector::Name(name) => name,
                    _ => "",
                };
                let none = || plain().hint(format!("pgrep -af {}", shell_word(word)));
                did_you_mean(plain(), near, "-n").unwrap_or_else(none)
            }
            FindError::NoUnit {
                unit,
                has_systemd,
                near,
            } => {
                let hint = match has_systemd {
                    true => format!("systemctl status {}", shell_word(unit)),
                    false => "holdup list".to_owned(),
                };
                did_you_mean(plain(), near, "--unit").unwrap_or_else(|| plain().hint(hint))
            }
            FindError::NoGroup { exists: true, .. } => plain().hint("holdup list"),
            FindError::NoGroup { exists: false, .. } => {
                plain().hint("cat /proc/PID/cgroup, for where a process is")
            }
            FindError::NoContainer { .. } => plain().hint("docker ps, or holdup list"),
            FindError::Containers { ids, .. } => {
                let listed = ids.iter().take(MAX_LISTED);
                let first = ids.first().map(|id| id.chars().take(SHORT_ID).collect());
                let first = first.map(|id| option_of(&Selector::Container(id)));
                let hint = first.map(|option| format!("holdup {} {option}", verb()));
                let listed = listed.fold(plain(), |error, id| error.detail(id.clone()));
                listed.maybe_hint(hint)
            }
            FindError::NoneOfUser { others, .. } => of_others(plain(), others),
        }
    }
}

/// Lists processes of other users, and means the first one's.
fn of_others(error: Error, others: &[Found]) -> Error {
    let names = user_names();
    let name = |user: u32| names.get(&user).cloned().unwrap_or(user.to_string());
    let users = others
        .iter()
        .filter_map(|found| Some((found.pid, name(found.user?))));
    let users: Vec<_> = users.collect();
    let listed = users.iter().take(MAX_LISTED);
    let mut error = listed.fold(error, |error, (pid, user)| {
        error.detail(format!("{pid:>7}  {user}"))
    });
    if users.len() > MAX_LISTED {
        error = error.detail(format!("and {} more", users.len() - MAX_LISTED));
    }
    match users.first() {
        Some((_, user)) => error.hint(format!("--user {}", shell_word(user))),
        None => error.hint("holdup list"),
    }
}

impl From<LaunchError> for Error {
    fn from(error: LaunchError) -> Error {
        let hint = match &error {
            LaunchError::NoCommand => Some("holdup record -- COMMAND ARGS".to_owned()),
            LaunchError::Trace { .. } => {
                Some("start it yourself, then: holdup record -p PID".to_owned())
            }
            // Under sudo PATH is another than the user's.
            LaunchError::Run { program, source } => match source.kind() {
                io::ErrorKind::NotFound => Some(format!(
                    "command -v {}, and give the whole path",
                    shell_word(program)
                )),
                io::ErrorKind::PermissionDenied => Some(format!("ls -l {}", shell_word(program))),
                _ => None,
            },
            LaunchError::Ended { program, .. } => {
                Some(format!("run it alone: {}", shell_word(program)))
            }
            _ => None,
        };
        Error::of(&error).exit((&error).into()).maybe_hint(hint)
    }
}

/// The verb and the word that clap does not expect behind it, where that may be meant for a target.
pub(super) fn bare_target<'a>(
    words: &[impl AsRef<OsStr>],
    unexpected: &'a str,
) -> Option<(&'static str, &'a str)> {
    let verb = verb_of(words)?;
    (!unexpected.starts_with('-')).then_some((verb, unexpected))
}

impl Error {
    /// The same, where it lacks a permission and nothing better is known: with the hint to get it.
    pub(super) fn with_permission_hint(self) -> Error {
        if self.exit_status() == Exit::Permission && self.suggestion().is_none() {
            self.hint(of_permission())
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Selection;

    #[test]
    fn words_for_a_shell() {
        assert_eq!(shell_word("claims_api"), "claims_api");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word("$(x)"), "'$(x)'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn a_target_without_its_option() {
        assert_eq!(of_bare_word("record", "4711"), "holdup record -p 4711");
        assert_eq!(
            of_bare_word("dump", "4711,4712"),
            "holdup dump -p 4711,4712"
        );
        assert_eq!(
            of_bare_word("record", "claims_api"),
            "holdup record -n claims_api"
        );
        assert_eq!(of_bare_word("check", "a b"), "holdup check -n 'a b'");
        assert_eq!(
            of_bare_word("dump", "claims.service"),
            "holdup dump --unit claims.service"
        );
        assert_eq!(
            bare_target(&["-q", "record", "x"], "x"),
            Some(("record", "x"))
        );
        assert_eq!(bare_target(&["dump", "7"], "7"), Some(("dump", "7")));
        assert_eq!(bare_target(&["list", "x"], "x"), Some(("list", "x")));
        assert_eq!(bare_target(&["diff", "x"], "x"), None);
        assert_eq!(bare_target(&["record", "--x"], "--x"), None);
    }

    #[test]
    fn a_name_that_nobody_has_suggests_others() {
        let none = |near: &[(u32, &str)]| {
            Error::from(FindError::None {
                selector: Selector::Name("clams api".into()),
                near: near
                    .iter()
                    .map(|(pid, name)| (Pid(*pid), (*name).to_owned()))
                    .collect(),
            })
        };
        let error = none(&[(4711, "claims_api"), (4712, "claims_job")]);
        assert_eq!(error.chain(), "no process is called clams api");
        assert_eq!(
            error.details(),
            [
                "did you mean claims_api (pid 4711)?",
                "did you mean claims_job (pid 4712)?"
            ]
        );
        assert_eq!(error.suggestion(), Some("holdup record -n claims_api"));
        assert_eq!(none(&[]).suggestion(), Some("pgrep -af 'clams api'"));
    }

    #[test]
    fn what_is_in_no_unit_group_or_container_says_where_to_look() {
        let unit = |near: &[(u32, &str)], has_systemd| FindError::NoUnit {
            unit: "claim.service".into(),
            has_systemd,
            near: near
                .iter()
                .map(|(pid, name)| (Pid(*pid), (*name).to_owned()))
                .collect(),
        };
        let group = |exists| FindError::NoGroup {
            path: "/a".into(),
            exists,
        };
        let ids = vec!["0123456789abcdef".to_owned(), "0123ff".to_owned()];
        let container = FindError::NoContainer { id: "0123".into() };
        for (error, says, hint) in [
            (
                unit(&[], true),
                "no process is in the unit claim.service",
                "systemctl status claim.service",
            ),
            (
                unit(&[], false),
                "no process is in the unit claim.service: systemd does not run here",
                "holdup list",
            ),
            (
                unit(&[(7, "claims.service")], true),
                "no process is in the unit claim.service",
                "holdup record --unit claims.service",
            ),
            (group(true), "the control group /a is empty", "holdup list"),
            (
                group(false),
                "there is no control group /a",
                "cat /proc/PID/cgroup, for where a process is",
            ),
            (
                container,
                "no process is in a container whose id begins with 0123",
                "docker ps, or holdup list",
            ),
            (
                FindError::Containers {
                    id: "0123".into(),
                    ids,
                },
                "the ids of 2 containers begin with 0123",
                "holdup record --container 0123456789ab",
            ),
        ] {
            let error = Error::from(error);
            assert_eq!(error.chain(), says);
            assert_eq!(error.suggestion(), Some(hint), "{says}");
            assert_eq!(error.exit_status(), Exit::Failure);
        }
    }

    #[test]
    fn errors_of_the_rooms_keep_their_words_and_get_hints() {
        let error = Error::from(TargetError::Gone(Pid(7)));
        assert_eq!(error.chain(), "no process has pid 7");
        assert_eq!(error.suggestion(), Some("pgrep -a NAME"));
        let error = Error::from(TargetError::Thread {
            tid: Pid(8),
            owner: Pid(7),
        });
        assert_eq!(error.suggestion(), Some("holdup record -p 7"));
        let run = |kind: io::ErrorKind| {
            Error::from(LaunchError::Run {
                program: "x".into(),
                source: kind.into(),
            })
        };
        let error = run(io::ErrorKind::NotFound);
        assert_eq!(error.chain(), "cannot run x: entity not found");
        assert!(
            error
                .suggestion()
                .is_some_and(|hint| hint.contains("command -v x"))
        );
        assert_eq!(
            run(io::ErrorKind::PermissionDenied).suggestion(),
            Some("ls -l x")
        );
        assert_eq!(
            Error::from(LaunchError::NoCommand).exit_status(),
            Exit::Usage
        );
    }

    #[test]
    fn those_of_others_are_listed_in_part() {
        let others: Vec<Found> = (1..=25)
            .map(|pid| Found {
                pid: Pid(pid),
                user: Some(4_000_000_000 + pid),
            })
            .collect();
        let error = |others| {
            Error::from(FindError::NoneOfUser {
                user: 7,
                selection: Selection::of_all(vec![Selector::Name("x".into())]),
                others,
            })
        };
        let many = error(others);
        assert_eq!(
            many.chain(),
            "no process of the user with the id 7 is called x"
        );
        assert_eq!(many.details().len(), MAX_LISTED + 1);
        assert_eq!(
            many.details().last().map(String::as_str),
            Some("and 5 more")
        );
        assert_eq!(many.suggestion(), Some("--user 4000000001"));
        assert_eq!(error(Vec::new()).suggestion(), Some("holdup list"));
    }
}
