//! `cargo xtask acceptance`: the agent on real nuclei, classic and lite, beside the stand-in.
//!
//! In: a folder with a nucleus (CONTRIBUTING.md says where one comes from), what `cargo xtask package` builds. Out: a
//! Markdown table, one scenario and round trip a row; the exit code says whether every row held.
//!
//! ```text
//! scenarios    what is shown                      table     rows and verdicts
//! scene        the verbs scenarios are made of    prober    whether a way that no lifeline covers is open
//! bed          stand-in, classic nucleus or lite, broker, TLS, the way in between
//! chaos        minutes of random faults
//! ```
//!
//! Everything runs in network and mount namespaces of its own. Deliberately absent: any file of the nucleus.

mod bed;
mod chaos;
mod error;
mod ipc;
mod keys;
mod mqtt;
mod own_files;
mod prober;
mod processes;
mod scenarios;
mod scene;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::{ArgGroup, Parser};
use edgewarden_lab::error_text;
use edgewarden_lab::site::{IN_LAB, enter_or_reexec};
use serde_json::json;
use xtask::packages::{ACCEPTANCE_PACKAGES, CLASSIC_PACKAGES, LITE_PACKAGES, PACKAGES};
use xtask::{cross, run, setup, workspace};

use bed::{Bed, Kind, Lite, Real, Setup, StandIn};
use error::Trouble;
use prober::Book;
use scenarios::Scenario;
use scene::Scene;
use table::{Cell, Table};

#[derive(Parser)]
#[command(
    name = "acceptance",
    bin_name = "cargo xtask acceptance",
    about = "Show the agent on real nuclei; not part of CI",
    group(ArgGroup::new("nuclei").required(true).multiple(true).args(["classic", "lite"]))
)]
struct Arguments {
    /// Folder with nucleus/lib/Greengrass.jar and CliServer.jar
    #[arg(long, value_name = "FOLDER")]
    classic: Option<PathBuf>,
    /// Folder as `DESTDIR=FOLDER cmake --install` writes it for the prefix /usr
    #[arg(long, value_name = "FOLDER")]
    lite: Option<PathBuf>,
    /// Round trips between nucleus and broker, in milliseconds
    #[arg(
        long,
        value_name = "MS",
        value_delimiter = ',',
        default_value = "5,100,300,1200"
    )]
    round_trips: Vec<u64>,
    /// Only scenarios whose name contains this, or whose fact it is; may be given more than once
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// How often each scenario is played
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    times: u32,
    /// Only this nucleus
    #[arg(long, value_name = "stand-in|real|lite", value_parser = kind)]
    on: Option<Kind>,
    /// Another folder as `cargo xtask package` fills it, e.g. an older version's
    #[arg(long, value_name = "FOLDER")]
    artifacts: Option<PathBuf>,
    /// Instead of the scenarios: so many minutes of random faults on the classic nucleus
    #[arg(long, value_name = "MINUTES", requires = "classic")]
    chaos: Option<u64>,
    /// Seed of the faults; a run prints its own
    #[arg(long)]
    seed: Option<u64>,
    /// Where everything of the run goes; runs at the same time need one each
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

fn kind(text: &str) -> Result<Kind, String> {
    match text {
        "stand-in" => Ok(Kind::StandIn),
        "real" => Ok(Kind::Real),
        "lite" => Ok(Kind::Lite),
        _ => Err("none of `stand-in`, `real`, `lite`".to_owned()),
    }
}

fn main() -> ExitCode {
    match accept(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("\nxtask: the acceptance could not run: {}", error_text(&trouble));
            ExitCode::FAILURE
        }
    }
}

