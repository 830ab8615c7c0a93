//! `holdup top`.

use super::capture::{CaptureFile, CaptureSink};
use super::engine::{Recorder, Sink};
use super::error::{Error, Result};
use super::exit::Exit;
use super::gate::OpenGate;
use super::interrupt::{Stop, WantsReport};
use super::live::{Live, Moment};
use super::output::{self, IsStdout, Written};
use super::progress::Progress;
use super::record;
use super::screen::{self, Screen};
use super::settings::{Destination, OutputSpec};
use super::targets::{self, Chosen};
use super::top_capture::Said;
use super::top_save::Saver;
use super::top_settings::{Saving, TopSettings};
use crate::analyze::{Analyzer, History, Trends};
use crate::host::Features;
use crate::host::privileges::{self, Keep};
use crate::process::{Streams, Target, status_text};
use crate::recording::Interval;
use crate::render::{self, Format};
use crate::report::Report;
use crate::tui::{Effect, Key, Span, State, View, press};
use crate::units::Nanos;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::Stdin;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Single waits of the last intervals that are kept.
const MOST_WAITS: usize = 200_000;
/// What is kept of them at most, in seconds: the longest span.
const LONGEST_SPAN: u32 = 60;
/// A report is made anew so seldom that it takes one part in so many of a CPU's time.
const REPORTS: u32 = 80;

/// Shows what is recorded until a key ends it, and then prints the report.
///
/// # Errors
/// Where nothing can be recorded or shown.
pub(crate) fn top(
    settings: &TopSettings,
    features: &Features,
    progress: &Progress,
    stop: Stop,
) -> Result<Exit> {
    let Chosen {
        targets,
        mut launched,
    } = targets::open_with(&settings.target, settings.invoker.as_ref(), Streams::Null)?;
    let Some(target) = targets.first().map(Arc::clone) else {
        return Err(Error::new("there is no process to watch"));
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new("cannot start tokio").because(error))?;
    let mut saver = Saver::new(settings, target.pid());
    let capture = match &settings.saving {
        Saving::AllAlong(spec) => {
            let (time, invoker) = (SystemTime::now(), settings.invoker.as_ref());
            let file = CaptureFile::prepare(spec, target.pid(), time, settings.force, invoker);
            Some(file)
        }
        Saving::ByKey { .. } => None,
    };
    let capture = capture.transpose()?;
    let mut needed = privileges::RECORDING;
    if launched.is_some() {
        needed |= privileges::ENDING;
    }
    let keep = Keep::least(needed, settings.invoker.as_ref(), || {
        let capture = capture.as_ref();
        saver.can_finish() && capture.is_none_or(|capture| capture.file().can_commit())
    });
    let mut live =
        runtime.block_on(async { Live::start(&targets, features, &settings.recording, keep) })?;
    if let Saving::ByKey {
        report: Some(spec), ..
    } = &settings.saving
    {
        live.keep(spec.format.keep());
    }
    let capture = capture.map(|capture| capture.begin(&live.header(), progress));
    let capture = capture.transpose()?;
    let refused = saver.begin(&live.header()).map(str::to_owned);
    if let Some(launched) = &mut launched {
        launched.release();
    }
    let begun = Instant::now();
    let mut screen = Screen::enter(settings.look)
        .map_err(|error| Error::new("cannot draw on this terminal").because(error))?;
    let mut session = Session::new(saver, capture, stop.wants_report());
    session.state.message = refused;
    let mut keyboard = Keyboard { stop };
    let left = runtime.block_on(keyboard.while_recording(&mut live, &mut screen, &mut session))?;
    let elapsed = begun.elapsed();
    let (ended, launched) = record::how_it_ended(&target, launched);
    let report = Arc::new(live.finish(ended.clone(), session.sink())?.into_whole());
    session.save_if_wanted(&report);
    if left == Left::TargetsEnded {
        session.end(&report, ended.clone(), elapsed);
        runtime.block_on(keyboard.afterwards(&mut screen, &mut session))?;
    }
    drop(screen);
    screen::restore();
    if let Some(said) = session.saved_at_last() {
        progress.say(&said);
    }
    for other in targets.iter().filter(|target| target.ended()) {
        progress.say(&record::end_line(
            other,
            &ended_how(other, &target, ended.as_deref()),
            elapsed,
        ));
    }
    if let Some(launched) = launched {
        record::end_command(&target, launched, &runtime, progress);
    }
    let mut written = print(settings, &report, &target)?;
    if let Some(mut capture) = session.capture.take() {
        written.files.extend(capture.finish());
        written.capture_failed = capture.has_failed();
    }
    record::conclude(&report, written, &OpenGate::default(), progress)
}

