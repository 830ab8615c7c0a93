//! Colours of flamegraph frames: the hue tells whose code a frame is.

use crate::runtime::State;
use crate::symbolize::{Frame, Naming, Origin};
use inferno::flamegraph::color::Color;

/// What a frame of a flamegraph is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The runtime at the root.
    Root,
    /// The state above it.
    State(State),
    /// The application.
    Application {
        /// Whether it was inlined.
        inlined: bool,
    },
    /// A third-party crate.
    Dependency,
    /// tokio and its like.
    Runtime,
    /// std, locks, channels.
    Library,
    /// libc.
    System,
    /// The kernel.
    Kernel,
    /// Not named, or not known.
    Nameless,
    /// Why a thread waited.
    Cause,
    /// The thread that ended a wait.
    Waker,
}

impl Kind {
    /// The kinds that a legend explains, with their labels (ASCII, no markup), but for states.
    const LEGEND: [(Kind, &'static str); 11] = [
        (Kind::Root, "process, runtime"),
        (Kind::Application { inlined: false }, "application"),
        (Kind::Application { inlined: true }, "inlined"),
        (Kind::Dependency, "crates"),
        (Kind::Runtime, "tokio"),
        (Kind::Library, "std"),
        (Kind::System, "libc"),
        (Kind::Kernel, "kernel"),
        (Kind::Nameless, "unnamed"),
        (Kind::Cause, "cause"),
        (Kind::Waker, "waker"),
    ];

    /// What a legend says of the kinds that there are, in its order.
    pub(super) fn legend(there: &[Kind]) -> Vec<(Kind, &'static str)> {
        let states = State::ALL.map(|state| (Kind::State(state), state.name()));
        let (first, rest) = Kind::LEGEND.split_at(1);
        let all = first.iter().chain(&states).chain(rest);
        all.filter(|(kind, _)| there.contains(kind))
            .copied()
            .collect()
    }

    /// The kind of a stack's frame.
    pub(super) fn of(frame: &Frame) -> Kind {
        match (frame.origin, frame.naming) {
            (Origin::Kernel, _) => Kind::Kernel,
            (_, Naming::Offset | Naming::Unmapped) | (Origin::Unknown, _) => Kind::Nameless,
            (Origin::Application, _) => Kind::Application {
                inlined: frame.inlined,
            },
            (Origin::Dependency, _) => Kind::Dependency,
            (Origin::Runtime, _) => Kind::Runtime,
            (Origin::Library, _) => Kind::Library,
            (Origin::System, _) => Kind::System,
        }
    }

    /// Hue in degrees, saturation and lightness, 0 to 1. Light enough for black text on them;
    /// the application alone is strong, so that the eye finds it.
    const fn hsl(self) -> (f64, f64, f64) {
        match self {
            Kind::Root => (0.0, 0.0, 0.82),
            Kind::State(State::Blocked) => (2.0, 0.80, 0.68),
            Kind::State(State::Runtime) => (275.0, 0.45, 0.76),
            Kind::State(State::Unknown | State::Stopped | State::Other) => (0.0, 0.0, 0.78),
            Kind::State(State::Running) => (140.0, 0.35, 0.72),
            Kind::State(State::Runnable) => (95.0, 0.45, 0.66),
            Kind::State(State::HandedOff) => (178.0, 0.40, 0.66),
            Kind::State(State::Pool) => (205.0, 0.40, 0.66),
            Kind::State(State::Idle) => (140.0, 0.15, 0.82),
            Kind::Application { inlined: false } => (24.0, 0.95, 0.60),
            Kind::Application { inlined: true } => (32.0, 0.95, 0.70),
            Kind::Dependency => (46.0, 0.80, 0.66),
            Kind::Runtime => (275.0, 0.40, 0.82),
            Kind::Library => (195.0, 0.45, 0.78),
            Kind::System => (165.0, 0.28, 0.78),
            Kind::Kernel => (215.0, 0.50, 0.72),
            Kind::Nameless => (0.0, 0.0, 0.86),
            Kind::Cause => (340.0, 0.70, 0.80),
            Kind::Waker => (75.0, 0.45, 0.72),
        }
    }

    /// The colour of a frame called `name`: neighbours of one kind differ a little in
    /// lightness, and the same name always has the same colour.
    pub(super) fn color(self, name: &str) -> Color {
        let (hue, saturation, lightness) = self.hsl();
        let shift = (f64::from(fnv1a(name)) / f64::from(u32::MAX) - 0.5) * 0.07;
        rgb(hue, saturation, lightness + shift)
    }
}

/// FNV-1a with 32 bits: stable across machines and versions, unlike the standard hasher.
/// Source: <https://www.ietf.org/archive/id/draft-eastlake-fnv-17.html>.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// HSL to RGB, as CSS Color 4 section 7.1 defines it.
fn rgb(hue: f64, saturation: f64, lightness: f64) -> Color {
    let amplitude = saturation * lightness.min(1.0 - lightness);
    let channel = |n: f64| -> u8 {
        let k = (n + hue / 30.0).rem_euclid(12.0);
        let value = lightness - amplitude * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
        (value.clamp(0.0, 1.0) * 255.0).round() as u8
    };
    Color {
        r: channel(0.0),
        g: channel(8.0),
        b: channel(4.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hsl_is_what_css_says() {
        let of = |h, s, l| {
            let Color { r, g, b } = rgb(h, s, l);
            (r, g, b)
        };
        assert_eq!(of(0.0, 1.0, 0.5), (255, 0, 0));
        assert_eq!(of(120.0, 1.0, 0.25), (0, 128, 0));
        assert_eq!(of(210.0, 0.5, 0.5), (64, 128, 191));
        assert_eq!(of(77.0, 0.0, 0.5), (128, 128, 128));
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(""), 0x811c_9dc5);
        assert_eq!(fnv1a("foobar"), 0xbf9c_f968);
    }
}