/// Whether everything held.
fn accept(arguments: &Arguments) -> Result<bool, Trouble> {
    if std::env::var_os(IN_LAB).is_none() {
        prepare(arguments)?;
    }
    enter_or_reexec(std::env::args_os().skip(1))?;
    let folder = arguments
        .folder
        .clone()
        .unwrap_or_else(|| workspace::target().join("acceptance"));
    own_files::mount_over(&folder.join("etc"))?;
    if let Some(minutes) = arguments.chaos {
        let setup = setup_of(Kind::Real, arguments, &folder.join("chaos"))?;
        let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
        return chaos::run(setup, Duration::from_secs(60 * minutes), seed);
    }
    let mut table = Table::default();
    let began = Instant::now();
    for kind in [Kind::StandIn, Kind::Real, Kind::Lite] {
        let is_there = kind == Kind::StandIn || nucleus_folder(kind, arguments).is_some();
        if is_there && arguments.on.is_none_or(|only| only == kind) {
            on_one(kind, arguments, &folder, &mut table)?;
        }
    }
    println!("\n{}", table.markdown(scenarios::ALL));
    println!("{} s in all", began.elapsed().as_secs());
    Ok(table.held())
}

/// What must be there, while there is a network to get it from.
fn prepare(arguments: &Arguments) -> Result<(), Trouble> {
    match arguments.on {
        Some(kind) if kind != Kind::StandIn && nucleus_folder(kind, arguments).is_none() => {
            return Err(Trouble::NoFolder { kind });
        }
        _ => {}
    }
    if let Some(classic) = &arguments.classic {
        for missing in ["nucleus/lib/Greengrass.jar", "CliServer.jar"] {
            if !classic.join(missing).is_file() {
                let folder = classic.clone();
                return Err(Trouble::NoNucleus { folder, missing });
            }
        }
    }
    setup::ensure(PACKAGES)?;
    setup::ensure(ACCEPTANCE_PACKAGES)?;
    if arguments.classic.is_some() {
        setup::ensure(CLASSIC_PACKAGES)?;
    }
    if let Some(lite) = &arguments.lite {
        setup::ensure(LITE_PACKAGES)?;
        if let Some(missing) = bed::missing_of_lite(lite) {
            let folder = lite.clone();
            return Err(Trouble::NoLite { folder, missing });
        }
    }
    run::run(&mut workspace::cargo(&[
        "build",
        "--locked",
        "--release",
        "--package",
        "edgewarden-lab",
    ]))?;
    if arguments.artifacts.is_none() {
        // The nuclei run on this machine; the other programs are of no use here.
        let this = cross::of_this_machine()
            .into_iter()
            .flat_map(|target| ["--only", target.architecture]);
        run::run(workspace::cargo(&["xtask", "package"]).args(this))?;
    }
    Ok(())
}

/// The folder of a nucleus; the stand-in has none.
fn nucleus_folder(kind: Kind, arguments: &Arguments) -> Option<&PathBuf> {
    match kind {
        Kind::StandIn => None,
        Kind::Real => arguments.classic.as_ref(),
        Kind::Lite => arguments.lite.as_ref(),
    }
}

fn setup_of(kind: Kind, arguments: &Arguments, folder: &Path) -> Result<Setup, Trouble> {
    let whole = |path: &Path| {
        path.canonicalize()
            .map_err(error::io(format!("find {}", path.display())))
    };
    let artifacts = arguments
        .artifacts
        .clone()
        .unwrap_or_else(|| workspace::root().join("artifacts"));
    Ok(Setup {
        nucleus_folder: nucleus_folder(kind, arguments)
            .map(|path| whole(path))
            .transpose()?
            .unwrap_or_default(),
        artifacts: whole(&artifacts)?,
        folder: folder.to_owned(),
        user: "root:root".to_owned(),
        nucleus: json!({}),
        deployed: true,
        proxy: false,
    })
}

