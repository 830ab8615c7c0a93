//! Services of bug reports: each in three builds, attached to in full swing and recorded from its first
//! instruction, and once in a library of a host that knows nothing of tokio. What is to be said of them is what
//! the program measured of itself.

use super::check_field::{self, Known, Moment};
use super::fixture::{Profile, Variant};
use super::library;
use super::live_recording::{Recorded, Recording};
use super::privilege;
use children::{Child, Lines};
use libtest_mimic::{Failed, Trial};
use std::collections::VecDeque;
use std::io::Write as _;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

/// Until a case is in full swing.
const RUNNING: Duration = Duration::from_secs(60);
/// For how long it is recorded then: longer than the second after which a service counts as wedged.
const WATCHED: Duration = Duration::from_millis(1_500);
/// Recordings at once. Most of what they do is to wait.
const AT_ONCE: usize = 3;

const CASES: [&str; 11] = [
    "saturated",
    "deadlock",
    "deep_deadlock",
    "two_runtimes_wedge",
    "current_thread",
    "two_runtimes_starve2",
    "runtime_churn_recreate",
    "runtime_churn_lib",
    "local_set",
    "deep_pool",
    "actix",
];

const PROFILES: [Profile; 3] = [Profile::Release, Profile::Stripped, Profile::Small];

/// Builds that are about unwinding, and the cases that show whether it succeeds: one in which every wait counts,
/// and one with many frames.
const HARD_TO_UNWIND: [Profile; 4] = [
    Profile::NoUnwindTables,
    Profile::FramePointers,
    Profile::StrippedNoUnwindTables,
    Profile::StrippedFramePointers,
];
const OF_UNWINDING: [&str; 2] = ["saturated", "deep_deadlock"];

/// Whose code the case is part of, and when it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// A program that is in full swing.
    Attached,
    /// A program that holdup starts.
    FromTheStart,
    /// A library in a program in C, in full swing.
    InC,
    /// A library in Python, in full swing.
    InPython,
}

impl How {
    const fn name(self) -> &'static str {
        match self {
            How::Attached => "attached",
            How::FromTheStart => "from_the_start",
            How::InC => "library_in_c",
            How::InPython => "library_in_python",
        }
    }
}

/// One recording of a case.
#[derive(Clone, Copy, Debug)]
struct Take {
    case: &'static str,
    profile: Profile,
    how: How,
}

/// Every take of a case, recorded together.
struct Case {
    takes: Vec<Take>,
    /// What is wrong with each of them.
    complaints: OnceLock<Vec<Result<(), String>>>,
}

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    let cases = CASES.iter().enumerate();
    let trials = cases.flat_map(|(n, name)| {
        let case: &'static Case = Box::leak(Box::new(Case {
            takes: takes(name, n),
            complaints: OnceLock::new(),
        }));
        let takes = case.takes.iter().enumerate();
        takes.map(move |(n, take)| {
            Trial::ignorable_test(take.name(), move || {
                privilege::unless_skipped(privilege::missing(), || case.complaint(n))
            })
        })
    });
    trials.collect()
}

/// In each build and way, and once in a library: each host and each build in turn.
fn takes(case: &'static str, n: usize) -> Vec<Take> {
    let mut takes = Vec::new();
    let hard = OF_UNWINDING.contains(&case).then_some(HARD_TO_UNWIND);
    for profile in PROFILES.into_iter().chain(hard.into_iter().flatten()) {
        for how in [How::Attached, How::FromTheStart] {
            takes.push(Take { case, profile, how });
        }
    }
    let how = [How::InC, How::InPython][n % 2];
    let profile = [Profile::Stripped, Profile::Small][n / 2 % 2];
    takes.push(Take { case, profile, how });
    takes
}

impl Case {
    fn complaint(&self, n: usize) -> Result<(), Failed> {
        let all = self.complaints.get_or_init(|| together(&self.takes));
        all.get(n).ok_or("it was not recorded")?.clone()?;
        Ok(())
    }
}

