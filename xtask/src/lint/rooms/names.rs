//! The paths that a file names, as they are written.

use proc_macro2::{TokenStream, TokenTree};
use syn::ext::IdentExt as _;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Token, UseTree};

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
        let joined = |name: &syn::Ident| [prefix, &[text_of(name)]].concat();
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
            _ => text_of(name),
        };
        self.paths.push(Written {
            segments,
            line: ident.span().start().line,
            how: How::Import { name, public },
        });
    }

    /// Paths in what a macro is given, each within `prefix`. Whether the macro makes paths of them is
    /// not known.
    fn scan(&mut self, tokens: TokenStream, prefix: &[String]) {
        let mut path = prefix.to_vec();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match &token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) if colons == 2 && path.len() > prefix.len() => {
                    path.push(text_of(ident));
                    colons = 0;
                }
                // Of `use a::{b, c}`.
                TokenTree::Group(group) if colons == 2 && !path.is_empty() => {
                    self.scan(group.stream(), &path);
                    (path, colons) = (prefix.to_vec(), 0);
                }
                token => {
                    self.scanned(std::mem::replace(&mut path, prefix.to_vec()), prefix, line);
                    (line, colons) = (token.span().start().line, 0);
                    match token {
                        TokenTree::Ident(ident) => path.push(text_of(ident)),
                        TokenTree::Group(group) => self.scan(group.stream(), &[]),
                        TokenTree::Literal(_) | TokenTree::Punct(_) => {}
                    }
                }
            }
        }
        self.scanned(path, prefix, line);
    }

    fn scanned(&mut self, mut path: Vec<String>, prefix: &[String], line: usize) {
        if path.len() == prefix.len() {
            return;
        }
        if path.len() > 1 {
            // Of `a::{self}`.
            path.pop_if(|last| last == "self");
        }
        self.name(path, line);
    }

    /// Paths that an attribute has in quotes, as `#[serde(with = "a::b")]`.
    fn quoted(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.quoted(group.stream()),
                TokenTree::Literal(literal) => {
                    let text = syn::parse_str::<syn::LitStr>(&literal.to_string());
                    if let Ok(path) = text.and_then(|text| text.parse::<syn::Path>()) {
                        self.name(segments(&path), literal.span().start().line);
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    fn name(&mut self, segments: Vec<String>, line: usize) {
        if !segments.is_empty() {
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
        let attributes = match item {
            syn::ImplItem::Const(item) => &item.attrs[..],
            syn::ImplItem::Fn(item) => &item.attrs,
            syn::ImplItem::Macro(item) => &item.attrs,
            syn::ImplItem::Type(item) => &item.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none()
            && let Some(first) = path.segments.first()
        {
            self.name(segments(path), first.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.scan(call.tokens.clone(), &[]);
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let is_one_of = |names: &[&str]| names.iter().any(|name| attribute.path().is_ident(name));
        if is_one_of(WORDS) || is_one_of(&["cfg_attr"]) && needs_test(&attribute.meta) {
            return;
        }
        self.visit_path(attribute.path());
        if let syn::Meta::List(list) = &attribute.meta {
            self.scan(list.tokens.clone(), &[]);
            self.quoted(list.tokens.clone());
        }
    }

    // `pub(in crate::x)` says who may look, not who is looked at.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

/// Attributes that name what the code does not depend on: documentation, lints, conditions.
const WORDS: &[&str] = &[
    "allow",
    "cfg",
    "deny",
    "deprecated",
    "doc",
    "expect",
    "forbid",
    "must_use",
    "path",
    "warn",
];

/// Whether `#[cfg(test)]` or the like stands before it.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    let mut conditions = attributes.iter().filter(|a| a.path().is_ident("cfg"));
    conditions.any(|condition| needs_test(&condition.meta))
}

/// Whether a condition holds in tests only. Of `cfg_attr` the condition counts, which comes first.
fn needs_test(condition: &syn::Meta) -> bool {
    let syn::Meta::List(list) = condition else {
        return condition.path().is_ident("test");
    };
    let parts = Punctuated::<syn::Meta, Token![,]>::parse_terminated;
    let Ok(parts) = list.parse_args_with(parts) else {
        return false;
    };
    let mut parts = parts.iter();
    let is = |name: &str| list.path.is_ident(name);
    if is("cfg_attr") {
        parts.next().is_some_and(needs_test)
    } else if is("any") {
        parts.len() > 0 && parts.all(needs_test)
    } else {
        (is("cfg") || is("all")) && parts.any(needs_test)
    }
}

/// A name without the `r#` of one that is a keyword, too.
fn text_of(ident: &proc_macro2::Ident) -> String {
    ident.unraw().to_string()
}

fn segments(path: &syn::Path) -> Vec<String> {
    let idents = path.segments.iter().map(|one| text_of(&one.ident));
    idents.collect()
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
    Some(text_of(ident))
}
