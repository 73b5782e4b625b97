//! The page of `edgewarden top`. Pure: from two looks at the running interval to lines.
//!
//! Rates are what was counted between the looks by the time between them. When the interval was closed in between, they
//! are of the new interval so far; what the old one still got is in the report, not here.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::cells::{bytes, columns, count, end_of, padded, start_of};
use super::safe::safe;
use super::traffic::{Grouping, TrafficRow, gained_since, rest, rows};
use crate::Arrange;
use crate::observe::{Counters, Interval};

/// Shorter spans give no rate: a few packets would look like a flood.
const SHORTEST: Duration = Duration::from_millis(200);
/// Width of a number with a space before it: ` 999.9 MB`.
const NUMBER: usize = 9;
/// Numbers are left out rather than names cut below this.
const NAME: usize = 30;
/// Columns from which on names leave room for details.
const NAME_AND_DETAIL: usize = 44;
/// Faults of capture shown; a device with dozens of interfaces may have as many.
const MAX_FAULTS: usize = 3;

/// What the rows are sorted by; names rise, everything else falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SortKey {
    /// Bytes of both ways in the interval.
    Bytes,
    /// Bytes sent.
    Out,
    /// Bytes received.
    In,
    /// Packets of both ways.
    Packets,
    /// Bytes a second.
    Rate,
    /// Name.
    Name,
}

/// How the page is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageLayout {
    pub(super) by: Grouping,
    pub(super) sort: SortKey,
    pub(super) rows: usize,
    pub(super) width: usize,
    /// Of a terminal; a pipe has none.
    pub(super) height: Option<usize>,
}

/// What was seen, and when by our clock.
#[derive(Debug, Clone)]
pub(super) struct TrafficLook {
    pub(super) at: Instant,
    pub(super) interval: Interval,
}

/// A row and what it gained.
struct GrowingRow {
    row: TrafficRow,
    gained: Counters,
}

/// The page; no line is wider than the layout allows, and there are no more than fit.
pub(super) fn page(now: &TrafficLook, before: Option<&TrafficLook>, layout: &PageLayout) -> String {
    let same = before.filter(|before| before.interval.started == now.interval.started);
    let span = span(now, before, same.is_some());
    let gains = |of: &dyn Fn(&Interval) -> Vec<TrafficRow>| {
        gained(
            of(&now.interval),
            same.map(|before| of(&before.interval)).unwrap_or_default(),
        )
    };
    let mut table = gains(&|interval| rows(interval, layout.by));
    sort(&mut table, layout.sort);
    let rest = gains(&rest);
    let notes = notes(&now.interval);

    let fixed = 2 + 1 + rest.len() + notes.len();
    let room = layout
        .height
        .map_or(usize::MAX, |height| height.saturating_sub(fixed).max(1));
    let more = table.len().saturating_sub(layout.rows.min(room));
    table.truncate(layout.rows.min(room));
    let names = table.iter().chain(&rest).map(|line| line.row.name.as_str());
    let widths = ColumnWidths::of(names.chain(["interface"]), layout);
    let mut lines = vec![title(&now.interval, span), heads(widths)];
    lines.extend(table.iter().map(|one| line(one, span, widths)));
    lines.push(if more == 0 {
        String::new()
    } else {
        format!("and {more} more")
    });
    lines.extend(rest.iter().map(|one| line(one, span, widths)));
    lines.extend(notes);
    lines.truncate(layout.height.unwrap_or(usize::MAX));
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(text, "{}", start_of(line.trim_end(), layout.width));
    }
    text
}

/// What every row gained since the earlier rows. Two interfaces may have had one name, one after the other; they keep
/// their order, so the count of a name tells them apart.
fn gained(rows: Vec<TrafficRow>, earlier: Vec<TrafficRow>) -> Vec<GrowingRow> {
    let numbered = |rows: Vec<TrafficRow>| {
        let mut seen: HashMap<String, u32> = HashMap::new();
        let number = move |row: TrafficRow| {
            let number = seen.entry(row.key.clone()).or_default();
            *number += 1;
            ((row.key.clone(), *number), row)
        };
        rows.into_iter().map(number)
    };
    let before: HashMap<(String, u32), Counters> =
        numbered(earlier).map(|(key, row)| (key, row.sum)).collect();
    numbered(rows)
        .map(|(key, row)| GrowingRow {
            gained: gained_since(&row.sum, &before.get(&key).copied().unwrap_or_default()),
            row,
        })
        .collect()
}

/// The time in which rows gained what they did; nothing if it is too short to say.
fn span(now: &TrafficLook, before: Option<&TrafficLook>, same: bool) -> Option<Duration> {
    let ours = before.map(|before| now.at.duration_since(before.at));
    let interval = &now.interval;
    let span = if same {
        // Our own clock: the device's may be set at any time.
        ours?
    } else {
        let device: Duration = interval.ended.duration_since(interval.started).try_into().ok()?;
        // What began after the look before cannot be older than that.
        ours.map_or(device, |ours| device.min(ours))
    };
    (span >= SHORTEST).then_some(span)
}

