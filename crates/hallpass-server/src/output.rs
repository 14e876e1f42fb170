//! What a verb prints: an answer on stdout for people or as JSON, everything else on stderr.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use hallpass::Timestamp;
use serde_json::{Value, json};

use crate::failure::Failure;

/// Where and how to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

/// A colour with a meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paint {
    Good,
    Warning,
    Bad,
    Faint,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// The answer, in the form that was asked for. JSON is one line, so that whoever reads lines has all of it.
    pub(crate) fn answer(
        self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.write(json, text) {
            // Whoever closed the pipe has read what they wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Failure::out_of_reach(
                format!("cannot write the answer: {error}"),
                "send the output to a place that can be written",
            )),
            Ok(()) => Ok(()),
        }
    }

    /// The same for what is there this once: a closed pipe is an error too.
    pub(crate) fn write(self, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> io::Result<()> {
        let text = if self.json { json().to_string() } else { text() };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", text.trim_end_matches('\n'))?;
        stdout.flush()
    }

    /// A remark beside the answer, for people alone.
    pub(crate) fn remark(self, text: &str) {
        if !self.json {
            say(text);
        }
    }

    /// A failure, in the form that was asked for.
    pub(crate) fn failure(self, failure: &Failure) {
        let Failure { message, help, .. } = failure;
        if self.json {
            say(&json!({ "error": { "message": message, "help": help } }).to_string());
        } else {
            let colours = colours_on(&io::stderr());
            say(&format!(
                "{} {message}\n  {} {}",
                paint_if(Paint::Bad, "error:", colours),
                paint_if(Paint::Faint, "help:", colours),
                help.replace('\n', "\n        ")
            ));
        }
    }

    /// Whether progress may be drawn.
    pub(crate) fn draws_progress(self) -> bool {
        !self.json && io::stderr().is_terminal()
    }
}

/// The columns of any length. The others are never wrapped: people copy from them.
const WRAPPED: [&str; 3] = ["NAME", "SCOPES", "GRANTS"];
/// On a narrow terminal such a column is still so wide.
const WRAPPED_MIN: u16 = 18;

/// Rows under a head, as wide as they need to be; wrapped only where a terminal shows them.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    for row in rows {
        table.add_row(row);
    }
    let wraps = io::stdout().is_terminal();
    if wraps {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    for (column, head) in table.column_iter_mut().zip(head) {
        column.set_padding((0, 2));
        if wraps && WRAPPED.contains(&head) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(WRAPPED_MIN)));
        } else {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// An instant in words, as seen from `now`: "in 6 days", "3 hours ago".
pub(crate) fn when(at: Timestamp, now: Timestamp) -> String {
    let (ahead, ago) = (at.since(now).as_secs(), now.since(at).as_secs());
    match (ahead, ago) {
        (0, 0) => "now".to_owned(),
        (0, ago) => format!("{} ago", span(ago)),
        (ahead, _) => format!("in {}", span(ahead)),
    }
}

/// The largest unit alone, rounded down: nobody is told that a token lives longer than it does.
fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 5] =
        [(365 * 86_400, "year"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    // Days are told up to two years: "in 364 days", "in 2 years".
    let fits = |(size, unit): &&(u64, &str)| seconds >= if *unit == "year" { 2 * size } else { *size };
    let (size, unit) = UNITS.iter().find(fits).copied().unwrap_or((1, "second"));
    let count = seconds / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// Colours a word of the answer, where colours are wanted.
pub(crate) fn painted(paint: Paint, word: &str) -> String {
    paint_if(paint, word, colours_on(&io::stdout()))
}

pub(crate) fn colours_on(stream: &impl IsTerminal) -> bool {
    // https://no-color.org: set to anything but nothing.
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !unwanted && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn paint_if(paint: Paint, word: &str, colours: bool) -> String {
    if !colours {
        return word.to_owned();
    }
    let code = match paint {
        Paint::Good => "32",
        Paint::Warning => "33",
        Paint::Bad => "1;31",
        Paint::Faint => "2",
    };
    format!("\u{1b}[{code}m{word}\u{1b}[0m")
}

/// A line on stderr. Where stderr is closed there is nobody to tell.
fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end_matches('\n'));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    #[test]
    fn instants_are_told_in_the_largest_unit_and_never_too_long() {
        let ahead = |seconds| when(NOW.checked_add(Duration::from_secs(seconds)).unwrap(), NOW);
        let ago = |seconds| when(NOW.saturating_sub(Duration::from_secs(seconds)), NOW);
        assert_eq!(ahead(365 * 86_400 - 1), "in 364 days");
        assert_eq!(ahead(365 * 86_400), "in 365 days");
        assert_eq!(ahead(2 * 365 * 86_400), "in 2 years");
        assert_eq!(ahead(86_400), "in 1 day");
        assert_eq!(ahead(59), "in 59 seconds");
        assert_eq!(ago(3 * 3_600 + 1), "3 hours ago");
        assert_eq!(ago(60), "1 minute ago");
        assert_eq!(ago(0), "now");
    }

    #[test]
    fn tables_have_no_borders_and_no_blanks_at_line_ends() {
        let text = table(["A", "LONGER"], [["one".to_owned(), "two".to_owned()]]);
        assert_eq!(text, "A    LONGER\none  two");
    }
}
