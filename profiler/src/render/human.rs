//! Numbers as people read them.

pub use crate::counted::count;
use crate::units::Nanos;

/// `1.24 s`, `203 ms`, `81.0 µs`, `7 ns`, `12 min 03 s`: three digits, enough to compare and no
/// more than is sure. Never exponents.
#[must_use]
pub fn duration(time: Nanos) -> String {
    const UNITS: [(f64, &str); 3] = [(1e3, "µs"), (1e6, "ms"), (1e9, "s")];
    if time.0 < 1_000 {
        return format!("{} ns", time.0);
    }
    let seconds = (time.0.saturating_add(500_000_000)) / 1_000_000_000;
    if seconds >= 3_600 {
        let minutes = (seconds + 30) / 60;
        return format!("{} h {:02} min", count(minutes / 60), minutes % 60);
    }
    if seconds >= 600 {
        return format!("{} min {:02} s", seconds / 60, seconds % 60);
    }
    for (unit, name) in UNITS {
        let value = time.0 as f64 / unit;
        // 999.6 µs would round to 1000 µs: it is 1.00 ms.
        if value < 999.5 || name == "s" {
            return format!("{} {name}", three_digits(value));
        }
    }
    format!("{} ns", time.0)
}

fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// `41.3 %`, `100 %`, `0 %`; `<0.1 %` where a little is left.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent <= 0.0 || percent.is_nan() {
        "0 %".to_owned()
    } else if percent < 0.1 {
        "<0.1 %".to_owned()
    } else if percent < 99.95 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (81_000, "81.0 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (203_400_000, "203 ms"),
            (999_600_000, "1.00 s"),
            (1_239_000_000, "1.24 s"),
            (9_996_000_000, "10.0 s"),
            (120_000_000_000, "120 s"),
            (599_499_999_999, "599 s"),
            (599_600_000_000, "10 min 00 s"),
            (723_000_000_000, "12 min 03 s"),
            (3_599_600_000_000, "1 h 00 min"),
            (7_500_000_000_000, "2 h 05 min"),
            (u64::MAX, "5,124,095 h 35 min"),
        ] {
            assert_eq!(duration(Nanos(nanos)), text, "{nanos}");
        }
    }

    #[test]
    fn shares_are_never_rounded_to_nothing() {
        for (share, text) in [
            (0.0, "0 %"),
            (0.000_01, "<0.1 %"),
            (0.001, "0.1 %"),
            (0.4131, "41.3 %"),
            (0.9996, "100 %"),
            (1.0, "100 %"),
            (f64::NAN, "0 %"),
        ] {
            assert_eq!(percent(share), text, "{share}");
        }
    }
}
