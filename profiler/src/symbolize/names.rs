//! Symbols to frames, and one copy of each name.

use super::crates::modules_of;
use super::debug_process::Place;
use super::demangle::{Mangling, demangle};
use super::frame::{Frame, Naming, Origin, Space};
use super::image::Image;
use super::limits::{MAX_NAME, MAX_NAMES, SHORT_NAME, cut};
use super::origin;
use crate::units::Addr;
use std::collections::HashSet;
use std::sync::Arc;

/// One copy of each name, however many frames bear it.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashSet<Arc<str>>,
    /// Bytes of all names that were ever made: frames keep them.
    bytes: usize,
}

impl Names {
    /// The copy of `name`, which is shorter where it is too long.
    pub(super) fn intern(&mut self, name: &str) -> Arc<str> {
        let most = match self.bytes {
            0..MAX_NAMES => MAX_NAME,
            _ => SHORT_NAME,
        };
        let name = cut(name, most);
        if let Some(known) = self.known.get(&*name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.bytes = self.bytes.saturating_add(name.len());
        self.known.insert(Arc::clone(&name));
        name
    }

    /// Forgets which names there are.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

/// Makes frames of one module out of symbols.
pub(super) struct Namer<'a> {
    pub(super) names: &'a mut Names,
    pub(super) image: &'a mut Image,
    pub(super) module: &'a Arc<str>,
}

impl Namer<'_> {
    /// The frame of a symbol.
    pub(super) fn frame(&mut self, symbol: &str, place: Option<&Place>, inlined: bool) -> Frame {
        let demangled = demangle(symbol);
        let (file, line) = self.location(place);
        let origin = match demangled.mangling {
            Mangling::Cpp => Origin::System,
            // Nothing in C needs the crates, and finding those takes time.
            Mangling::None if demangled.krate.is_none() && file.is_none() => Origin::System,
            _ => origin::of_crate(
                demangled.krate.as_deref(),
                file.as_deref(),
                self.image.crates(self.module),
            ),
        };
        // Code that was merged from several places has a file and line 0: any of theirs. It only
        // serves to tell the crate of what has no path.
        let file = file.filter(|_| line.is_some() || demangled.krate.is_none());
        let has_path = demangled.krate.is_some() || demangled.name.contains("::");
        let is_ours = matches!(origin, Origin::Application | Origin::Dependency);
        let modules = file.as_deref().filter(|_| inlined && is_ours && !has_path);
        let modules = modules.and_then(|file| {
            let own = self.image.crates(self.module).own.as_deref();
            modules_of(file, own)
        });
        let (function, naming) = match modules {
            Some(modules) => {
                let name = format!("{modules}::{}", closure_of_module(&demangled.name));
                (self.names.intern(&name), Naming::SourcePath)
            }
            None => (self.names.intern(&demangled.name), Naming::Symbol),
        };
        Frame {
            function,
            space: Space::User,
            naming,
            origin,
            inlined,
            file,
            line,
            module: Some(Arc::clone(self.module)),
            address: Addr(0),
            start: None,
            place: None,
        }
    }

    /// A place in the source, as frames have it.
    pub(super) fn location(&mut self, place: Option<&Place>) -> (Option<Arc<str>>, Option<u32>) {
        match place {
            Some(place) => (Some(self.names.intern(&place.file)), place.line),
            None => (None, None),
        }
    }
}

/// A closure whose function is not known is told as one: `{closure#0}` is left out where it stands behind
/// its function, and would leave the module alone here.
fn closure_of_module(name: &str) -> String {
    let number = name
        .strip_prefix("{closure#")
        .and_then(|rest| rest.strip_suffix('}'));
    number.map_or_else(|| name.to_owned(), |number| format!("{{closure {number}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closure_of_a_module_stays_one() {
        assert_eq!(closure_of_module("{closure#0}"), "{closure 0}");
        assert_eq!(closure_of_module("{async_fn#0}"), "{async_fn#0}");
        assert_eq!(closure_of_module("main"), "main");
    }

    #[test]
    fn one_copy_of_each_name_and_short_ones_when_there_are_many() {
        let mut names = Names::default();
        let first = names.intern("app::main");
        assert!(Arc::ptr_eq(&first, &names.intern("app::main")));
        let long = |n: usize| format!("{n}{}", "x".repeat(MAX_NAME));
        for n in 0..MAX_NAMES / MAX_NAME {
            assert_eq!(names.intern(&long(n)).len(), MAX_NAME);
        }
        assert!(names.intern(&long(1 << 20)).len() <= SHORT_NAME);
        assert!(Arc::ptr_eq(&first, &names.intern("app::main")));
    }
}
