//! The modules of a crate, and which names which.

use super::names::{Content, How, Written};
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::ext::IdentExt as _;

/// So many times a name may be handed on from module to module.
const MOST_HANDS: usize = 16;

/// A module.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// From the crate's root.
    path: Vec<String>,
    /// Number of its file.
    pub(super) file: usize,
    pub(super) children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    /// Names that `use` brings in, and what they stand for, as written.
    imports: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
}

/// A path from one module to another one.
#[derive(Debug)]
pub(super) struct Mention {
    /// Number of the module that it stands in.
    pub(super) from: usize,
    /// From the crate's root.
    path: Vec<String>,
    line: usize,
    how: How,
}

/// A path into [`SHARED`].
#[derive(Debug)]
pub(super) struct Shared {
    /// Number of the module that it stands in.
    pub(super) from: usize,
    /// The module of the crate that is shared; `*` for all of them.
    pub(super) module: String,
    pub(super) line: usize,
}

/// The crate that both sides share, of which [`Shared`] tells.
const SHARED: &str = "profiler_common";

/// A crate's modules but those of tests.
#[derive(Debug)]
pub(super) struct Tree {
    folder: PathBuf,
    /// Below the crate's folder.
    files: Vec<String>,
    pub(super) modules: Vec<Module>,
    pub(super) mentions: Vec<Mention>,
    pub(super) shared: Vec<Shared>,
}

impl Tree {
    /// Number of the crate's root.
    pub(super) const ROOT: usize = 0;

    /// Reads the crate of which `first` is the first file.
    pub(super) fn read(folder: &Path, first: &str) -> Result<Tree> {
        let mut tree = Tree {
            folder: folder.to_owned(),
            files: Vec::new(),
            modules: Vec::new(),
            mentions: Vec::new(),
            shared: Vec::new(),
        };
        let mut written = Vec::new();
        tree.read_file(&folder.join(first), Vec::new(), folder, &mut written)?;
        for (from, path) in written {
            if let Some((SHARED, rest)) = path.segments.split_first().map(|(a, b)| (a.as_str(), b))
            {
                tree.shared.push(Shared {
                    from,
                    module: rest.first().map_or("*", String::as_str).to_owned(),
                    line: path.line,
                });
                continue;
            }
            let absolute = match &path.segments[..] {
                // What a module imports by name is named there already.
                [name] if path.how == How::Use => tree.by_glob_alone(from, name),
                segments => tree.absolute(from, segments, MOST_HANDS),
            };
            if let Some(absolute) = absolute {
                tree.mentions.push(Mention {
                    from,
                    path: absolute,
                    line: path.line,
                    how: path.how,
                });
            }
        }
        Ok(tree)
    }

