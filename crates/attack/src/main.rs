//! `cargo xtask attack`: see the library. Out: a table, or with `--json` one object a line; the exit code says whether every
//! attack was held.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use edgewarden_attack::{ATTACKS, Attack, Outcome, Terms, Verdict};
use edgewarden_lab::error_text;
use edgewarden_lab::site::{IN_LAB, enter_or_reexec};
use xtask::packages::PACKAGES;
use xtask::{run, setup, workspace};

#[derive(Parser)]
#[command(
    name = "attack",
    bin_name = "cargo xtask attack",
    about = "Attack a device that is isolated or restricted; say what of it arrives"
)]
struct Arguments {
    /// Only attacks whose name contains one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How long each attacker goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Another agent than the one that is built from this tree
    #[arg(long, value_name = "PROGRAM")]
    agent: Option<PathBuf>,
}

fn main() -> ExitCode {
    match attack(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!(
                "\nxtask: the attacks could not be played: {}",
                error_text(error.as_ref())
            );
            ExitCode::FAILURE
        }
    }
}

fn attack(arguments: &Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let built = workspace::root().join("target/release");
    if std::env::var_os(IN_LAB).is_none() {
        setup::ensure(PACKAGES)?;
        let build = [
            "build",
            "--release",
            "--package",
            "edgewarden",
            "--package",
            "edgewarden-lab",
        ];
        run::run_aside(&mut workspace::cargo(&build))?;
    }
    enter_or_reexec(std::env::args_os().skip(1))?;
    let terms = Terms {
        agent: arguments
            .agent
            .clone()
            .unwrap_or_else(|| built.join("edgewarden")),
        recipe: workspace::root().join("recipe.yaml"),
        lab: Some(built.join("edgewarden-lab")),
        time: Duration::from_secs(arguments.seconds),
    };
    let is_wanted = |attack: &&Attack| {
        arguments.only.is_empty() || arguments.only.iter().any(|part| attack.name.contains(part))
    };
    let mut all_held = true;
    for attack in ATTACKS.iter().filter(is_wanted) {
        eprintln!("{}: {}", attack.name, attack.what);
        match attack.play(&terms) {
            Ok(outcome) => {
                all_held &= outcome.result == Verdict::Held;
                tell(&outcome, arguments.json)?;
            }
            Err(error) => {
                all_held = false;
                eprintln!("  not played: {}", error_text(&error));
            }
        }
    }
    Ok(all_held)
}

fn tell(outcome: &Outcome, json: bool) -> serde_json::Result<()> {
    if json {
        println!("{}", serde_json::to_string(outcome)?);
        return Ok(());
    }
    let result = match outcome.result {
        Verdict::Held => "held",
        Verdict::Leaked => "LEAKED",
        Verdict::Degraded => "DEGRADED",
    };
    println!(
        "{:<28} {result:<9} {:>12} bytes of {:>12} on the free device  {}",
        outcome.attack,
        outcome.bytes,
        outcome.free,
        outcome.why.as_deref().unwrap_or_default()
    );
    Ok(())
}
