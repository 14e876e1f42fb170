//! How long a token lives, and the grammar it is said in.

use std::time::Duration;

use jiff::{Span, tz::TimeZone};

use crate::{clock::Timestamp, error::Invalid};

/// The shortest life worth having; `expires_in` is told to clients in whole seconds.
const SHORTEST: Duration = Duration::from_secs(1);

/// When a token dies: after a while, or never.
///
/// The texts are those of the two source documents and of ISO 8601: `"7 days"`, `"30 mins"`, `"1h30m"`,
/// `"P30D"`, `"1 month"`; and `"never"`. Months and years are counted in the UTC calendar.
///
/// ```
/// use hallpass::Expiry;
/// use std::time::Duration;
///
/// assert!(Expiry::parse("1h30m").is_ok());
/// assert_eq!(Expiry::parse("never").unwrap(), Expiry::Never);
/// assert!(Expiry::parse("1 fortnight").is_err());
/// assert!(Expiry::parse("0").is_err());
/// let expiry = Expiry::from(Duration::from_secs(60));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The token lives until it is revoked. A policy can forbid it.
    Never,
    /// The token dies this long after it was made.
    After(Life),
}

/// A length of life: exact, or by the calendar.
#[derive(Clone, Debug)]
pub struct Life(Span);

impl PartialEq for Life {
    fn eq(&self, other: &Self) -> bool {
        self.0.fieldwise() == other.0.fieldwise()
    }
}

impl Eq for Life {}

impl Expiry {
    /// Parses a duration text or `"never"`.
    ///
    /// # Errors
    /// Zero, a negative length, one under a second, and anything that is not a duration.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("never") {
            return Ok(Self::Never);
        }
        let span: Span = text.parse().map_err(|_| {
            invalid("say a duration such as \"7 days\", \"30 mins\", \"1h30m\" or \"P30D\", or \"never\"")
        })?;
        if !span.is_positive() {
            return Err(invalid("must be longer than nothing"));
        }
        Ok(Self::After(Life(span)))
    }

    /// The instant of death for a token made at `now`, or `None` for never.
    ///
    /// # Errors
    /// A life under a second, or past the end of the year 9999.
    pub fn at(&self, now: Timestamp) -> Result<Option<Timestamp>, Invalid> {
        let Self::After(Life(span)) = self else { return Ok(None) };
        let end = jiff::Timestamp::from_microsecond(now.as_micros())
            .map(|start| start.to_zoned(TimeZone::UTC))
            .and_then(|start| start.checked_add(*span))
            .map_err(|_| invalid("must end before the year 10000"))?;
        let end = Timestamp::from_micros(end.timestamp().as_microsecond());
        if end.since(now) < SHORTEST {
            return Err(invalid("must be at least one second"));
        }
        Ok(Some(end))
    }
}

impl From<Duration> for Expiry {
    /// A life of exactly `duration`. Whether it is long or short enough is judged when a token is made.
    fn from(duration: Duration) -> Self {
        // A span holds some 19,998 years; what is longer is refused in `at` like any other year past 9999.
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let span = Span::new().try_microseconds(micros).unwrap_or_else(|_| Span::new().years(19_998));
        Self::After(Life(span))
    }
}

impl TryFrom<&str> for Expiry {
    type Error = Invalid;

    fn try_from(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Expiry {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl std::str::FromStr for Expiry {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

fn invalid(message: &'static str) -> Invalid {
    Invalid::new("expires_in", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
    const DAY: u64 = 86_400;

    fn life(text: &str) -> Duration {
        Expiry::parse(text).unwrap().at(NOW).unwrap().unwrap().since(NOW)
    }

    #[test]
    fn row_19_the_seeds_own_texts_are_understood() {
        assert_eq!(life("7 days"), Duration::from_secs(7 * DAY));
        assert_eq!(life("30 mins"), Duration::from_mins(30));
        assert_eq!(life("1h30m"), Duration::from_mins(90));
        assert_eq!(life("P30D"), Duration::from_secs(30 * DAY));
        // 2023-11-14 plus a calendar month is 2023-12-14.
        assert_eq!(life("1 month"), Duration::from_secs(30 * DAY));
        assert_eq!(life("365 days"), Duration::from_secs(365 * DAY));
    }

    #[test]
    fn row_19_what_is_no_future_is_refused_and_never_means_for_ever() {
        for text in [
            "0",
            "-1",
            "NaN",
            "1e18",
            "",
            "1 fortnight",
            "0 days",
            "-7 days",
            "7 days ago",
            "PT0S",
            "7",
            "inf",
        ] {
            assert!(Expiry::parse(text).is_err(), "{text:?} was accepted");
        }
        for text in ["9000 years", "1ns", "999 ms", "8000 years"] {
            let verdict = Expiry::parse(text).and_then(|expiry| expiry.at(NOW));
            assert!(verdict.is_err(), "{text:?} gave {verdict:?}");
        }
    }

    #[test]
    fn row_19_a_duration_of_any_size_is_judged_not_wrapped() {
        assert!(Expiry::from(Duration::MAX).at(NOW).is_err());
        assert!(Expiry::from(Duration::ZERO).at(NOW).is_err());
        assert_eq!(Expiry::Never.at(NOW), Ok(None));
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_a_future_or_an_error(text in ".{0,40}") {
            if let Ok(expiry @ Expiry::After(_)) = Expiry::parse(&text)
                && let Ok(end) = expiry.at(NOW)
            {
                proptest::prop_assert!(end.unwrap() > NOW);
            }
        }
    }
}
