//! `edgewarden top`: who talks to whom, now.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::screen::{self, Screen};
use super::traffic::Grouping;
use super::traffic_page::{PageLayout, SortKey, TrafficLook, page};
use super::{Failure, out, out_json};
use crate::control::client::{ask, ask_json};
use crate::control::question::GetTraffic;
use crate::host::clock;

/// Waits are counted in milliseconds; one more makes the last of them no busy one.
const TICK: Duration = Duration::from_millis(1);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What the rows are.
    #[arg(long, value_enum, default_value = "process")]
    by: Grouping,
    /// What the rows are sorted by.
    #[arg(long, value_enum, default_value = "bytes")]
    sort: SortKey,
    /// Rows shown at most; a terminal shows as many as fit.
    #[arg(long, default_value_t = 20, value_name = "ROWS")]
    rows: usize,
    /// From one refresh to the next; rates are of this time.
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Print once and exit; rates are of the interval so far.
    #[arg(long)]
    once: bool,
    /// Print the whole interval as JSON, once.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    if arguments.json {
        return out_json(&ask_json(socket, GetTraffic {})?);
    }
    // The first question before the terminal is touched: if it fails, the reason stays in sight.
    let mut now = look(socket)?;
    if arguments.once {
        return out(&draw(&now, None, arguments));
    }
    let mut screen = Screen::open().map_err(|error| Failure::new(&error))?;
    let refresh = Duration::from_secs(arguments.interval);
    let mut before: Option<TrafficLook> = None;
    loop {
        let page = || draw(&now, before.as_ref(), arguments);
        let goes_on = match &mut screen {
            Some(screen) => linger(screen, now.at + refresh, &page).map_err(|error| Failure::new(&error))?,
            // A pipe that nobody reads any more ends it.
            None => screen::write(&format!("{}\n", page())).is_ok(),
        };
        if !goes_on {
            return Ok(());
        }
        if screen.is_none() {
            clock::pause(refresh);
        }
        before = Some(std::mem::replace(&mut now, look(socket)?));
    }
}

/// Shows a page until `end`, again after every key or new size; `false` when somebody wants to stop.
fn linger(screen: &mut Screen, end: Instant, page: &dyn Fn() -> String) -> io::Result<bool> {
    loop {
        screen.show(&page())?;
        let left = end.saturating_duration_since(clock::instant());
        if !screen.wait(left + TICK)? {
            return Ok(false);
        }
        if clock::instant() >= end {
            return Ok(true);
        }
    }
}

fn look(socket: &Path) -> Result<TrafficLook, Failure> {
    let interval = ask(socket, GetTraffic {})?;
    Ok(TrafficLook {
        at: clock::instant(),
        interval,
    })
}

fn draw(now: &TrafficLook, before: Option<&TrafficLook>, arguments: &Arguments) -> String {
    let (width, height) = screen::size();
    let layout = PageLayout {
        by: arguments.by,
        sort: arguments.sort,
        rows: arguments.rows,
        width,
        // What is printed once scrolls.
        height: height.filter(|_| !arguments.once),
    };
    page(now, before, &layout)
}
