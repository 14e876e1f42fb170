//! Time, handed in.
//!
//! Nothing in Hallpass asks the machine what time it is except [`SystemClock`]. A guard is given a
//! [`Clock`], and the rules of life take `now` as an argument, so that they can be tested at equality.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The last instant a token may live to: 9999-12-31T23:59:59.999999Z, in microseconds. RFC 3339 has no
/// year 10000.
const LAST_MICROS: i64 = 253_402_300_799_999_999;

/// An instant in UTC with microsecond precision, the finest that every store keeps exactly.
///
/// ```
/// use hallpass::Timestamp;
/// assert_eq!(Timestamp::from_micros(1_500_000).to_string(), "1970-01-01T00:00:01.5Z");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant this many microseconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// This instant plus `duration`, or `None` past the end of the year 9999.
    #[must_use]
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let micros = i64::try_from(duration.as_micros()).ok()?;
        self.0.checked_add(micros).filter(|sum| *sum <= LAST_MICROS).map(Self)
    }

    /// This instant minus `duration`; the earliest representable one if that is too far back.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC, with as many fractional digits as there are.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => write!(f, "{} microseconds since 1970", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where a guard gets the time from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present instant. It may step backwards; nothing here relies on it not doing so.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock's one home")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(LAST_MICROS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_rfc_3339_in_utc() {
        let timestamp = Timestamp::from_micros(1_619_631_817_235_000);
        assert_eq!(timestamp.to_string(), "2021-04-28T17:43:37.235Z");
    }

    #[test]
    fn adding_past_year_9999_is_none() {
        let last = Timestamp::from_micros(LAST_MICROS);
        assert_eq!(last.checked_add(Duration::from_micros(1)), None);
        assert_eq!(last.checked_add(Duration::ZERO), Some(last));
        assert_eq!(Timestamp::from_micros(0).checked_add(Duration::MAX), None);
    }
}