    /// Reads a file and those of the modules within, and returns the module's number.
    fn read_file(
        &mut self,
        file: &Path,
        path: Vec<String>,
        children_in: &Path,
        written: &mut Vec<(usize, Written)>,
    ) -> Result<usize> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let parsed =
            syn::parse_file(&text).with_context(|| format!("cannot parse {}", file.display()))?;
        let name = file.strip_prefix(&self.folder).unwrap_or(file);
        self.files.push(name.to_string_lossy().into_owned());
        let number = self.files.len() - 1;
        self.read_module(&parsed.items, path, number, children_in, written)
    }

    fn read_module(
        &mut self,
        items: &[syn::Item],
        path: Vec<String>,
        file: usize,
        children_in: &Path,
        written: &mut Vec<(usize, Written)>,
    ) -> Result<usize> {
        let number = self.modules.len();
        let content = Content::of(items);
        let mut module = Module {
            path: path.clone(),
            file,
            items: content.items.into_iter().collect(),
            ..Module::default()
        };
        for path in &content.paths {
            match &path.how {
                How::Import { name, .. } => {
                    module.imports.insert(name.clone(), path.segments.clone());
                }
                How::Glob { .. } => module.globs.push(path.segments.clone()),
                How::Use => {}
            }
        }
        self.modules.push(module);
        written.extend(content.paths.into_iter().map(|path| (number, path)));
        for child in content.modules {
            let name = child.ident.unraw().to_string();
            let below = children_in.join(&name);
            let path = [&path[..], std::slice::from_ref(&name)].concat();
            let child = match &child.content {
                Some((_, items)) => self.read_module(items, path, file, &below, written)?,
                None => {
                    let flat = children_in.join(format!("{name}.rs"));
                    let file = if flat.is_file() {
                        flat
                    } else {
                        below.join("mod.rs")
                    };
                    self.read_file(&file, path, &below, written)?
                }
            };
            self.modules[number].children.insert(name, child);
        }
        Ok(number)
    }

    /// A path of a module's source, from the crate's root; `None` where it leads to another crate
    /// or to something of the function that it stands in.
    fn absolute(&self, module: usize, path: &[String], hands: usize) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let here = &self.modules[module];
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" if rest.first().is_some_and(|next| next == "super") => {
                self.absolute(module, rest, hands)
            }
            "self" => Some([&here.path, rest].concat()),
            "super" => {
                let ups = path.iter().take_while(|one| *one == "super").count();
                let above = here.path.len().checked_sub(ups)?;
                Some([&here.path[..above], &path[ups..]].concat())
            }
            name if here.children.contains_key(name) || here.items.contains(name) => {
                Some([&here.path, path].concat())
            }
            name => {
                let start = match here.imports.get(name) {
                    Some(other) if other == path => None,
                    Some(other) => self.absolute(module, other, hands.checked_sub(1)?),
                    None => self.by_glob(module, name, hands),
                };
                Some([&start?, rest].concat())
            }
        }
    }

    /// What a name alone stands for, if a `use …::*` brings it in and it is no module.
    fn by_glob_alone(&self, module: usize, name: &str) -> Option<Vec<String>> {
        let here = &self.modules[module];
        let is_known = here.children.contains_key(name)
            || here.items.contains(name)
            || here.imports.contains_key(name);
        let path = (!is_known).then(|| self.by_glob(module, name, MOST_HANDS))?;
        path.filter(|path| !self.locate(path, MOST_HANDS).1)
    }

    /// The module that has what a path names; and whether the path names the module itself.
    fn locate(&self, path: &[String], hands: usize) -> (usize, bool) {
        let mut number = Tree::ROOT;
        for (n, name) in path.iter().enumerate() {
            let module = &self.modules[number];
            if let Some(child) = module.children.get(name) {
                number = *child;
                continue;
            }
            let handed_on = (!module.items.contains(name))
                .then(|| self.handed_on(number, name, hands))
                .flatten();
            return match handed_on {
                Some(start) => self.locate(&[&start, &path[n + 1..]].concat(), hands - 1),
                None => (number, false),
            };
        }
        (number, true)
    }

    /// What a name stands for that a module has by `use`.
    fn handed_on(&self, module: usize, name: &str, hands: usize) -> Option<Vec<String>> {
        let hands = hands.checked_sub(1)?;
        if let Some(path) = self.modules[module].imports.get(name) {
            return self.absolute(module, path, hands);
        }
        self.by_glob(module, name, hands)
    }

    /// What a name stands for that a `use …::*` of a module brings in.
    fn by_glob(&self, module: usize, name: &str, hands: usize) -> Option<Vec<String>> {
        let hands = hands.checked_sub(1)?;
        self.modules[module].globs.iter().find_map(|glob| {
            let start = self.absolute(module, glob, hands)?;
            let (other, is_module) = self.locate(&start, hands);
            let has = is_module
                && other != module
                && (self.modules[other].children.contains_key(name)
                    || self.modules[other].items.contains(name)
                    || self.handed_on(other, name, hands).is_some());
            has.then(|| [&start[..], &[name.to_owned()]].concat())
        })
    }

    /// The file that has what is named. None where it is a module as such, whose content is named
    /// elsewhere, or where a module shows what is within it.
    pub(super) fn file_named(&self, mention: &Mention) -> Option<usize> {
        let (to, is_module) = self.locate(&mention.path, MOST_HANDS);
        let to_file = self.modules[to].file;
        let is_within = self.is_within(to_file, self.modules[mention.from].file);
        match mention.how {
            How::Import { .. } if is_module => None,
            How::Import { public: true, .. } | How::Glob { public: true } if is_within => None,
            _ => Some(to_file),
        }
    }

    /// The room that a module belongs to; the root belongs to none.
    pub(super) fn room_of(&self, module: usize) -> Option<&str> {
        self.modules[module].path.first().map(String::as_str)
    }

    /// The room that is named, if it is one and not the root.
    pub(super) fn room_named(&self, mention: &Mention) -> Option<&str> {
        let first = mention.path.first()?;
        match self.modules[Tree::ROOT].children.get(first) {
            Some(room) => self.room_of(*room),
            None => self.room_of(self.locate(&mention.path, MOST_HANDS).0),
        }
    }

    /// Whether a file's module lies within another file's.
    pub(super) fn is_within(&self, file: usize, other: usize) -> bool {
        let path = |file: usize| {
            let module = self.modules.iter().find(|module| module.file == file);
            module.map_or(&[][..], |module| &module.path)
        };
        file != other && path(file).starts_with(path(other))
    }

    /// A file's name, below the crate's folder.
    pub(super) fn name(&self, file: usize) -> &str {
        &self.files[file]
    }

    /// `FILE:LINE`.
    pub(super) fn place(&self, mention: &Mention) -> String {
        self.line(mention.from, mention.line)
    }

    /// A line of the file that a module is in.
    pub(super) fn line(&self, module: usize, line: usize) -> String {
        let file = self.name(self.modules[module].file);
        format!("{file}:{}", line)
    }
}

/// A crate of these files.
#[cfg(test)]
pub(super) fn sample(files: &[(&str, &str)]) -> Tree {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    Tree::read(folder.path(), "lib.rs").expect("a crate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_files_and_within_files_are_read() {
        let tree = sample(&[
            ("lib.rs", "mod a; mod b { mod c; }\n#[cfg(test)]\nmod gone;"),
            ("a.rs", "mod x;"),
            ("a/x.rs", ""),
            ("b/c/mod.rs", "#[cfg(not(test))]\nmod d { }"),
        ]);
        assert_eq!(tree.files, ["lib.rs", "a.rs", "a/x.rs", "b/c/mod.rs"]);
        let paths: Vec<String> = tree.modules.iter().map(|m| m.path.join("::")).collect();
        assert_eq!(paths, ["", "a", "a::x", "b", "b::c", "b::c::d"]);
    }

    #[test]
    fn a_file_that_is_missing_or_broken_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = || {
            Tree::read(folder.path(), "lib.rs")
                .map(drop)
                .unwrap_err()
                .to_string()
        };
        assert!(read().contains("cannot read"));
        std::fs::write(folder.path().join("lib.rs"), "mod a").expect("a file");
        assert!(read().contains("cannot parse"));
    }
}
