//! A mode of the fixture that is recorded once, and the trials that look at the recording.

use super::check::Complaints;
use super::fixture::Variant;
use super::privilege;
use super::record::{Ending, Recorded, record};
use libtest_mimic::{Failed, Trial};
use std::sync::{Arc, OnceLock};

/// Looks at a recording.
pub(crate) type Check = fn(&Recorded) -> Complaints;

/// Checks that compare times. What else goes on on the machine, or on its host, may come between
/// two clocks; so what one recording has wrong, a second one of the same has to have wrong, too.
const OF_TIMES: &[&str] = &["blocked_times", "allowed_waits", "accounting", "states"];

/// One recording, made when the first of its trials asks for it.
pub(crate) struct Run {
    variant: Variant,
    mode: &'static str,
    ending: Ending,
    recorded: OnceLock<Result<Recorded, String>>,
    again: OnceLock<Result<Recorded, String>>,
}

impl Run {
    /// One of what `mode` of the fixture does, in a build of it.
    pub(crate) fn new(variant: Variant, mode: &'static str, ending: Ending) -> Arc<Run> {
        Arc::new(Run {
            variant,
            mode,
            ending,
            recorded: OnceLock::new(),
            again: OnceLock::new(),
        })
    }

    /// One trial for the recording itself and one for each check, so that a recording that failed shows
    /// once.
    pub(crate) fn trials(
        self: Arc<Run>,
        group: &str,
        checks: &[(&'static str, Check)],
    ) -> Vec<Trial> {
        let run = self.clone();
        let mut trials = vec![Trial::ignorable_test(
            format!("{group}::recording"),
            move || {
                privilege::unless_skipped(run.missing(), || {
                    run.recorded().map(drop).map_err(Failed::from)
                })
            },
        )];
        trials.extend(checks.iter().map(|(name, check)| {
            let (run, name, check) = (self.clone(), *name, *check);
            Trial::ignorable_test(format!("{group}::{name}"), move || {
                privilege::unless_skipped(run.missing(), || {
                    let recorded = run.recorded().map_err(|_| "there is no recording")?;
                    let mut complaints = check(recorded);
                    if !complaints.is_empty() && OF_TIMES.contains(&name) {
                        println!("recorded again, because of: {}", complaints.join("; "));
                        complaints = check(run.again()?);
                    }
                    if complaints.is_empty() {
                        Ok(())
                    } else {
                        Err(complaints.join("\n").into())
                    }
                })
            })
        }));
        trials
    }

    fn missing(&self) -> Option<String> {
        privilege::missing().or_else(|| self.variant.missing())
    }

    fn recorded(&self) -> Result<&Recorded, &String> {
        self.made(&self.recorded)
    }

    /// See [`OF_TIMES`].
    fn again(&self) -> Result<&Recorded, &String> {
        self.made(&self.again)
    }

    fn made<'a>(
        &self,
        place: &'a OnceLock<Result<Recorded, String>>,
    ) -> Result<&'a Recorded, &'a String> {
        place
            .get_or_init(|| record(self.variant, self.mode, self.ending))
            .as_ref()
    }
}
