//! What a bench prints: a table with its comparisons for people, or one JSON object a line for programs.
//!
//! In: [`Figure`]s in the order of their making. Out: text. Pure but for [`Report::print`].

use std::fmt::Write as _;

use crate::figure::Figure;

/// All numbers of one run.
#[derive(Debug)]
pub(crate) struct Report {
    bench: &'static str,
    facts: Vec<(&'static str, String)>,
    figures: Vec<Figure>,
}

impl Report {
    /// Of the bench of this name, without numbers.
    pub(crate) fn new(bench: &'static str) -> Self {
        Self {
            bench,
            facts: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// Adds a number.
    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Adds what is no number: the machine, a version.
    pub(crate) fn fact(&mut self, name: &'static str, text: impl Into<String>) {
        self.facts.push((name, text.into()));
    }

    /// Writes everything to standard output, which belongs to the report alone: progress goes to standard error.
    pub(crate) fn print(&self, json: bool) {
        print!("{}", if json { self.lines() } else { self.table() });
    }

    /// One JSON object a line, the facts first.
    pub(crate) fn lines(&self) -> String {
        let facts = self.facts.iter().fold(String::new(), |mut text, (name, said)| {
            let fact = serde_json::json!({ "bench": self.bench, "fact": name, "text": said });
            let _ = writeln!(text, "{fact}");
            text
        });
        self.figures.iter().fold(facts, |mut text, figure| {
            let _ = writeln!(text, "{}", figure.json(self.bench));
            text
        })
    }

    /// The facts, a row for every case, a column for every metric, then the comparisons.
    pub(crate) fn table(&self) -> String {
        let cases = distinct(self.figures.iter().map(|figure| figure.case.as_str()));
        let metrics = distinct(self.figures.iter().map(|figure| figure.metric));
        let first = std::iter::once("case".to_owned())
            .chain(cases.iter().map(|case| (*case).to_owned()))
            .collect();
        let mut columns: Vec<Vec<String>> = vec![first];
        for metric in metrics {
            columns.push(self.column(metric, &cases));
        }
        let widths: Vec<_> = columns
            .iter()
            .map(|column| column.iter().map(String::len).max().unwrap_or(0))
            .collect();
        let mut text = self.facts.iter().fold(String::new(), |mut text, (name, said)| {
            let _ = writeln!(text, "{name}: {said}");
            text
        });
        for row in 0..=cases.len() {
            let mut line = String::new();
            for (number, (column, width)) in columns.iter().zip(&widths).enumerate() {
                let cell = column.get(row).map_or("", String::as_str);
                // The first column is words, the others are numbers.
                let _ = if number == 0 {
                    write!(line, "{cell:<width$}")
                } else {
                    write!(line, "  {cell:>width$}")
                };
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        self.comparisons(&mut text);
        text
    }

    fn column(&self, metric: &str, cases: &[&str]) -> Vec<String> {
        let unit = self.figures.iter().find(|figure| figure.metric == metric);
        let head = unit.map_or_else(String::new, |figure| format!("{metric} [{}]", figure.unit));
        let cells = cases.iter().map(|case| {
            self.find(case, metric)
                .map_or_else(String::new, |figure| number(figure.value))
        });
        std::iter::once(head).chain(cells).collect()
    }

    fn comparisons(&self, text: &mut String) {
        let compared = self
            .figures
            .iter()
            .filter_map(|figure| figure.comparison.as_ref().map(|comparison| (figure, comparison)));
        for (index, (figure, comparison)) in compared.enumerate() {
            if index == 0 {
                text.push('\n');
            }
            let verdict = comparison
                .aim
                .map_or_else(String::new, |aim| format!("   {}", aim.verdict(comparison.ratio)));
            let _ = writeln!(
                text,
                "{}, {}: {} times {}{verdict}",
                figure.case,
                figure.metric,
                number(comparison.ratio),
                comparison.baseline
            );
        }
    }

    fn find(&self, case: &str, metric: &str) -> Option<&Figure> {
        self.figures
            .iter()
            .find(|figure| figure.case == case && figure.metric == metric)
    }
}

/// Each once, in the order of the first appearance.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    names.fold(Vec::new(), |mut seen, name| {
        if !seen.contains(&name) {
            seen.push(name);
        }
        seen
    })
}

/// Three significant digits are more than any bench can repeat.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Aim;

    fn report() -> Report {
        let mut report = Report::new("ipc");
        let ours = Figure::new("get ours", "rate", 1234.5, "1/s");
        report.add(ours.against("theirs", 100.0, Some(Aim::AtLeast(5.0))));
        report.add(Figure::new("get ours", "rss", 3.25, "MB"));
        report.add(Figure::new("get theirs", "rate", 100.0, "1/s"));
        report
    }

    #[test]
    fn the_table_has_a_row_a_case_and_a_column_a_metric() {
        assert_eq!(
            report().table(),
            "case        rate [1/s]  rss [MB]\n\
             get ours          1234      3.25\n\
             get theirs         100\n\
             \n\
             get ours, rate: 12.3 times theirs   aim >= 5: reached\n"
        );
    }

    #[test]
    fn facts_come_first() {
        let mut report = report();
        report.fact("kernel", "6.1");
        assert!(report.table().starts_with("kernel: 6.1\ncase "));
        let first = report.lines().lines().next().map(str::to_owned);
        let expected = r#"{"bench":"ipc","fact":"kernel","text":"6.1"}"#;
        assert_eq!(first.as_deref(), Some(expected));
    }

    #[test]
    fn every_figure_is_a_line() {
        let text = report().lines();
        assert_eq!(text.lines().count(), 3);
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["bench"], "ipc");
        }
    }
}
