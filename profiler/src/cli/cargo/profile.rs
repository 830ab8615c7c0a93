//! Whether a build profile leaves names in what it builds, and what makes it do so.

use toml::Table;

/// Profiles inherit from each other; a circle is cargo's to refuse.
const DEEPEST: usize = 16;

/// The variables by which cargo builds `profile` with names and lines, where neither it nor one that it
/// inherits from, in any of `manifest` and `configs`, says which debug information there is to be. A profile
/// that strips its names is told not to.
pub(super) fn names(
    profile: &str,
    manifest: &Table,
    configs: &[Table],
) -> Vec<(String, &'static str)> {
    let all: Vec<&Table> = configs.iter().chain([manifest]).collect();
    let prefix = format!("CARGO_PROFILE_{}", profile.to_uppercase().replace('-', "_"));
    let variable = |name: &str| format!("{prefix}_{name}");
    let is_set = |name: &str| std::env::var_os(variable(name)).is_some();
    let mut variables = Vec::new();
    let chosen = setting(profile, "debug", &all).is_some() || is_set("DEBUG");
    if !chosen && !ends_in_dev(profile, &all) {
        variables.push((variable("DEBUG"), "limited"));
    }
    let strips = setting(profile, "strip", &all).is_some_and(|strip| {
        let kept = strip.as_bool() == Some(false) || strip.as_str() == Some("none");
        !kept
    });
    if strips && !is_set("STRIP") {
        variables.push((variable("STRIP"), "none"));
    }
    variables
}

/// A setting of a profile, or of the nearest one that it inherits from and that has it.
fn setting<'a>(profile: &str, name: &str, all: &[&'a Table]) -> Option<&'a toml::Value> {
    let mut profile = profile.to_owned();
    for _ in 0..DEEPEST {
        let of = |table: &&'a Table| section(table, &profile).and_then(|of| of.get(name));
        if let Some(value) = all.iter().find_map(of) {
            return Some(value);
        }
        profile = parent(&profile, all)?;
    }
    None
}

/// Whether a profile is dev, which has all debug information, or inherits from it.
fn ends_in_dev(profile: &str, all: &[&Table]) -> bool {
    let mut profile = profile.to_owned();
    for _ in 0..DEEPEST {
        match parent(&profile, all) {
            Some(next) => profile = next,
            None => return profile == "dev",
        }
    }
    false
}

fn parent(profile: &str, all: &[&Table]) -> Option<String> {
    match profile {
        "dev" | "release" => None,
        "test" => Some("dev".to_owned()),
        "bench" => Some("release".to_owned()),
        custom => {
            let inherits = |table: &&Table| {
                let inherits = section(table, custom)?.get("inherits")?;
                Some(inherits.as_str()?.to_owned())
            };
            all.iter().find_map(inherits)
        }
    }
}

fn section<'a>(table: &'a Table, profile: &str) -> Option<&'a Table> {
    table.get("profile")?.as_table()?.get(profile)?.as_table()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().expect("TOML")
    }

    fn of(profile: &str, manifest: &str) -> Vec<(String, &'static str)> {
        names(profile, &table(manifest), &[])
    }

    #[test]
    fn a_release_gets_names_unless_it_was_decided() {
        let limited = |name: &str| vec![(format!("CARGO_PROFILE_{name}_DEBUG"), "limited")];
        assert_eq!(of("release", ""), limited("RELEASE"));
        assert_eq!(of("bench", ""), limited("BENCH"));
        assert_eq!(
            of("my-fast", "[profile.my-fast]\ninherits = \"release\""),
            limited("MY_FAST")
        );
        for chosen in ["debug = true", "debug = 0", "debug = \"line-tables-only\""] {
            assert_eq!(of("release", &format!("[profile.release]\n{chosen}")), []);
            assert_eq!(of("bench", &format!("[profile.release]\n{chosen}")), []);
        }
        let config = table("[profile.release]\ndebug = 1");
        assert_eq!(names("release", &table(""), &[config]), []);
    }

    #[test]
    fn dev_has_them() {
        assert_eq!(of("dev", ""), []);
        assert_eq!(of("test", ""), []);
        assert_eq!(
            of("x", "[profile.x]\ninherits = \"dev\"\nopt-level = 3"),
            []
        );
    }

    #[test]
    fn nothing_is_stripped() {
        let stripped = of("release", "[profile.release]\ndebug = 1\nstrip = true");
        assert_eq!(
            stripped,
            [("CARGO_PROFILE_RELEASE_STRIP".to_owned(), "none")]
        );
        assert_eq!(
            of("release", "[profile.release]\ndebug = 1\nstrip = false"),
            []
        );
        assert_eq!(
            of("release", "[profile.release]\ndebug = 1\nstrip = \"none\""),
            []
        );
    }

    #[test]
    fn a_circle_ends() {
        let circle = "[profile.a]\ninherits = \"b\"\n[profile.b]\ninherits = \"a\"";
        assert_eq!(of("a", circle).len(), 1);
    }
}
