//! Values of options, out of the words of the command line.

use crate::cause::Cause;
use crate::process::{Selector, user_names};
use crate::render::Format;
use crate::units::{Nanos, Pid};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use std::time::Duration;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    // The Greek letter, which keyboards give as often as the micro sign above.
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
];

const NO_TIME: &str = "not a time: 30s, 500ms, 1.5s, 1h30m";

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Format] {
        &Format::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let word = PossibleValue::new(self.name()).help(self.about());
        // The extension of a file is understood, too.
        Some(word.alias(self.extension()))
    }
}

/// How the name of a capture ends.
pub(crate) const CAPTURE: &str = ".holdup";

/// The long help of `--output` of `record`, with every format.
pub(crate) fn output_help() -> String {
    let capture = format!(
        "  {:<19}Capture: the whole recording, for holdup report and diff
",
        CAPTURE
    );
    formats_help(&capture)
}

/// The same of `report`, which writes no captures.
pub(crate) fn report_output_help() -> String {
    formats_help("")
}

fn formats_help(capture: &str) -> String {
    let mut text = "Also write a report to this file; may be given several times\n\n\
                    The extension chooses the format:\n"
        .to_owned();
    for format in Format::ALL {
        text.push_str(&format!(
            "  .{:<18}{}\n",
            format.extension(),
            format.about()
        ));
    }
    text.push_str(capture);
    text.push_str(
        "\n`-` is standard output, which always gets a report (see --format). In the name, %p \
         stands for the pid of the first target, %t for the time as 20261123T224500Z, and %% for \
         a percent sign.",
    );
    text
}

/// `--pid`: one process.
pub(crate) fn pid(text: &str) -> Result<Pid, String> {
    match text.parse::<u32>() {
        Ok(number) if number > 0 && i32::try_from(number).is_ok() => Ok(Pid(number)),
        _ => Err("not a process id: a number from 1 to 2147483647".into()),
    }
}

/// `--name`.
pub(crate) fn name(text: &str) -> Result<Selector, String> {
    if text.is_empty() || text.ends_with('/') {
        return Err("a name as in `ps -o comm`, the name of a file, or its path".into());
    }
    Ok(Selector::name(text))
}

/// `--user`: its id.
pub(crate) fn user(text: &str) -> Result<u32, String> {
    let named = || {
        let names = user_names();
        names
            .into_iter()
            .find_map(|(id, name)| (name == text).then_some(id))
    };
    // A name may be a number, but none that is another's id.
    text.parse().ok().or_else(named).ok_or_else(|| {
        "there is no such user in /etc/passwd here: a name, or a user id as in `ps -o ruid`".into()
    })
}

/// `--unit`.
pub(crate) fn unit(text: &str) -> Result<Selector, String> {
    if text.is_empty() || text.contains('/') {
        return Err("a unit's name as `systemctl` has it: claims.service".into());
    }
    Ok(Selector::unit(text))
}

/// `--cgroup`.
pub(crate) fn cgroup(text: &str) -> Result<Selector, String> {
    if text.is_empty() {
        return Err("the path of a control group: /system.slice/claims.service".into());
    }
    Ok(Selector::cgroup(text))
}

/// Digits of a container's id that tell enough.
const CONTAINER_DIGITS: std::ops::RangeInclusive<usize> = 4..=64;

/// `--container`.
pub(crate) fn container(text: &str) -> Result<Selector, String> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && CONTAINER_DIGITS.contains(&text.len()) {
        return Ok(Selector::container(text));
    }
    Err(
        "not a container's id or its first digits, four at least; to get it from a name: \
         docker inspect -f '{{.Id}}' NAME"
            .into(),
    )
}

/// `--duration`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let nanos = time(text)?;
    if nanos == 0 {
        return Err("a recording needs some time: 30s, 500ms, 2m".into());
    }
    Ok(Duration::from_nanos(nanos))
}

/// `--until-stall`.
pub(crate) fn until_stall(text: &str) -> Result<Nanos, String> {
    let nanos = time(text)?;
    if (1_000_000..=3600 * 1_000_000_000).contains(&nanos) {
        Ok(Nanos(nanos))
    } else {
        Err("must be from 1ms to 1h".into())
    }
}

