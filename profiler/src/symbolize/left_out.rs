//! What was not read of modules.

use super::source::ModuleSource;

/// Modules that were not read to the end, since it would have cost too much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Those whose functions are shown without source lines and inlined functions.
    pub lines: u64,
    /// Those whose functions are shown by their addresses.
    pub names: u64,
    /// What is to be told of each, up to a hundred of them: `NAME: WHY`.
    pub problems: Vec<String>,
}

/// Problems told one by one.
const MAX_PROBLEMS: usize = 100;

impl LeftOut {
    /// A module whose source lines are not read, and why.
    pub(super) fn lines(&mut self, source: &ModuleSource, why: &str) {
        self.lines += 1;
        self.tell(source, &format!("{why}: source lines are missing"));
    }

    /// A module whose functions are not named, and why.
    pub(super) fn names(&mut self, source: &ModuleSource, why: &str) {
        self.names += 1;
        self.tell(
            source,
            &format!("{why}: its functions are shown by their addresses"),
        );
    }

    fn tell(&mut self, source: &ModuleSource, problem: &str) {
        tracing::warn!(module = %source.name.escape_debug(), "{problem}");
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(format!("{}: {problem}", source.name));
        }
    }
}
