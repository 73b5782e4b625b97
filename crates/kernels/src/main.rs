//! `cargo xtask kernels`: boots kernels of distributions in emulated machines, and runs the project's own tests in each.
//!
//! In: which kernels, which checks. Out: the table kernel × check, as `docs/kernels.md` too where all checks were run; the exit
//! code says whether nothing fails. What is made stays in `target/kernels`, so the next run is quicker. Deliberately absent:
//! any part in CI; it takes an hour where processors are emulated, and is run by hand before a release.

mod checks;
mod guest;
mod list;
mod modules;
mod payload;
mod results;
mod root;
mod table;
mod verdict;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use edgewarden_lab::error_text;
use xtask::failure::Failure;
use xtask::packages::KERNELS_PACKAGES;
use xtask::{setup, workspace};

use checks::{CHECKS, Check};
use guest::Accelerator;
use list::{KERNELS, Kernel};
use results::Run;

#[derive(Parser)]
#[command(
    name = "kernels",
    bin_name = "cargo xtask kernels",
    about = "Boot kernels of distributions in emulated machines, and run the project's own tests in each"
)]
struct Arguments {
    /// Only kernels whose name contains one of these
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Only checks whose title contains this; the document stays as it is then
    #[arg(long, value_name = "TEXT")]
    checks: Option<String>,
    /// Keep the archives of each guest, to boot it by hand
    #[arg(long)]
    keep: bool,
    /// Boot nothing; write the document from the runs that are kept
    #[arg(long)]
    table: bool,
}

impl Arguments {
    fn wants(&self, kernel: &Kernel) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| kernel.name.contains(part.as_str()))
    }

    fn wants_check(&self, number: usize) -> bool {
        let title = CHECKS.get(number).map_or("", |check| check.title);
        self.checks
            .as_ref()
            .is_none_or(|text| title.contains(text.as_str()))
    }
}

fn main() -> ExitCode {
    match kernels(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("\nxtask: {}", error_text(&failure));
            ExitCode::FAILURE
        }
    }
}

fn kernels(arguments: &Arguments) -> Result<bool, Failure> {
    let wanted: Vec<&Kernel> = KERNELS.iter().filter(|kernel| arguments.wants(kernel)).collect();
    let checks: Vec<(usize, &Check)> = CHECKS
        .iter()
        .enumerate()
        .filter(|(number, _)| arguments.wants_check(*number))
        .collect();
    if wanted.is_empty() || checks.is_empty() {
        return Err(Failure::Content {
            subject: "the command line".to_owned(),
            fault: format!("expected a part of one of {}, and of a check's title", names()),
        });
    }
    let mut runs = Vec::new();
    if !arguments.table {
        setup::ensure(KERNELS_PACKAGES)?;
        for kernel in wanted {
            let run = run(kernel, &checks, arguments.keep)?;
            if arguments.checks.is_none() {
                keep(kernel, &run)?;
            }
            eprint!(
                "{}",
                table::plain(&[(kernel, run.clone())], |number| arguments.wants_check(number))
            );
            runs.push((kernel, run));
        }
    }
    if arguments.checks.is_none() {
        let all = kept()?;
        workspace::write(&workspace::root().join(table::DOCUMENT), &table::document(&all))?;
        println!("{} is written", table::DOCUMENT);
    }
    print!("{}", table::plain(&runs, |number| arguments.wants_check(number)));
    Ok(table::holds(&runs, |number| arguments.wants_check(number)))
}

fn run(kernel: &Kernel, checks: &[(usize, &Check)], keep: bool) -> Result<Run, Failure> {
    let target = kernel.target().ok_or_else(|| Failure::Content {
        subject: kernel.name.to_owned(),
        fault: "expected a processor that packages are built for".to_owned(),
    })?;
    let accelerator = Accelerator::of(kernel);
    eprintln!("{}: {} by {}", kernel.name, kernel.package, accelerator.name());
    let root = root::ensure(kernel)?;
    let built = payload::build(target)?;
    let payload = payload::pack(kernel, &built, checks, accelerator.factor())?;
    let run = guest::boot(kernel, &root, &payload, accelerator)?;
    if !keep {
        std::fs::remove_file(&payload).map_err(workspace::file("remove", &payload))?;
    }
    Ok(run)
}

fn result_file(kernel: &Kernel) -> std::path::PathBuf {
    root::folder(kernel).join("run.json")
}

fn keep(kernel: &Kernel, run: &Run) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(run).map_err(|error| parse(&result_file(kernel), error))?;
    workspace::write(&result_file(kernel), &text)
}

/// The newest run of each kernel that was ever run here.
fn kept() -> Result<Vec<(&'static Kernel, Run)>, Failure> {
    let mut runs = Vec::new();
    for kernel in KERNELS {
        let path = result_file(kernel);
        if path.exists() {
            let run = serde_json::from_str(&workspace::read(&path)?).map_err(|error| parse(&path, error))?;
            runs.push((kernel, run));
        }
    }
    Ok(runs)
}

fn parse(path: &Path, error: serde_json::Error) -> Failure {
    Failure::Parse {
        subject: path.display().to_string(),
        format: "JSON of a run",
        source: Box::new(error),
    }
}

fn names() -> String {
    let names: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
    names.join(", ")
}
