//! `cargo xtask bench ipc`: what a call through the IPC costs, for three clients on the same lab nucleus.
//!
//! In: release builds, a loopback broker. Out: per personality, operation and calls in flight: calls a second, latency,
//! CPU of the client and of the nucleus, memory. The clients take turns in every round, so that a busy moment of the
//! machine hits all of them; the median of the rounds is reported.

mod clients;
mod lab;
mod measure;

use xtask::workspace;

use crate::Bench;
use crate::error::BenchError;
use crate::figure::{Aim, Figure};
use crate::machine::{self, temporary_folder};
use crate::report::Report;
use clients::Client;
use lab::Lab;
use measure::{Case, METRICS, Sample, measure, together};

/// Both nuclei answer the same operations, but end their streams differently.
const PERSONALITIES: [&str; 2] = ["lite", "classic"];
/// Measurements of each client in each case; odd, so that the median is one of them.
const ROUNDS: usize = 3;
/// What the project set out to reach, against the official client.
const THROUGHPUT_AIM: Aim = Aim::AtLeast(5.0);
/// And against the community crate.
const LATENCY_AIM: Aim = Aim::AtMost(1.0);

/// The bench, as it is asked for.
#[derive(clap::Args)]
pub(crate) struct Ipc {}

impl Bench for Ipc {
    const NAME: &'static str = "ipc";
    const IN_NAMESPACES: bool = false;

    fn prepare(&self) -> Result<(), BenchError> {
        clients::build()
    }

    fn measure(&self, report: &mut Report) -> Result<(), BenchError> {
        PERSONALITIES
            .into_iter()
            .try_for_each(|personality| run_on(personality, report))
    }
}

fn run_on(personality: &str, report: &mut Report) -> Result<(), BenchError> {
    let folder = temporary_folder()?;
    let lab = Lab::start(&machine::release("edgewarden-lab"), folder.path(), personality)?;
    for case in Case::ALL {
        let mut samples: [Vec<Sample>; Client::ALL.len()] = Default::default();
        for round in 1..=ROUNDS {
            eprintln!(
                "bench: {personality}, {} with {} in flight, round {round} of {ROUNDS}",
                case.operation, case.in_flight
            );
            for (client, samples) in Client::ALL.into_iter().zip(&mut samples) {
                let log = workspace::target().join(format!("bench/{}.log", client.name()));
                samples.push(measure(&lab, client, case, log)?);
            }
        }
        let results = samples.each_ref().map(|samples| together(samples));
        for figure in figures(personality, case, &results) {
            report.add(figure);
        }
    }
    Ok(())
}

/// All numbers of a case; ours are compared with the others' where the project has an aim.
fn figures(personality: &str, case: Case, results: &[Sample; Client::ALL.len()]) -> Vec<Figure> {
    let mut figures = Vec::new();
    let title = |client: Client| {
        let (operation, in_flight) = (case.operation, case.in_flight);
        format!("{personality} {operation} {in_flight} {}", client.name())
    };
    for (client, sample) in Client::ALL.into_iter().zip(results) {
        for ((metric, unit), value) in METRICS.into_iter().zip(sample) {
            figures.extend(value.map(|value| Figure::new(title(client), metric, value, unit)));
        }
    }
    let [ours, python, community] = results;
    for (metric, baseline, theirs, aim) in [
        ("calls_per_second", Client::Python, python, Some(THROUGHPUT_AIM)),
        ("cpu_per_call", Client::Python, python, None),
        ("latency_p50", Client::Community, community, Some(LATENCY_AIM)),
        ("latency_p99", Client::Community, community, Some(LATENCY_AIM)),
        ("cpu_per_call", Client::Community, community, None),
    ] {
        let Some(index) = METRICS.iter().position(|(name, _)| *name == metric) else {
            continue;
        };
        if let (Some(ours), Some(theirs)) = (ours[index], theirs[index]) {
            let figure = Figure::new(title(Client::Ours), metric, ours, METRICS[index].1);
            figures.push(figure.against(baseline.name(), theirs, aim));
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_compared_with_both_others() {
        let results = [10.0, 2.0, 20.0].map(|value| [Some(value); METRICS.len()]);
        let figures = figures("lite", Case::ALL[0], &results);
        let compared: Vec<_> = figures
            .iter()
            .filter_map(|figure| figure.comparison.as_ref().map(|comparison| (figure, comparison)))
            .collect();
        assert_eq!(figures.len(), 3 * METRICS.len() + compared.len());
        assert!(
            compared
                .iter()
                .all(|(figure, _)| figure.case == "lite get 1 greengrass-ipc")
        );
        let ratios: Vec<_> = compared
            .iter()
            .map(|(figure, comparison)| (figure.metric, comparison.baseline.as_str(), comparison.ratio))
            .collect();
        assert_eq!(ratios[0], ("calls_per_second", "awsiotsdk", 5.0));
        assert_eq!(ratios[2], ("latency_p50", "greengrass-ipc-rust", 0.5));
    }
}
