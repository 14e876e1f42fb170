//! The table.

use std::time::Duration;

/// Several measurements of one thing.
#[derive(Clone, Debug)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// Ratios of pairs that were measured right after each other.
    pub(crate) fn ratios(ours: &[f64], limit: &[f64]) -> Self {
        Self::new(ours.iter().zip(limit).map(|(ours, limit)| ours / limit).collect())
    }

    pub(crate) fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    fn spread(&self) -> String {
        format!("{:.2} to {:.2}", self.0[0], self.0[self.0.len() - 1])
    }
}

/// What must hold of the median.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// A figure to know; nothing is asked of it.
    Said,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    sample: Sample,
    unit: &'static str,
    goal: Goal,
    note: String,
}

impl Report {
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        sample: Sample,
        unit: &'static str,
        goal: Goal,
        note: impl Into<String>,
    ) {
        let row = Row { what: what.into(), sample, unit, goal, note: note.into() };
        eprintln!("  {}: {:.2}{} {}", row.what, row.sample.median(), row.unit, row.note);
        self.rows.push(row);
    }

    pub(crate) fn print(&self, json: bool) {
        if json {
            let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
            println!("{}", serde_json::Value::from(rows));
            return;
        }
        println!("\n| what | median | spread | goal | reached | note |\n|---|---|---|---|---|---|");
        for row in &self.rows {
            let (goal, reached) = row.verdict();
            println!(
                "| {} | {:.2}{} | {} | {goal} | {reached} | {} |",
                row.what,
                row.sample.median(),
                row.unit,
                row.sample.spread(),
                row.note
            );
        }
        println!("\n{}", machine());
    }
}

impl Row {
    fn verdict(&self) -> (String, &'static str) {
        let median = self.sample.median();
        let said = |holds| if holds { "yes" } else { "NO" };
        match self.goal {
            Goal::AtLeast(goal) => (format!("≥ {goal}{}", self.unit), said(median >= goal)),
            Goal::AtMost(goal) => (format!("≤ {goal}{}", self.unit), said(median <= goal)),
            Goal::Said => (String::new(), ""),
        }
    }

    fn json(&self) -> serde_json::Value {
        let (goal, reached) = self.verdict();
        serde_json::json!({
            "what": self.what, "median": self.sample.median(), "unit": self.unit.trim(), "all": self.sample.0,
            "goal": goal, "reached": reached, "note": self.note,
        })
    }
}

/// What it was measured on.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    format!("Machine: {cores} cores, {}.", model.trim_start_matches(['\t', ' ', ':']))
}

/// The middle one of some durations, in microseconds.
pub(crate) fn p50(mut durations: Vec<Duration>) -> f64 {
    durations.sort_unstable();
    durations.get(durations.len() / 2).map_or(f64::NAN, |middle| middle.as_secs_f64() * 1e6)
}
