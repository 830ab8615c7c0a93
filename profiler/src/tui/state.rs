//! What the reader chose, and what keys change of it.

use super::text::process;
use super::view::{SiteId, View, is_listed};
use crate::render::display_name;
use crate::report::{Report, Site};
use std::cmp::Reverse;
use std::sync::Arc;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A letter, a sign or a space.
    Char(char),
    /// Return.
    Enter,
    /// Escape.
    Escape,
    /// To the left of the cursor.
    Backspace,
    /// An arrow.
    Up,
    /// An arrow.
    Down,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// To the first.
    Home,
    /// To the last.
    End,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-L.
    Redraw,
}

/// What is to be done beyond drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The view ends.
    Quit,
    /// A report of what was seen so far is to be written.
    Save,
    /// Another span of time is to be shown.
    Span,
    /// Everything is to be drawn anew: something else wrote on the screen.
    Redraw,
}

/// By what sites are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By harm, then by time.
    #[default]
    Harm,
    /// By blocked time.
    Time,
    /// By the number of waits.
    Waits,
    /// By the longest wait.
    Longest,
}

/// Of which time runtimes and sites are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Of the last seconds.
    Last(u32),
    /// Since the beginning.
    Whole,
}

/// The spans in turn.
pub const SPANS: [Span; 4] = [Span::Last(5), Span::Last(15), Span::Last(60), Span::Whole];

/// A site that is looked at.
#[derive(Clone, Debug)]
pub struct Looked {
    /// As it was seen last.
    pub site: Arc<Site>,
    /// Lines scrolled past.
    pub scroll: usize,
}

/// What the reader chose.
#[derive(Clone, Debug)]
pub struct State {
    /// The order of sites.
    pub sort: Sort,
    /// Only sites that have this text somewhere.
    pub filter: String,
    /// Whether the filter is being typed.
    pub typing: bool,
    /// Whether the screen stands still. The recording goes on.
    pub paused: bool,
    /// The chosen site; none for the first.
    pub chosen: Option<SiteId>,
    /// The site whose stack is shown.
    pub looked: Option<Looked>,
    /// Whether the keys are explained.
    pub help: bool,
    /// Slices a cell of a lane, as a power of two.
    pub zoom: u32,
    /// Of which time.
    pub span: Span,
    /// What became of the last command.
    pub message: Option<String>,
}

impl Default for State {
    fn default() -> State {
        State {
            sort: Sort::default(),
            filter: String::new(),
            typing: false,
            paused: false,
            chosen: None,
            looked: None,
            help: false,
            zoom: 0,
            span: Span::Last(5),
            message: None,
        }
    }
}

/// Lines of a page of sites or of a stack.
const PAGE: usize = 10;
/// Letters of a filter.
const LONGEST_FILTER: usize = 200;
/// A cell of a lane is at most sixteen slices.
const MOST_ZOOM: u32 = 4;

/// What the reader has chosen after `key`.
#[must_use]
pub fn press(mut state: State, key: Key, view: &View) -> (State, Effect) {
    state.message = None;
    let effect = match key {
        Key::Interrupt => Effect::Quit,
        Key::Redraw => Effect::Redraw,
        key if state.typing => type_filter(&mut state, key),
        key if state.help => {
            state.help = false;
            if key == Key::Char('q') {
                Effect::Quit
            } else {
                Effect::None
            }
        }
        key => command(&mut state, key, view),
    };
    (state, effect)
}

fn type_filter(state: &mut State, key: Key) -> Effect {
    match key {
        Key::Enter => state.typing = false,
        Key::Escape => {
            state.typing = false;
            state.filter.clear();
        }
        Key::Backspace => {
            state.typing = state.filter.pop().is_some();
        }
        Key::Char(c) if state.filter.chars().count() < LONGEST_FILTER => state.filter.push(c),
        _ => {}
    }
    Effect::None
}