/// A part of a name.
pub(crate) fn pattern(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a part of a name".into());
    }
    Ok(text.to_owned())
}

/// `--cause`, by the name that every output has.
pub(crate) fn cause(text: &str) -> Result<Cause, String> {
    let mut all = Cause::ALL.into_iter();
    all.find(|cause| cause.name() == text).ok_or_else(|| {
        let names: Vec<&str> = Cause::ALL.iter().map(|cause| cause.name()).collect();
        format!("the causes are {}", names.join(", "))
    })
}

/// What a time is compared with, also with none.
pub(crate) fn limit(text: &str) -> Result<Nanos, String> {
    time(text).map(Nanos)
}

/// `--min-block`. Whoever means another unit by a bare number is most often beyond the bounds.
pub(crate) fn min_block(text: &str) -> Result<Nanos, String> {
    let nanos = time(text)?;
    if (1_000..=10 * 1_000_000_000).contains(&nanos) {
        Ok(Nanos(nanos))
    } else {
        Err("must be from 1us to 10s: 100us, 1ms; a bare number is seconds".into())
    }
}

/// `--freq`: samples a second.
pub(crate) fn freq(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(number) if number <= 1000 => Ok(number),
        _ => Err("a number of samples a second, from 0 (none) to 1000".into()),
    }
}

/// `--long-poll`.
pub(crate) fn long_poll(text: &str) -> Result<Nanos, String> {
    let nanos = time(text)?;
    if (100_000..=3600 * 1_000_000_000).contains(&nanos) {
        Ok(Nanos(nanos))
    } else {
        Err("must be from 100us to 1h".into())
    }
}

/// `--from` and `--to`.
pub(crate) fn instant(text: &str) -> Result<Nanos, String> {
    time(text).map(Nanos)
}

/// `--keep`.
pub(crate) fn keep(text: &str) -> Result<Nanos, String> {
    let nanos = time(text)?;
    if nanos >= 10_000_000_000 {
        Ok(Nanos(nanos))
    } else {
        Err("must be at least 10s".into())
    }
}

const SIZES: [(&str, u64); 7] = [
    ("", 1),
    ("K", 1 << 10),
    ("KiB", 1 << 10),
    ("M", 1 << 20),
    ("MiB", 1 << 20),
    ("G", 1 << 30),
    ("GiB", 1 << 30),
];

/// `--max-size`: bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const NO_SIZE: &str = "not a size: 500M, 2G";
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(digits_end.unwrap_or(text.len()));
    let known = SIZES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let (_, scale) = known.ok_or("no such unit: use K, M or G")?;
    let bytes = scaled(number, *scale).ok_or(NO_SIZE)?;
    if bytes >= 1 << 20 {
        Ok(bytes)
    } else {
        Err("must be at least 1M".into())
    }
}

/// A number of bytes for people.
pub(crate) fn size_text(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// Nanoseconds of `1.5s` or `1h30m`. A bare number is seconds, whatever it is for.
fn time(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Err(NO_TIME.into());
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let (mut sum, mut rest) = (0u64, text);
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let (unit, next) = behind.split_at(behind.find(is_number).unwrap_or(behind.len()));
        if number.is_empty() {
            return Err(NO_TIME.into());
        }
        let scale = match unit {
            "" if rest.len() == text.len() => 1_000_000_000,
            "" => return Err("the unit of the last number is missing: 1h30m".into()),
            unit => UNITS
                .iter()
                .find_map(|&(name, scale)| (name == unit).then_some(scale))
                .ok_or("no such unit: use ns, us, ms, s, m or h")?,
        };
        if scale >= smallest {
            return Err("the larger unit goes first, and each once: 1h30m".into());
        }
        smallest = scale;
        let part = scaled(number, scale).ok_or(NO_TIME)?;
        sum = sum.checked_add(part).ok_or(NO_TIME)?;
        rest = next;
    }
    Ok(sum)
}