/// Records some at a time.
fn together(takes: &[Take]) -> Vec<Result<(), String>> {
    let mut complaints = vec![Err("nobody recorded it".to_owned()); takes.len()];
    let waiting: VecDeque<_> = complaints.iter_mut().zip(takes).collect();
    let waiting = Mutex::new(waiting);
    let next = || waiting.lock().ok()?.pop_front();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((complaint, take)) = next() {
                    *complaint = take.run();
                }
            });
        }
    });
    complaints
}

impl Take {
    fn name(self) -> String {
        let Take { case, profile, how } = self;
        format!("field::{case}::{}_{}", profile.name(), how.name())
    }

    const fn variant(self) -> Variant {
        Variant {
            package: "field",
            profile: self.profile,
        }
    }

    /// What one recording has wrong, a second of the same has to have wrong, too: they compare times.
    fn run(self) -> Result<(), String> {
        let complaints = self.recorded()?;
        if complaints.is_empty() {
            return Ok(());
        }
        println!(
            "{} again, because of: {}",
            self.name(),
            complaints.join("; ")
        );
        match self.recorded()?.join("\n") {
            none if none.is_empty() => Ok(()),
            complaints => Err(complaints),
        }
    }

    fn recorded(self) -> Result<Vec<String>, String> {
        let (recorded, since, until) = match self.how {
            How::FromTheStart => self.recorded_from_the_start()?,
            _ => self.attached()?,
        };
        let moments = (&since, &until);
        Ok(check_field::compare(
            &recorded.report,
            self.known(),
            moments,
        ))
    }

    fn known(self) -> Known {
        let is_stripped = self.variant().named().is_some();
        Known {
            names: !is_stripped && self.profile != Profile::Small,
        }
    }

    fn command(self) -> Result<Command, String> {
        let variant = self.variant();
        let mut command = match self.how {
            How::Attached | How::FromTheStart => {
                let mut program = Command::new(variant.build()?);
                program.arg(self.case);
                program
            }
            How::InC => library::host_in_c(&variant.library("field")?)?,
            How::InPython => library::host_in_python(&variant.library("field")?),
        };
        command.env("FIELD_CASE", self.case);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(command)
    }

    fn attached(self) -> Result<(Recorded, Moment, Moment), String> {
        let mut process = Child::spawn("the case", &mut self.command()?)?;
        let mut case = Running::of(&mut process)?;
        if matches!(self.how, How::InC | How::InPython) {
            case.lines
                .find("`ready`", RUNNING, |line| line == "ready")?;
            case.say("go")?;
        }
        case.until_running()?;
        let recording = Recording::start(&["-p", &process.id().to_string()])?;
        let since = case.moment()?;
        thread::sleep(WATCHED);
        let until = case.moment()?;
        let recorded = recording.stop()?;
        drop(case);
        process.wait(RUNNING)?;
        Ok((recorded, since, until))
    }

    fn recorded_from_the_start(self) -> Result<(Recorded, Moment, Moment), String> {
        let command = self.command()?;
        let mut recording = Recording::start_with(&["--"], |holdup| {
            holdup.arg(command.get_program()).args(command.get_args());
            holdup.stdin(Stdio::piped()).stdout(Stdio::piped());
        })?;
        let mut case = Running::of(&mut recording.holdup)?;
        case.until_running()?;
        thread::sleep(WATCHED);
        let until = case.moment()?;
        // holdup ends the program.
        Ok((recording.stop()?, Moment::default(), until))
    }
}

/// A case that listens.
struct Running {
    stdin: ChildStdin,
    lines: Lines,
}

impl Running {
    fn of(process: &mut Child) -> Result<Running, String> {
        Ok(Running {
            stdin: process.stdin()?,
            lines: process.stdout()?,
        })
    }

    fn say(&mut self, word: &str) -> Result<(), String> {
        let said = writeln!(self.stdin, "{word}");
        said.map_err(|error| format!("the case does not listen: {error}"))
    }

    fn until_running(&mut self) -> Result<(), String> {
        self.lines
            .find("`running`", RUNNING, |line| line == "running")?;
        Ok(())
    }

    /// What is true so far.
    fn moment(&mut self) -> Result<Moment, String> {
        self.say("now")?;
        let line = self
            .lines
            .find("truth", RUNNING, |line| line.starts_with('{'))?;
        serde_json::from_str(&line).map_err(|error| format!("bad truth: {error}: {line}"))
    }
}
