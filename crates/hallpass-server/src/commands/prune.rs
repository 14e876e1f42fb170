//! `hallpass prune`: deletes tokens that died long ago.

use std::time::Duration;

use hallpass::{Expiry, Timestamp};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Answer, user::tokens};
use crate::{app::App, failure::Failure, output::Output};

/// How often the count on a terminal is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// Deletes tokens that died long ago, in batches that hold nobody up
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  hallpass prune
  hallpass prune --older-than '90 days' --json

A running server prunes by itself every hour. Until they are pruned, dead tokens are listed by
`token list --ended`, and `token verify` can tell why they died.")]
pub(crate) struct Args {
    /// How long ago they must have died: '12 hours', P30D, 0 for all
    #[arg(long, value_name = "DURATION", default_value = "30 days")]
    older_than: String,
}

pub(crate) async fn run(args: Args, app: &App, out: Output) -> Result<Answer, Failure> {
    let older_than = age(&args.older_than, app.clock.now())?;
    let bar = if out.draws_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} tokens pruned, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    let pruned = app.guard.prune(older_than, |count| bar.inc(count)).await;
    bar.finish_and_clear();
    let pruned = pruned?;
    out.answer(
        || json!({ "pruned": pruned, "older_than": args.older_than, "older_than_seconds": older_than.as_secs() }),
        || match older_than.as_secs() {
            0 => format!("pruned {} that were dead", tokens(pruned)),
            _ => format!("pruned {} that died more than {} ago", tokens(pruned), args.older_than.trim()),
        },
    )?;
    Ok(Answer::Yes)
}

/// A length of time, by the grammar of a token's life. A calendar month is as long as the one that begins now.
fn age(text: &str, now: Timestamp) -> Result<Duration, Failure> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let refuse =
        |message: &str| Failure::usage("--older-than cannot be used", format!("--older-than {message}"));
    let end =
        Expiry::parse(text).and_then(|life| life.at(now)).map_err(|invalid| refuse(invalid.message()))?;
    end.map(|end| end.since(now)).ok_or_else(|| refuse("wants a duration such as '30 days', or 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    #[test]
    fn an_age_is_a_duration_and_never_for_ever() {
        assert_eq!(age("30 days", NOW), Ok(Duration::from_hours(30 * 24)));
        assert_eq!(age(" 0 ", NOW), Ok(Duration::ZERO));
        for text in ["never", "", "-1", "yesterday", "0 days", "9000 years"] {
            assert!(age(text, NOW).is_err(), "{text:?}");
        }
    }
}
