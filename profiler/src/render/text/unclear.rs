//! Why nothing better can be said than that it is not clear.

use super::style::WARN;
use super::verdict_words::Words;
use crate::recording::Process;
use crate::render::{percent, sanitize};
use crate::report::UnclearReason;

/// Why nothing better can be said, and what would help.
pub(super) fn unclear(
    who: &str,
    share: f64,
    reason: UnclearReason,
    process: Option<&Process>,
) -> Words {
    let what = format!(
        "What {who} did is unknown for {} of their time",
        percent(share)
    );
    let old = process.and_then(|process| process.tokio.not_understood.as_deref());
    let text = match reason {
        UnclearReason::UnknownTime => format!("{what}: see the losses below."),
        UnclearReason::ContextContradicted => format!(
            "{what}: tokio's thread-local context was contradicted and does not count. With the \
             symbols of the program or library that holds tokio, names would tell."
        ),
        UnclearReason::ContextMissing => format!(
            "{what}: tokio's thread-local context was not found, see the note below. With the \
             symbols of the program or library that holds tokio, names would tell."
        ),
        UnclearReason::NotUnderstood => format!(
            "{what}: the program holds tokio {}, which is too old to be understood. Record it \
             with tokio 1.20 or newer.",
            sanitize(old.unwrap_or_default())
        ),
        UnclearReason::OutsidePolls => format!(
            "{who} stood still for {} of their time outside every poll, in tokio's own code or in a \
             hook or a waker that it called: see below where. With the symbols of the program, names \
             would tell which.",
            percent(share)
        ),
        UnclearReason::NoWorkerSeen => format!(
            "There is tokio, but none of {who} was seen to work for a runtime. Record for \
             longer, or under load."
        ),
    };
    Words::new(WARN, "UNCLEAR", text)
}