fn command(state: &mut State, key: Key, view: &View) -> Effect {
    match key {
        Key::Char('q') => return Effect::Quit,
        Key::Char('s') => return Effect::Save,
        Key::Char('?') => state.help = true,
        Key::Char('p' | ' ') => state.paused = !state.paused,
        Key::Char('/') => {
            state.looked = None;
            state.typing = true;
        }
        Key::Char('h') => state.sort = Sort::Harm,
        Key::Char('t') => state.sort = Sort::Time,
        Key::Char('w') => state.sort = Sort::Waits,
        Key::Char('l') => state.sort = Sort::Longest,
        Key::Char('r') => {
            let now = SPANS.iter().position(|span| *span == state.span);
            let next = now.map_or(0, |now| (now + 1) % SPANS.len());
            state.span = SPANS.get(next).copied().unwrap_or(state.span);
            return Effect::Span;
        }
        Key::Char('-') => state.zoom = (state.zoom + 1).min(MOST_ZOOM),
        Key::Char('+' | '=') => state.zoom = state.zoom.saturating_sub(1),
        Key::Enter => enter(state, view),
        Key::Escape => {
            if state.looked.take().is_none() {
                state.filter.clear();
            }
        }
        key => step(state, key, view),
    }
    Effect::None
}

/// Opens the chosen site, or closes it.
fn enter(state: &mut State, view: &View) {
    if state.looked.take().is_some() {
        return;
    }
    let sites = listed(view, state);
    let site = sites.get(chosen(state, &sites));
    state.looked = site.map(|site| Looked {
        site: Arc::new((*site).clone()),
        scroll: 0,
    });
}

fn step(state: &mut State, key: Key, view: &View) {
    let sites = listed(view, state);
    let last = sites.len().saturating_sub(1);
    let at = match &state.looked {
        Some(looked) => looked.scroll,
        None => chosen(state, &sites),
    };
    let to = match key {
        Key::Up | Key::Char('k') => at.saturating_sub(1),
        Key::Down | Key::Char('j') => at.saturating_add(1),
        Key::PageUp => at.saturating_sub(PAGE),
        Key::PageDown => at.saturating_add(PAGE),
        Key::Home | Key::Char('g') => 0,
        Key::End | Key::Char('G') => usize::MAX,
        _ => return,
    };
    match &mut state.looked {
        // Whoever draws it knows where it ends.
        Some(looked) => looked.scroll = to.min(looked.site.stack.len().saturating_add(60)),
        None => state.chosen = sites.get(to.min(last)).map(|site| SiteId::of(site)),
    }
}

/// The index of the chosen site; the first where it is gone.
pub(super) fn chosen(state: &State, sites: &[&Site]) -> usize {
    let id = state.chosen.as_ref();
    let index = id.and_then(|id| sites.iter().position(|site| id.is_of(site)));
    index.unwrap_or(0)
}

impl State {
    /// After another view came in: the site that is looked at is shown as it is now.
    pub fn renew(&mut self, view: &View) {
        if let Some(looked) = &mut self.looked {
            let id = SiteId::of(&looked.site);
            let mut sites = view.report.sites.iter();
            if let Some(site) = sites.find(|site| id.is_of(site)) {
                looked.site = Arc::new(site.clone());
            }
        }
    }
}
/// The sites that are shown, in their order.
pub(super) fn listed<'a>(view: &'a View, state: &State) -> Vec<&'a Site> {
    let filter = state.filter.to_lowercase();
    let report = &*view.report;
    let mut sites: Vec<&Site> = report
        .sites
        .iter()
        .filter(|site| is_listed(site.state))
        .filter(|site| filter.is_empty() || has(report, site, &filter))
        .collect();
    // The sort is stable: of equals the report's order stays.
    match state.sort {
        Sort::Harm => sites.sort_by_key(|site| Reverse((site.harm_ns, site.total_ns))),
        Sort::Time => sites.sort_by_key(|site| Reverse(site.total_ns)),
        Sort::Waits => sites.sort_by_key(|site| Reverse(site.waits)),
        Sort::Longest => sites.sort_by_key(|site| Reverse(site.max_ns)),
    }
    sites
}

/// Whether a site has a text in anything that is shown of it.
fn has(report: &Report, site: &Site, filter: &str) -> bool {
    let within = |text: &str| text.to_lowercase().contains(filter);
    within(&display_name(&site.function))
        || within(&site.function)
        || site.task.as_deref().is_some_and(within)
        || site.file.as_deref().is_some_and(within)
        || within(&site.wait)
        || within(&site.call)
        || within(site.cause.name())
        || site.objects.iter().any(|object| within(&object.name))
        || site.wakers.iter().any(|waker| within(&waker.thread))
        || process(report, site.pid).is_some_and(|name| within(&name))
}