fn sort(table: &mut [GrowingRow], by: SortKey) {
    table.arrange_by(|a, b| {
        a.row
            .name
            .cmp(&b.row.name)
            .then_with(|| a.row.key.cmp(&b.row.key))
    });
    let value: fn(&GrowingRow) -> u64 = match by {
        SortKey::Name => return,
        SortKey::Bytes => |line| line.row.sum.bytes(),
        SortKey::Out => |line| line.row.sum.bytes_out,
        SortKey::In => |line| line.row.sum.bytes_in,
        SortKey::Packets => |line| line.row.sum.packets(),
        SortKey::Rate => |line| line.gained.bytes(),
    };
    table.arrange_by_key(|line| Reverse(value(line)));
}

fn title(interval: &Interval, span: Option<Duration>) -> String {
    let started = interval.started.strftime("%Y-%m-%d %H:%M:%S UTC");
    let over = span.map_or("no rates yet".to_owned(), |span| {
        format!("rates over {}.{} s", span.as_secs(), span.subsec_millis() / 100)
    });
    format!("interval since {started}, {over}")
}

/// Which numbers there is room for: rates and totals, without packets, or totals alone.
fn numbers(width: usize) -> &'static [&'static str] {
    const ALL: [&str; 6] = ["out/s", "in/s", "pkt/s", "out", "in", "packets"];
    const BYTES: [&str; 4] = ["out/s", "in/s", "out", "in"];
    const TOTALS: [&str; 2] = ["out", "in"];
    let fits = |count: usize| width >= NAME + count * NUMBER;
    if fits(ALL.len()) {
        &ALL
    } else if fits(BYTES.len()) {
        &BYTES
    } else {
        &TOTALS
    }
}

/// Columns of a table.
#[derive(Clone, Copy)]
struct ColumnWidths {
    name: usize,
    detail: usize,
    whole: usize,
    /// Details that end with a path say most at their end.
    by: Grouping,
}

impl ColumnWidths {
    /// Names get what the longest needs, details the rest, but not less than two fifths of both.
    fn of<'a>(names: impl Iterator<Item = &'a str>, layout: &PageLayout) -> Self {
        let room = layout.width.saturating_sub(numbers(layout.width).len() * NUMBER);
        let longest = names.map(columns).max().unwrap_or_default() + 1;
        let name = if room < NAME_AND_DETAIL {
            room
        } else {
            longest.min(room - room * 2 / 5)
        };
        Self {
            name,
            detail: room - name,
            whole: layout.width,
            by: layout.by,
        }
    }

    fn cells(self, name: &str, detail: &str) -> String {
        // One column stays free after each.
        let name = padded(&end_of(name, self.name.saturating_sub(1)), self.name);
        let room = self.detail.saturating_sub(1);
        let detail = if self.by == Grouping::Remote {
            end_of(detail, room)
        } else {
            start_of(detail, room)
        };
        format!("{name}{}", padded(&detail, self.detail))
    }
}

fn heads(widths: ColumnWidths) -> String {
    let (name, detail) = match widths.by {
        Grouping::Process => ("process", "workload"),
        Grouping::Interface => ("interface", ""),
        Grouping::Remote => ("remote", "by"),
        Grouping::Peer => ("peer", "talks to"),
    };
    let mut head = widths.cells(name, detail);
    for title in numbers(widths.whole) {
        let _ = write!(head, "{title:>NUMBER$}");
    }
    head
}

fn line(line: &GrowingRow, span: Option<Duration>, widths: ColumnWidths) -> String {
    let (sum, gained) = (line.row.sum, line.gained);
    let rate = |value: u64, show: fn(u64) -> String| {
        span.map_or("-".to_owned(), |span| show(per_second(value, span)))
    };
    let mut text = widths.cells(&line.row.name, &line.row.detail);
    for title in numbers(widths.whole) {
        let number = match *title {
            "out/s" => rate(gained.bytes_out, bytes),
            "in/s" => rate(gained.bytes_in, bytes),
            "pkt/s" => rate(gained.packets(), count),
            "out" => bytes(sum.bytes_out),
            "in" => bytes(sum.bytes_in),
            _ => count(sum.packets()),
        };
        // A space even before a number that fills its column.
        let _ = write!(text, " {number:>width$}", width = NUMBER - 1);
    }
    text
}

fn per_second(value: u64, span: Duration) -> u64 {
    let rate = u128::from(value) * 1_000 / span.as_millis().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

fn notes(interval: &Interval) -> Vec<String> {
    let lost = interval
        .lost_frames
        .map_or("not known".to_owned(), |lost| lost.to_string());
    let mut notes = vec![format!("lost frames: {lost}")];
    let faults = &interval.capture_faults;
    notes.extend(
        faults
            .iter()
            .take(MAX_FAULTS)
            .map(|fault| format!("fault: {}", safe(fault))),
    );
    if faults.len() > MAX_FAULTS {
        notes.push(format!("and {} more faults", faults.len() - MAX_FAULTS));
    }
    notes
}

#[cfg(test)]
#[path = "traffic_page_tests.rs"]
mod tests;