/// Every scenario that is wanted, on one nucleus.
fn on_one(kind: Kind, arguments: &Arguments, folder: &Path, table: &mut Table) -> Result<(), Trouble> {
    let (own, shared): (Vec<_>, Vec<_>) = scenarios::ALL
        .iter()
        .enumerate()
        .filter(|(_, scenario)| scenario.beds.contains(&kind))
        .filter(|(_, scenario)| {
            let is = |only: &String| scenario.name.contains(only) || scenario.fact == only;
            arguments.only.is_empty() || arguments.only.iter().any(is)
        })
        .partition(|(_, scenario)| scenario.own.is_some());
    let own_folder = if kind == Kind::Lite { "lite" } else { "real" };
    let setup = setup_of(kind, arguments, &folder.join(own_folder))?;
    if !shared.is_empty() {
        let mut bed = make_bed(kind, setup.clone())?;
        for (index, scenario) in shared {
            for round_trip in round_trips(scenario, arguments) {
                for _ in 0..arguments.times {
                    let cell = play(scenario, round_trip, bed.as_mut());
                    tell(kind, scenario, round_trip, &cell);
                    table.put(index, round_trip, kind, cell);
                }
            }
        }
        sum_up(bed.as_mut());
    }
    for (index, scenario) in own {
        let mut setup = setup.clone();
        if let Some(otherwise) = scenario.own {
            otherwise(&mut setup);
        }
        let mut bed = make_bed(kind, setup)?;
        let cell = play(scenario, None, bed.as_mut());
        tell(kind, scenario, None, &cell);
        table.put(index, None, kind, cell);
    }
    Ok(())
}

fn make_bed(kind: Kind, setup: Setup) -> Result<Box<dyn Bed>, Trouble> {
    let book = Arc::new(Mutex::new(Book::default()));
    Ok(match kind {
        Kind::Real => Box::new(Real::start(setup, book)?),
        Kind::Lite => Box::new(Lite::start(setup, book)?),
        Kind::StandIn => Box::new(StandIn::start(setup.artifacts, book)?),
    })
}

fn round_trips(scenario: &Scenario, arguments: &Arguments) -> Vec<Option<Duration>> {
    if !scenario.every_round_trip {
        return vec![None];
    }
    let times = arguments.round_trips.iter();
    times.map(|millis| Some(Duration::from_millis(*millis))).collect()
}

fn tell(kind: Kind, scenario: &Scenario, round_trip: Option<Duration>, cell: &Cell) {
    let millis = round_trip.unwrap_or_default().as_millis();
    let times = cell.seen.as_ref().map_or(&[][..], |seen| &seen.times);
    let each: Vec<_> = times
        .iter()
        .map(|time| time.map_or_else(|| "unheard".to_owned(), |time| time.as_millis().to_string()))
        .collect();
    println!(
        "{kind:?}: {} at {millis} ms: {} [{}]",
        scenario.name,
        cell.text(),
        each.join(" ")
    );
}

fn sum_up(bed: &mut dyn Bed) {
    let memory = bed.agent().and_then(processes::resident).unwrap_or_default();
    let (breaches, guarded) = bed.prober().breaches();
    println!(
        "{:?}: agent {memory} KB; isolated and watched for {} s, open meanwhile: {breaches}; SIGKILLs {}",
        bed.kind(),
        guarded.as_secs(),
        bed.kills()
    );
}

/// One scenario at one round trip. What stops it is told in its row; the next begins from the beginning.
fn play(scenario: &Scenario, round_trip: Option<Duration>, bed: &mut dyn Bed) -> Cell {
    let round_trip = round_trip.unwrap_or_default();
    let limit = scenario.limit.at(round_trip);
    let (kills, breaches) = (bed.kills(), bed.prober().breaches().0);
    let mut scene = Scene {
        bed,
        round_trip,
        limit,
    };
    // A nucleus of its own is as it was set up, perhaps without an agent.
    let ready = if scenario.own.is_some() {
        Ok(())
    } else {
        scene.ready()
    };
    let seen = ready.and_then(|()| (scenario.run)(&mut scene));
    bed.prober().unguard();
    let cell = Cell {
        seen: seen.map_err(|trouble| error_text(&trouble)),
        limit,
        breaches: bed.prober().breaches().0 - breaches,
        kills: bed.kills() - kills,
    };
    if cell.held() || scenario.own.is_some() {
        return cell;
    }
    let again = bed.fresh();
    match (cell.seen, again) {
        (Ok(seen), Err(trouble)) => Cell {
            seen: Ok(seen.fault(true, format!("no new beginning: {}", error_text(&trouble)))),
            ..cell
        },
        (seen, _) => Cell { seen, ..cell },
    }
}
