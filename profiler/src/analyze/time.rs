//! Wall-clock time as reports print it.

use jiff::Timestamp;

/// `seconds` since the Unix epoch as RFC 3339 in UTC, to the millisecond. Times before 1970 or
/// after 9999, which only a wrong clock tells, become the nearer end of that range.
#[must_use]
pub fn rfc3339(seconds: f64) -> String {
    let last = Timestamp::MAX.as_millisecond();
    // The cast turns a NaN into zero and cuts off what no integer can hold.
    let millis = ((seconds * 1e3) as i64).clamp(0, last);
    let timestamp = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
    format!("{timestamp:.3}")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn prints_utc_to_the_millisecond() {
        assert_eq!(rfc3339(0.0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_709_164_800.25), "2024-02-29T00:00:00.250Z");
    }

    #[test]
    fn survives_times_that_cannot_be() {
        assert_eq!(rfc3339(f64::NAN), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(-1e300), "1970-01-01T00:00:00.000Z");
        assert!(rfc3339(f64::INFINITY).starts_with("9999-12-30T"));
    }
}
