//! The paths that a file names, as they are written.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// A path in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    pub(super) how: How,
}

/// What a path does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// `use`, by the name that it brings in; whether others see it there.
    Import { name: String, public: bool },
    /// `use PATH::*`; whether others see it there.
    Glob { public: bool },
    /// Anywhere else.
    Use,
}

/// What a module holds.
#[derive(Default)]
pub(super) struct Content<'ast> {
    pub(super) paths: Vec<Written>,
    /// The names of its items.
    pub(super) items: Vec<String>,
    /// Its modules but those of tests.
    pub(super) modules: Vec<&'ast syn::ItemMod>,
}

impl<'ast> Content<'ast> {
    /// Of a file, or of a module that stands within one.
    pub(super) fn of(items: &'ast [Item]) -> Content<'ast> {
        let mut content = Content::default();
        for item in items {
            content.visit_item(item);
        }
        content
    }

    fn import(&mut self, tree: &UseTree, prefix: &[String], public: bool) {
        let joined = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        let (ident, name) = match tree {
            UseTree::Path(path) => return self.import(&path.tree, &joined(&path.ident), public),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, prefix, public);
                }
                return;
            }
            UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                return self.paths.push(Written {
                    segments: prefix.to_vec(),
                    line,
                    how: How::Glob { public },
                });
            }
            UseTree::Name(name) => (&name.ident, &name.ident),
            UseTree::Rename(rename) => (&rename.ident, &rename.rename),
        };
        let is_self = ident == "self" && !prefix.is_empty();
        let segments = if is_self {
            prefix.to_vec()
        } else {
            joined(ident)
        };
        let name = match segments.last() {
            Some(last) if name == "self" => last.clone(),
            _ => name.to_string(),
        };
        self.paths.push(Written {
            segments,
            line: ident.span().start().line,
            how: How::Import { name, public },
        });
    }

    /// Paths in what a macro is given. Whether the macro makes paths of them is not known.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            let ident = match &token {
                TokenTree::Ident(ident) => Some(ident.to_string()),
                _ => None,
            };
            match (&token, ident) {
                (TokenTree::Punct(punct), _) if punct.as_char() == ':' => colons += 1,
                (_, Some(ident)) if colons == 2 && !path.is_empty() => {
                    path.push(ident);
                    colons = 0;
                }
                (token, ident) => {
                    self.name(std::mem::take(&mut path), line);
                    (line, colons) = (token.span().start().line, 0);
                    path.extend(ident);
                    if let TokenTree::Group(group) = token {
                        self.scan(group.stream());
                    }
                }
            }
        }
        self.name(path, line);
    }

    fn name(&mut self, segments: Vec<String>, line: usize) {
        if segments.len() > 1 {
            self.paths.push(Written {
                segments,
                line,
                how: How::Use,
            });
        }
    }
}

impl<'ast> Visit<'ast> for Content<'ast> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        self.items.extend(name_of(item));
        match item {
            Item::Mod(module) => self.modules.push(module),
            Item::Use(import) if import.leading_colon.is_none() => {
                let public = !matches!(import.vis, syn::Visibility::Inherited);
                self.import(&import.tree, &[], public);
            }
            Item::Use(_) => {}
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let is_for_tests = match item {
            syn::ImplItem::Fn(function) => is_for_tests(&function.attrs),
            _ => false,
        };
        if !is_for_tests {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none()
            && let Some(first) = path.segments.first()
        {
            let segments = path.segments.iter().map(|one| one.ident.to_string());
            self.name(segments.collect(), first.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.scan(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    // Documentation and lints name what the code does not depend on.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    // `pub(in crate::x)` says who may look, not who is looked at.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

/// Whether `#[cfg(test)]` or the like stands before it.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    let has_test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| {
                let text = list.tokens.to_string();
                let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
                words.any(|word| word == "test") && !text.contains("not")
            })
    };
    attributes.iter().any(has_test)
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}
