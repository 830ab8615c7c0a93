//! Which debuginfod servers are asked for debug files: those that the environment names, as elfutils has it.

use crate::capture::Debuginfod;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What elfutils takes.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Debug files of large programs have some 100 MB.
const MAX_SIZE: u64 = 1 << 30;

/// The servers of `DEBUGINFOD_URLS`; none where there is no variable, or no home for what they send. Words that
/// are no address of a server are passed over.
pub(super) fn of(var: &dyn Fn(&str) -> Option<OsString>) -> Option<Debuginfod> {
    let text = |name: &str| {
        let value = var(name).filter(|value| !value.is_empty())?;
        value.into_string().ok()
    };
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok().filter(|&n| n > 0);
    let urls = text("DEBUGINFOD_URLS")?;
    let is_address = |word: &&str| word.starts_with("http://") || word.starts_with("https://");
    let servers: Vec<String> = urls
        .split_whitespace()
        .filter(is_address)
        .map(str::to_owned)
        .collect();
    if servers.is_empty() {
        return None;
    }
    let cache = match text("DEBUGINFOD_CACHE_PATH") {
        Some(path) => PathBuf::from(path),
        None => {
            let home = || Some(PathBuf::from(text("HOME")?).join(".cache"));
            let caches = text("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
            caches.join("debuginfod_client")
        }
    };
    Some(Debuginfod {
        servers,
        cache,
        timeout: number("DEBUGINFOD_TIMEOUT").map_or(TIMEOUT, Duration::from_secs),
        max_size: number("DEBUGINFOD_MAXSIZE").unwrap_or(MAX_SIZE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Option<Debuginfod> {
        let var = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).into())
        };
        of(&var)
    }

    #[test]
    fn no_server_is_asked_unless_the_environment_names_one() {
        assert_eq!(with(&[("HOME", "/h")]), None);
        assert_eq!(with(&[("DEBUGINFOD_URLS", ""), ("HOME", "/h")]), None);
        assert_eq!(
            with(&[
                ("DEBUGINFOD_URLS", "ima:enforcing file:///x"),
                ("HOME", "/h")
            ]),
            None
        );
        assert_eq!(
            with(&[("DEBUGINFOD_URLS", "http://a")]),
            None,
            "nowhere to keep it"
        );
    }

    #[test]
    fn variables_are_those_of_elfutils() {
        let home = ("HOME", "/h");
        let urls = ("DEBUGINFOD_URLS", "http://a/ https://b");
        let default = with(&[urls, home]).expect("servers");
        assert_eq!(default.servers, ["http://a/", "https://b"]);
        assert_eq!(default.cache, PathBuf::from("/h/.cache/debuginfod_client"));
        assert_eq!((default.timeout, default.max_size), (TIMEOUT, MAX_SIZE));
        let set = [
            urls,
            ("XDG_CACHE_HOME", "/c"),
            ("DEBUGINFOD_TIMEOUT", "7"),
            ("DEBUGINFOD_MAXSIZE", "1000"),
        ];
        let set = with(&set).expect("servers");
        assert_eq!(set.cache, PathBuf::from("/c/debuginfod_client"));
        assert_eq!((set.timeout, set.max_size), (Duration::from_secs(7), 1_000));
        let path = with(&[urls, home, ("DEBUGINFOD_CACHE_PATH", "/d")]).expect("servers");
        assert_eq!(path.cache, PathBuf::from("/d"));
    }
}
