//! Symbols to frames, and one copy of each name.

use super::crates::{folder_of, is_of_one_crate, modules_of};
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
    /// The physical function of the address, where a symbol has its crate and line tables its file.
    pub(super) around: Option<Around>,
}

/// A function into which others were inlined.
#[derive(Debug)]
pub(super) struct Around {
    krate: String,
    file: String,
}

impl Around {
    /// That of a symbol at a place.
    pub(super) fn of(symbol: &str, place: Option<&Place>) -> Option<Around> {
        let file = place?.file.clone();
        let krate = demangle(symbol).krate?;
        Some(Around { krate, file })
    }
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
        let file_of_path = file
            .as_deref()
            .filter(|_| inlined && !has_path(&demangled.name));
        let modules = file_of_path.and_then(|file| self.modules(file, origin));
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

    /// The path that the functions of a source file have, as well as it can be told from outside: by where
    /// cargo and rustc have the file; else its crate, which is that of the function around it if they are of
    /// one file, or the binary's own.
    fn modules(&mut self, file: &str, origin: Origin) -> Option<String> {
        let own = self.image.crates(self.module).own.as_deref();
        let around = self.around.as_ref();
        let around = around.filter(|around| is_of_one_crate(&around.file, file));
        let around = around.map(|around| around.krate.clone());
        let own_crate = own.filter(|_| origin == Origin::Application);
        modules_of(file, own, around.as_deref())
            .or(around)
            .or_else(|| own_crate.map(str::to_owned))
            .or_else(|| folder_of(file))
    }

    /// A place in the source, as frames have it.
    pub(super) fn location(&mut self, place: Option<&Place>) -> (Option<Arc<str>>, Option<u32>) {
        match place {
            Some(place) => (Some(self.names.intern(&place.file)), place.line),
            None => (None, None),
        }
    }
}

/// Whether a name says where its function stands. What it is generic over has paths in any case:
/// `poll<app::main::{async_fn_env#0}>`.
fn has_path(name: &str) -> bool {
    let (name, _) = name.split_once('<').unwrap_or((name, ""));
    name.is_empty() || name.contains("::")
}

/// A closure whose function is not known is told as one: `{closure#0}` is left out where it stands behind
/// its function, and would leave the module alone here.
fn closure_of_module(name: &str) -> String {
    let parts = name
        .strip_prefix("{closure#")
        .and_then(|rest| rest.split_once('}'));
    match parts {
        Some((number, arguments)) => format!("{{closure {number}}}{arguments}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closure_of_a_module_stays_one() {
        assert_eq!(closure_of_module("{closure#0}"), "{closure 0}");
        assert_eq!(closure_of_module("{closure#1}<a::T>"), "{closure 1}<a::T>");
        assert_eq!(closure_of_module("{async_fn#0}"), "{async_fn#0}");
        assert_eq!(closure_of_module("main"), "main");
    }

    #[test]
    fn generic_arguments_are_no_path() {
        for name in [
            "poll",
            "{closure#0}",
            "poll<app::F, core::S>",
            "call_once<fn() -> a::B>",
        ] {
            assert!(!has_path(name), "{name}");
        }
        for name in ["a::f", "a::f<b>", "<a::T as b::U>::f", "a::{closure#0}"] {
            assert!(has_path(name), "{name}");
        }
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