/// `number` times `scale` without going through floating point; what is finer than a
/// nanosecond is cut off.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let total = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    // No unit leaves a nanosecond beyond 13 digits.
    let fraction = fraction.get(..13).unwrap_or(fraction);
    if fraction.is_empty() {
        return Some(total);
    }
    let digits = u32::try_from(fraction.len()).ok()?;
    let part = fraction.parse::<u128>().ok()? * u128::from(scale) / 10u128.pow(digits);
    total.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("30s", 30_000),
            ("30", 30_000),
            ("0.5", 500),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1000000us", 1_000),
            ("1h30m", 5_400_000),
            ("1m0.5s", 60_500),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "s",
            "0",
            "0s",
            "0.0",
            "-1",
            "+1",
            "1e3",
            "1 s",
            "1S",
            "1min",
            "1.2.3s",
            ".5s",
            "1.s",
            ".",
            "99999999999999999999",
            "9999999999h",
            "NaN",
            "inf",
            "1s1s",
            "1h30",
            "30m1h",
            "1d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shortest_waits() {
        for (text, nanos) in [
            ("1ms", 1_000_000),
            ("100us", 100_000),
            ("100µs", 100_000),
            ("100μs", 100_000),
            ("1us", 1_000),
            ("1000ns", 1_000),
            ("0.25ms", 250_000),
            ("10s", 10_000_000_000),
            ("5", 5_000_000_000),
            ("0.001", 1_000_000),
        ] {
            assert_eq!(min_block(text), Ok(Nanos(nanos)), "{text}");
        }
        for text in ["0", "100", "0us", "999ns", "11s", "1ms ", ""] {
            assert!(min_block(text).is_err(), "{text}");
        }
        assert_eq!((freq("0"), freq("1000")), (Ok(0), Ok(1000)));
        for text in ["1001", "-1", "9.5", ""] {
            assert!(freq(text).is_err(), "{text}");
        }
        assert_eq!(long_poll("500us"), Ok(Nanos(500_000)));
        assert_eq!(long_poll("0.01"), Ok(Nanos(10_000_000)));
        for text in ["0", "99us", "2h"] {
            assert!(long_poll(text).is_err(), "{text}");
        }
        assert!(duration("1h30").is_err_and(|text| text.contains("unit of the last number")));
    }

    #[test]
    fn instants() {
        for (text, millis) in [
            ("10", 10_000),
            ("0", 0),
            ("1.5", 1_500),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("1h0m0.5s", 3_600_500),
        ] {
            assert_eq!(instant(text), Ok(Nanos(millis * 1_000_000)), "{text}");
        }
        for text in [
            "",
            "s",
            "1m30",
            "-1s",
            "1e3",
            "1x",
            "m30s",
            "1..2s",
            "99999999h",
        ] {
            assert!(instant(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1M", 1 << 20),
            ("1.5G", 3 << 29),
            ("2097152", 2 << 20),
            ("4096k", 4 << 20),
            ("3MiB", 3 << 20),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1", "1023K", "1T", "1 M", "-1M", "99999999999G"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(size_text(1), "1 KiB");
        assert_eq!(size_text(3 << 19), "1.5 MiB");
        assert_eq!(keep("1m"), Ok(Nanos(60_000_000_000)));
        assert_eq!(keep("60"), Ok(Nanos(60_000_000_000)));
        for text in ["9s", "9", "0s"] {
            assert!(keep(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pids_and_names() {
        assert_eq!(pid("1"), Ok(Pid(1)));
        for text in ["0", "-1", "x", "", "2147483648", "99999999999", "1.0"] {
            assert!(pid(text).is_err(), "{text}");
        }
        assert!(name("claims api").is_ok());
        assert!(name("").is_err());
        assert!(name("/usr/bin/x").is_ok());
        assert!(name("/usr/bin/").is_err());
        assert!(unit("claims").is_ok() && unit("a/b").is_err() && unit("").is_err());
        assert!(cgroup("/").is_ok() && cgroup("").is_err());
        assert!(container("0123aF").is_ok());
        for text in ["", "012", "claims", &"0".repeat(65)] {
            assert!(container(text).is_err(), "{text}");
        }
    }
}
