//! Golden screens of `holdup top`, and what its keys do.
//!
//! To accept changed output, look at it first and then run the tests with `INSTA_UPDATE=always`.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

use holdup::analyze::{History, Trends, build};
use holdup::recording::Recording;
use holdup::tui::{Effect, Key, Look, Sort, Span, State, View, draw, keys, press};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use std::sync::Arc;

const PLAIN: Look = Look {
    color: false,
    ascii: false,
};

/// What is seen at the end of a recording.
fn view(recording: &Recording) -> View {
    let mut history = History::default();
    let mut trends = Trends::default();
    let mut report = build(recording);
    let mut numbers = Vec::new();
    for interval in &recording.intervals {
        history.add(&recording.tables, interval);
        numbers = trends.see(&recording.tables, &history, &mut report);
        trends.tick(&history);
    }
    View {
        elapsed: report.duration_ns,
        report: Arc::new(report),
        trends: trends.of(&numbers),
        lanes: history.lanes(&recording.tables, |thread| trends.runtime_of(thread)),
        ended: None,
    }
}

fn terminal(
    view: &View,
    state: &State,
    look: Look,
    (width, height): (u16, u16),
) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
    terminal
        .draw(|frame| draw(view, state, look, frame))
        .expect("in memory");
    terminal
}

/// The screen as text, without spaces at the ends of lines.
fn screen(view: &View, state: &State, look: Look, size: (u16, u16)) -> String {
    let terminal = terminal(view, state, look, size);
    let buffer = terminal.backend().buffer();
    let rows = buffer.content.chunks(usize::from(size.0));
    let rows = rows.map(|row| {
        // A wide sign takes the cell beside it, which is a space.
        let mut text = String::new();
        let mut skip = 0;
        for cell in row {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            text.push_str(cell.symbol());
            skip = unicode_width(cell.symbol()).saturating_sub(1);
        }
        text.trim_end().to_owned() + "\n"
    });
    rows.collect()
}

fn unicode_width(text: &str) -> usize {
    ratatui::text::Span::raw(text).width()
}

fn pressed(view: &View, keys: &[Key]) -> (State, Effect) {
    let mut state = State::default();
    let mut effect = Effect::None;
    for key in keys {
        (state, effect) = press(state, *key, view);
    }
    (state, effect)
}

const SIZES: [(u16, u16); 3] = [(60, 24), (100, 30), (200, 50)];

#[test]
fn screens() {
    for (name, recording) in [
        ("starved", recordings::starved()),
        ("held_lock", recordings::held_lock()),
        ("hostile", recordings::hostile()),
        ("several", recordings::several()),
        ("no_tokio", recordings::no_tokio()),
        (
            "in_intervals",
            recordings::in_intervals(&[1_000_000_000, 2_000_000_000, 3_000_000_000]),
        ),
    ] {
        let view = view(&recording);
        for (width, height) in SIZES {
            let text = screen(&view, &State::default(), PLAIN, (width, height));
            insta::assert_snapshot!(format!("{name}_{width}x{height}"), text);
        }
    }
}

#[test]
fn a_site_with_its_stack_and_its_chain() {
    for (name, recording) in [
        ("held_lock", recordings::held_lock()),
        ("hostile", recordings::hostile()),
    ] {
        let view = view(&recording);
        let (state, _) = pressed(&view, &[Key::Enter]);
        let text = screen(&view, &state, PLAIN, (100, 60));
        insta::assert_snapshot!(format!("{name}_site"), text);
    }
}

#[test]
fn in_ascii() {
    let ascii = Look {
        ascii: true,
        ..PLAIN
    };
    for (name, recording) in [
        ("starved", recordings::starved()),
        ("hostile", recordings::hostile()),
    ] {
        let view = view(&recording);
        for keys in [&[][..], &[Key::Enter], &[Key::Char('?')]] {
            let (state, _) = pressed(&view, keys);
            let text = screen(&view, &state, ascii, (100, 30));
            assert!(text.is_ascii(), "{name}: {text}");
        }
    }
}

#[test]
fn every_size_is_drawn_and_what_others_chose_obeys_nobody() {
    for (name, recording) in recordings::all() {
        let mut view = view(&recording);
        view.ended = Some("killed by \u{1b}[31m".to_owned());
        for size in [
            (1, 1),
            (39, 9),
            (40, 10),
            (60, 24),
            (80, 25),
            (119, 40),
            (300, 100),
        ] {
            for keys in [
                &[][..],
                &[Key::Enter],
                &[Key::Char('?')],
                &[Key::Char('/'), Key::Char('a')],
            ] {
                let (state, _) = pressed(&view, keys);
                let text = screen(&view, &state, PLAIN, size);
                let deceives =
                    |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
                assert!(
                    !text.contains(deceives),
                    "{name} {size:?} {keys:?}: {text:?}"
                );
            }
        }
    }
}

#[test]
fn without_colours_nothing_is_coloured() {
    let view = view(&recordings::starved());
    let colours = |look: Look| {
        let terminal = terminal(&view, &State::default(), look, (120, 40));
        let cells = terminal.backend().buffer().content.iter();
        cells
            .filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
            .count()
    };
    assert_eq!(colours(PLAIN), 0);
    let look = Look {
        color: true,
        ..PLAIN
    };
    assert!(colours(look) > 100);
}