fn ended_how(target: &Target, first: &Target, ended: Option<&str>) -> String {
    match ended {
        Some(ended) if target.pid() == first.pid() => ended.to_owned(),
        _ => status_text(target.exit_status()),
    }
}

/// The report of the whole recording.
fn print(settings: &TopSettings, report: &Report, target: &Target) -> Result<Written> {
    let stdout = OutputSpec {
        destination: Destination::Stdout,
        format: Format::Text,
    };
    let outputs = output::prepare(&[stdout], target.pid(), SystemTime::now(), false, None)?;
    Ok(output::write_all(
        outputs,
        |format: Format, _: IsStdout, out: &mut dyn std::io::Write| {
            render::render(format, report, &settings.rendering, out)
        },
    ))
}

/// Why nothing is shown any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Somebody wanted it, or the terminal is gone.
    Asked,
    /// There is nothing left to record.
    TargetsEnded,
}

/// What has been seen, and what is shown of it.
struct Session<'a> {
    saver: Saver<'a>,
    capture: Option<CaptureSink<'a>>,
    state: State,
    /// What is on the screen.
    shown: Option<View>,
    /// What came in since the screen was held.
    latest: Option<View>,
    history: History,
    trends: Trends,
    /// The last intervals, and their single waits.
    recent: VecDeque<Interval>,
    waits: usize,
    /// The report that is shown, and the numbers of its runtimes.
    report: Option<(Arc<Report>, Vec<usize>)>,
    /// When the next one is made.
    due: Instant,
    /// Whether a report is to be saved: by a key, or by a signal.
    wants_save: bool,
    wants_report: WantsReport,
    /// The report of everything, once there is nothing left to record.
    last: Option<Arc<Report>>,
}

