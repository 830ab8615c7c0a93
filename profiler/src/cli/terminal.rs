//! What a terminal can show, by the environment.

use super::args::When;
use std::ffi::OsString;

/// The value of a variable of the environment.
type Var<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// Whether the terminal may not be able to show more than ASCII: it says so itself, or the locale has
/// an encoding that is not UTF-8. The first of these variables that is set decides (POSIX, XBD 8.2).
pub(super) fn is_plain(var: &Var<'_>) -> bool {
    let given = |name: &str| var(name).filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(given);
    let is_utf8 = locale.is_none_or(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        // A container that sets no locale at all has the terminal of the machine around it.
        locale.contains("utf-8") || locale.contains("utf8")
    });
    is_dumb(var) || !is_utf8
}

/// Whether the terminal says that it can do no more than write one line after the other.
pub(super) fn is_dumb(var: &Var<'_>) -> bool {
    var("TERM").is_some_and(|term| term == "dumb")
}

/// Whether to use colors on a stream that is a terminal or not.
pub(super) fn may_color(when: When, var: &Var<'_>, is_terminal: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        // https://no-color.org: set and not empty.
        When::Auto => {
            let refused = var("NO_COLOR").is_some_and(|value| !value.is_empty());
            is_terminal && !refused && !is_dumb(var)
        }
    }
}
