//! The demo's timeline: when, what, and whether it holds.

use std::time::Instant;

/// Prints claims with their verdicts and counts those that do not hold.
pub struct Timeline {
    started: Instant,
    failed: usize,
    held: usize,
}

impl Timeline {
    /// Begins now.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            failed: 0,
            held: 0,
        }
    }

    /// A step begins.
    pub fn step(&self, title: &str) {
        println!("\n[{:6.1} s] {title}", self.started.elapsed().as_secs_f64());
    }

    /// Something to know, without a verdict.
    pub fn note(&self, text: &str) {
        for line in text.lines() {
            println!("            {line}");
        }
    }

    /// A claim and whether it holds.
    pub fn claim(&mut self, holds: bool, text: &str) {
        let verdict = if holds { "ok  " } else { "FAIL" };
        println!("     {verdict}   {text}");
        if holds { self.held += 1 } else { self.failed += 1 }
    }

    /// The last line; an error when a claim did not hold.
    pub fn end(self) -> Result<(), String> {
        let seconds = self.started.elapsed().as_secs_f64();
        println!(
            "\n{} claims hold, {} do not; {seconds:.0} s",
            self.held, self.failed
        );
        if self.failed == 0 {
            Ok(())
        } else {
            Err(format!("{} claims do not hold", self.failed))
        }
    }
}