impl<'a> Session<'a> {
    fn new(
        saver: Saver<'a>,
        capture: Option<CaptureSink<'a>>,
        wants_report: WantsReport,
    ) -> Session<'a> {
        Session {
            saver,
            capture,
            state: State::default(),
            shown: None,
            latest: None,
            history: History::default(),
            trends: Trends::default(),
            recent: VecDeque::new(),
            waits: 0,
            report: None,
            due: Instant::now(),
            wants_save: false,
            wants_report,
            last: None,
        }
    }

    /// Where intervals go besides.
    fn sink(&mut self) -> Option<&mut dyn Sink> {
        match &mut self.capture {
            Some(capture) => Some(capture),
            None => self.saver.seen().map(|seen| seen as &mut dyn Sink),
        }
    }

    /// What is said of what is saved.
    fn said(&mut self) -> Option<Arc<Said>> {
        self.saver.seen().map(|seen| seen.said())
    }

    fn heed_what_is_said(&mut self) {
        if let Some(text) = self.said().and_then(|said| said.take()) {
            self.state.message = Some(text);
        }
    }

    /// Whoever asked in the last second did so before the end.
    fn save_if_wanted(&mut self, report: &Report) {
        if std::mem::take(&mut self.wants_save) | self.wants_report.take() {
            self.state.message = Some(self.saver.save(report));
        }
    }

    /// Waits for what is being saved. Returns what nobody has seen of it.
    fn saved_at_last(&mut self) -> Option<String> {
        let seen = self.saver.seen()?;
        seen.finish();
        seen.said().take()
    }

    /// Takes an interval in.
    fn take(&mut self, moment: &Moment<'_>, interval: Interval) {
        if let Some(sink) = self.sink() {
            sink.take(moment.tables, interval.clone());
        }
        self.history.add(moment.tables, &interval);
        let elapsed = interval.end - moment.header.start;
        self.keep(interval);
        let began = Instant::now();
        if began >= self.due || self.report.is_none() {
            let mut report = self.report(moment);
            let numbers = self.trends.see(moment.tables, &self.history, &mut report);
            self.report = Some((Arc::new(report), numbers));
            let took = began.elapsed();
            self.due = began + took.saturating_mul(REPORTS);
        }
        self.trends.tick(&self.history);
        if std::mem::take(&mut self.wants_save) | self.wants_report.take() {
            let whole = moment.analyzer.report(moment.header, moment.tables);
            self.state.message = Some(self.saver.save(&whole));
        }
        let Some((report, numbers)) = &self.report else {
            return;
        };
        let view = View {
            report: Arc::clone(report),
            trends: self.trends.of(numbers),
            lanes: self
                .history
                .lanes(moment.tables, |thread| self.trends.runtime_of(thread)),
            elapsed,
            ended: None,
        };
        self.show(view);
    }

    fn keep(&mut self, interval: Interval) {
        self.waits += interval.waits.len();
        self.recent.push_back(interval);
        let longest = Nanos(u64::from(LONGEST_SPAN) * 1_000_000_000);
        while self.recent.len() > 1 && (self.waits > MOST_WAITS || self.length(1) >= longest) {
            let gone = self.recent.pop_front();
            self.waits -= gone.map_or(0, |gone| gone.waits.len());
        }
    }

    /// The length of all intervals but the first ones.
    fn length(&self, skipped: usize) -> Nanos {
        let intervals = self.recent.iter().skip(skipped);
        intervals
            .map(|interval| interval.end - interval.start)
            .sum()
    }

    /// Of the span that was chosen.
    fn report(&self, moment: &Moment<'_>) -> Report {
        let Span::Last(seconds) = self.state.span else {
            return moment.analyzer.report(moment.header, moment.tables);
        };
        let wanted = Nanos(u64::from(seconds) * 1_000_000_000);
        let mut skipped = self.recent.len().saturating_sub(1);
        while skipped > 0 && self.length(skipped) < wanted {
            skipped -= 1;
        }
        let mut analyzer = Analyzer::new(moment.header);
        for interval in self.recent.iter().skip(skipped) {
            analyzer.merge(moment.tables, interval);
        }
        analyzer.report(moment.header, moment.tables)
    }

    fn show(&mut self, view: View) {
        if self.state.paused && self.shown.is_some() {
            self.latest = Some(view);
            return;
        }
        self.state.renew(&view);
        self.shown = Some(view);
    }

    /// The targets ended: what was shown last stays, and what can be saved is the whole.
    fn end(&mut self, report: &Arc<Report>, ended: Option<String>, elapsed: Duration) {
        self.last = Some(Arc::clone(report));
        let ended = Some(ended.unwrap_or_else(|| "ended".to_owned()));
        let mut view = self.latest.take().or_else(|| self.shown.take());
        if let Some(view) = &mut view {
            view.ended = ended;
            self.state.paused = false;
            self.state.renew(view);
            self.shown = view.clone().into();
            return;
        }
        // It ended within its first second.
        self.shown = Some(View {
            report: Arc::clone(report),
            trends: Vec::new(),
            lanes: Vec::new(),
            elapsed: elapsed.into(),
            ended,
        });
    }

    /// Takes a key in.
    fn press(&mut self, key: Key) -> Effect {
        let Some(view) = &self.shown else {
            // Nothing is shown yet.
            return match key {
                Key::Char('q') | Key::Interrupt => Effect::Quit,
                _ => Effect::None,
            };
        };
        let (state, effect) = press(std::mem::take(&mut self.state), key, view);
        self.state = state;
        match effect {
            Effect::Save => match &self.last {
                Some(report) => self.state.message = Some(self.saver.save(report)),
                None => {
                    self.wants_save = true;
                    self.state.message = Some("saving".to_owned());
                }
            },
            Effect::Span => {
                self.due = Instant::now();
                self.span_of_ended();
            }
            _ => {}
        }
        if !self.state.paused
            && let Some(view) = self.latest.take()
        {
            self.show(view);
        }
        effect
    }

    /// Of a recording that has ended only the whole can be had.
    fn span_of_ended(&mut self) {
        if let (Some(report), Some(view)) = (&self.last, &mut self.shown) {
            self.state.span = Span::Whole;
            view.report = Arc::clone(report);
            view.trends.clear();
        }
    }
}