#[test]
fn keys_sort_choose_and_open() {
    let view = view(&recordings::crowded());
    let order = |state: &State| {
        let text = screen(&view, state, PLAIN, (120, 50));
        let rows = text
            .lines()
            .skip_while(|line| !line.contains("BLOCKED IN"))
            .skip(1);
        rows.take_while(|line| !line.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let plain = order(&State::default());
    assert!(plain.len() > 5, "{plain:#?}");
    for (key, sort) in [
        ('t', Sort::Time),
        ('w', Sort::Waits),
        ('l', Sort::Longest),
        ('h', Sort::Harm),
    ] {
        let (state, effect) = pressed(&view, &[Key::Char(key)]);
        assert_eq!((state.sort, effect), (sort, Effect::None));
        let rows = order(&state);
        assert_eq!(rows.len(), plain.len());
    }
    let (down, _) = pressed(&view, &[Key::Down, Key::Char('j'), Key::Up]);
    assert!(order(&down)[1].starts_with('>'), "{:#?}", order(&down));
    let (last, _) = pressed(&view, &[Key::End]);
    let (over, _) = press(last.clone(), Key::Down, &view);
    assert_eq!(last.chosen, over.chosen);
    let (first, _) = press(over, Key::Home, &view);
    assert_eq!(order(&first), plain);
    let (open, _) = pressed(&view, &[Key::Down, Key::Enter]);
    let looked = open.looked.as_ref().expect("a site");
    let text = screen(&view, &open, PLAIN, (120, 50));
    assert!(text.contains("STACK") && looked.scroll == 0, "{text}");
    let (scrolled, _) = press(open.clone(), Key::PageDown, &view);
    assert_eq!(
        scrolled.looked.as_ref().map(|looked| looked.scroll),
        Some(10)
    );
    assert_eq!(scrolled.chosen, open.chosen);
    for key in [Key::Escape, Key::Enter] {
        assert!(press(open.clone(), key, &view).0.looked.is_none());
    }
}

#[test]
fn a_filter_leaves_what_has_it() {
    let view = view(&recordings::starved());
    let typed = |text: &str| {
        let mut keys = vec![Key::Char('/')];
        keys.extend(text.chars().map(Key::Char));
        pressed(&view, &keys).0
    };
    let all = screen(&view, &State::default(), PLAIN, (120, 40));
    let state = typed("LOCK");
    assert!(state.typing);
    let (state, _) = press(state, Key::Enter, &view);
    assert_eq!((state.typing, &*state.filter), (false, "LOCK"));
    let some = screen(&view, &state, PLAIN, (120, 40));
    assert!(some.contains("filter \"LOCK\""), "{some}");
    let none = typed("q/\u{1b}nowhere");
    assert_eq!(none.filter, "q/\u{1b}nowhere", "keys are letters meanwhile");
    let text = screen(&view, &none, PLAIN, (120, 40));
    assert!(text.contains("no site has"), "{text}");
    let (state, _) = press(none, Key::Escape, &view);
    assert_eq!(screen(&view, &state, PLAIN, (120, 40)), all);
    let (state, _) = press(typed("a"), Key::Backspace, &view);
    let (state, _) = press(state, Key::Backspace, &view);
    assert!(!state.typing && state.filter.is_empty());
}

#[test]
fn keys_with_effects() {
    let view = view(&recordings::starved());
    for (key, expected) in [
        (Key::Char('q'), Effect::Quit),
        (Key::Interrupt, Effect::Quit),
        (Key::Char('s'), Effect::Save),
        (Key::Char('r'), Effect::Span),
        (Key::Redraw, Effect::Redraw),
        (Key::Char('x'), Effect::None),
    ] {
        assert_eq!(pressed(&view, &[key]).1, expected, "{key:?}");
    }
    // While something is typed only Ctrl-C ends it.
    assert_eq!(
        pressed(&view, &[Key::Char('/'), Key::Char('q')]).1,
        Effect::None
    );
    assert_eq!(
        pressed(&view, &[Key::Char('/'), Key::Interrupt]).1,
        Effect::Quit
    );
    let spans: Vec<Span> = (1..=4)
        .map(|presses| pressed(&view, &vec![Key::Char('r'); presses]).0.span)
        .collect();
    assert_eq!(
        spans,
        [Span::Last(15), Span::Last(60), Span::Whole, Span::Last(5)]
    );
    let (paused, _) = pressed(&view, &[Key::Char('p')]);
    assert!(screen(&view, &paused, PLAIN, (80, 24)).contains(" PAUSED\n"));
    assert!(!press(paused, Key::Char('p'), &view).0.paused);
    let zoomed = pressed(&view, &[Key::Char('-'); 9]).0;
    assert!(screen(&view, &zoomed, PLAIN, (80, 40)).contains("a cell is 4.00 s"));
    assert_eq!(
        pressed(&view, &[Key::Char('-'), Key::Char('+'), Key::Char('+')])
            .0
            .zoom,
        0
    );
}

#[test]
fn whatever_is_typed_the_screen_is_drawn() {
    let view = view(&recordings::crowded());
    let mut state = State::default();
    let mut seed = 7_u64;
    for _ in 0..3_000 {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bytes = [(seed >> 33) as u8 & 0x7f, (seed >> 41) as u8];
        let from = usize::from(seed >> 63 == 0);
        for key in keys(&bytes[..=from]) {
            (state, _) = press(state, key, &view);
        }
        if seed >> 58 == 0 {
            screen(&view, &state, PLAIN, (80, 24));
        }
    }
}