/// What comes from outside while something is shown.
struct Keyboard {
    stop: Stop,
}

/// What happened.
enum Event {
    Keys,
    Resized,
    Asked,
    Changed,
    Ended(Result<()>),
}

impl Keyboard {
    async fn while_recording(
        &mut self,
        live: &mut Live,
        screen: &mut Screen,
        session: &mut Session<'_>,
    ) -> Result<Left> {
        let changed = Notify::new();
        let said = session.said();
        let session = RefCell::new(session);
        let run = live.watch(|moment, interval| {
            session.borrow_mut().take(moment, interval);
            changed.notify_one();
        });
        let changed = (&changed, said.as_deref());
        self.events(run, changed, screen, |act| act(&mut session.borrow_mut()))
            .await
    }

    async fn afterwards(&mut self, screen: &mut Screen, session: &mut Session<'_>) -> Result<Left> {
        let never = std::future::pending();
        let said = session.said();
        let changed = (&Notify::new(), said.as_deref());
        self.events(never, changed, screen, |act| act(session))
            .await
    }

    /// Draws whenever something changed, or something is said of what is saved, until somebody wants to leave.
    async fn events(
        &mut self,
        run: impl Future<Output = Result<()>>,
        (changed, said): (&Notify, Option<&Said>),
        screen: &mut Screen,
        mut with: impl FnMut(&mut dyn FnMut(&mut Session<'_>)),
    ) -> Result<Left> {
        let stdin = std::io::stdin();
        // SAFETY: nobody closes standard input.
        let keys = unsafe { AsyncFd::register_with_interest(stdin, Interest::READABLE) }
            .map_err(|error| Error::new("cannot watch the keyboard").because(error.to_string()))?;
        let mut resized = signal(SignalKind::window_change())
            .map_err(|error| Error::new("cannot watch the terminal's size").because(error))?;
        let mut run = pin!(run);
        loop {
            let mut gone = false;
            with(&mut |session| {
                session.heed_what_is_said();
                if let Some(view) = &session.shown {
                    gone |= screen.draw(view, &session.state).is_err();
                }
            });
            if gone {
                return Ok(Left::Asked);
            }
            let event = tokio::select! {
                () = self.stop.requested() => Event::Asked,
                () = readable(&keys) => Event::Keys,
                _ = resized.recv() => Event::Resized,
                () = changed.notified() => Event::Changed,
                () = anything(said) => Event::Changed,
                ended = &mut run => Event::Ended(ended),
            };
            match event {
                Event::Asked => return Ok(Left::Asked),
                Event::Changed => {}
                Event::Ended(ended) => return ended.map(|()| Left::TargetsEnded),
                Event::Resized => {
                    if screen.fit().is_err() {
                        return Ok(Left::Asked);
                    }
                }
                Event::Keys => {
                    let Some(typed) = screen::typed(keys.get_ref()) else {
                        return Ok(Left::Asked);
                    };
                    for key in typed {
                        let mut effect = Effect::None;
                        with(&mut |session| effect = session.press(key));
                        match effect {
                            Effect::Quit => return Ok(Left::Asked),
                            Effect::Redraw if screen.fit().is_err() => return Ok(Left::Asked),
                            _ => {}
                        }
                    }
                }
            }
        }
    }
}

/// Waits until something is said of what is saved.
async fn anything(said: Option<&Said>) {
    match said {
        Some(said) => said.changed().await,
        None => std::future::pending().await,
    }
}

/// Waits until something was typed, or the terminal is gone.
async fn readable(keys: &AsyncFd<Stdin>) {
    match keys.readable().await {
        Ok(mut ready) => ready.clear_ready(),
        Err(_) => std::future::pending().await,
    }
}
