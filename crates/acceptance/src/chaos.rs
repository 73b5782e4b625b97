//! Minutes of random faults on the real nucleus, an order after each.
//!
//! In: how long, and a seed. Out: a line an order, and the sum: within ten seconds of the nucleus' own recovery, later, not
//! at all. The nucleus has recovered when the fault is over, its interface takes connections and the broker has taken an
//! MQTT session that is open; a later session, because the nucleus lost that one again, counts instead.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE, Real, Setup};
use crate::error::Trouble;
use crate::prober::Book;
use crate::processes;
use crate::scene::Scene;

/// Within which an order has to be obeyed once the nucleus has recovered.
const LIMIT: Duration = Duration::from_secs(10);
/// How long an order is waited for at all: the nucleus' longest back-off.
const HEARD_LIMIT: Duration = Duration::from_secs(120);
/// Round trips, in milliseconds.
const ROUND_TRIPS: [u64; 4] = [0, 100, 300, 1_200];

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Fault {
    AgentKilled,
    ComponentRestarted,
    NucleusStopped,
    NucleusKilled,
    NucleusFrozen(Duration),
    BrokerRestarted,
    BrokerForgets,
    BlackHole(Duration),
    LinkCut,
    /// `shadow.refreshSeconds`
    ConfigurationDeployed(u64),
    Redeployed,
}

impl Fault {
    fn any(random: &mut Rng) -> Self {
        let seconds = Duration::from_secs(random.u64(5..=30));
        match random.u32(0..11) {
            0 => Self::AgentKilled,
            1 => Self::ComponentRestarted,
            2 => Self::NucleusStopped,
            3 => Self::NucleusKilled,
            4 => Self::NucleusFrozen(seconds),
            5 => Self::BrokerRestarted,
            6 => Self::BrokerForgets,
            7 => Self::BlackHole(seconds),
            8 => Self::LinkCut,
            9 => Self::ConfigurationDeployed(random.u64(600..900)),
            _ => Self::Redeployed,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentKilled => formatter.write_str("agent killed"),
            Self::ComponentRestarted => formatter.write_str("component restarted"),
            Self::NucleusStopped => formatter.write_str("nucleus stopped and started"),
            Self::NucleusKilled => formatter.write_str("nucleus killed"),
            Self::NucleusFrozen(time) => write!(formatter, "nucleus frozen for {} s", time.as_secs()),
            Self::BrokerRestarted => formatter.write_str("broker restarted"),
            Self::BrokerForgets => formatter.write_str("broker restarted without its memory"),
            Self::BlackHole(time) => write!(formatter, "black hole of {} s", time.as_secs()),
            Self::LinkCut => formatter.write_str("link cut"),
            Self::ConfigurationDeployed(_) => formatter.write_str("configuration deployed"),
            Self::Redeployed => formatter.write_str("same version deployed"),
        }
    }
}

/// How an order fared.
#[derive(Default)]
struct Sum {
    in_time: usize,
    late: Vec<Duration>,
    unheard: usize,
}

/// Lets faults happen for so long; says whether every order was obeyed in time and the way never opened by itself.
pub(crate) fn run(setup: Setup, time: Duration, seed: u64) -> Result<bool, Trouble> {
    println!("chaos for {} s, seed {seed}", time.as_secs());
    let mut random = Rng::with_seed(seed);
    let mut bed = Real::start(setup, Arc::new(Mutex::new(Book::default())))?;
    prepare(&mut bed)?;
    let (mut sum, mut isolated) = (Sum::default(), false);
    let began = Instant::now();
    while began.elapsed() < time {
        let millis = ROUND_TRIPS[random.usize(..ROUND_TRIPS.len())];
        let (fault, during) = (Fault::any(&mut random), random.bool());
        bed.way().delay(Duration::from_millis(millis / 2))?;
        let outcome = round(&mut bed, fault, during, !isolated, &mut random);
        let told = match &outcome {
            Ok(Some(took)) if *took <= LIMIT => {
                sum.in_time += 1;
                format!("obeyed after {} ms", took.as_millis())
            }
            Ok(Some(took)) => {
                sum.late.push(*took);
                format!("LATE, {} ms", took.as_millis())
            }
            Ok(None) => {
                sum.unheard += 1;
                "UNHEARD".to_owned()
            }
            Err(trouble) => {
                sum.unheard += 1;
                format!("STOPPED: {}", edgewarden_lab::error_text(trouble))
            }
        };
        let order = if isolated { "release" } else { "isolate" };
        let when = if during { "during" } else { "after" };
        println!(
            "{:4} s  {millis:4} ms  {fault}, {order} {when} it: {told}",
            began.elapsed().as_secs()
        );
        isolated = !isolated;
        if !matches!(outcome, Ok(Some(_))) {
            bed.fresh()?;
            prepare(&mut bed)?;
            isolated = false;
        }
    }
    Ok(conclude(&bed, &sum))
}

fn conclude(bed: &Real, sum: &Sum) -> bool {
    let (breaches, guarded) = bed.prober().breaches();
    let orders = sum.in_time + sum.late.len() + sum.unheard;
    let longest = sum.late.iter().max().map_or(0, Duration::as_secs);
    println!(
        "\n{orders} orders: {} within {} s of the nucleus' recovery, {} later (up to {longest} s), {} not within {} s; \
         isolated and watched for {} s, open meanwhile {breaches} times; SIGKILLs {}",
        sum.in_time,
        LIMIT.as_secs(),
        sum.late.len(),
        sum.unheard,
        HEARD_LIMIT.as_secs(),
        guarded.as_secs(),
        bed.kills(),
    );
    sum.in_time == orders && breaches == 0 && bed.kills() == 0
}

fn scene(bed: &mut Real) -> Scene<'_> {
    Scene {
        bed,
        round_trip: Duration::ZERO,
        limit: LIMIT,
    }
}

fn prepare(bed: &mut Real) -> Result<(), Trouble> {
    scene(bed).ready()
}

/// One fault and one order; how long after the later of order and recovery it was obeyed.
fn round(
    bed: &mut Real,
    fault: Fault,
    during: bool,
    isolate: bool,
    random: &mut Rng,
) -> Result<Option<Duration>, Trouble> {
    begin(bed, fault)?;
    let mut ordered = during.then(|| order(bed, fault, isolate)).transpose()?;
    end(bed, fault)?;
    let over = Instant::now();
    if ordered.is_none() {
        let pause = Duration::from_millis(random.u64(0..4_000));
        scene(bed).pass(pause)?;
        ordered = Some(order(bed, fault, isolate)?);
    }
    let ordered = ordered.unwrap_or(over);
    let deadline = Instant::now() + HEARD_LIMIT;
    let mut recovered = None;
    while Instant::now() < deadline {
        bed.keep_nucleus()?;
        if !(bed.interface_is_up() && has_session(bed)) {
            recovered = None;
        } else if recovered.is_none() {
            recovered = Some(Instant::now());
        }
        let obeyed = if isolate {
            bed.prober().wait_closed(ordered, Duration::from_millis(100))
        } else {
            bed.prober().wait_open(ordered, Duration::from_millis(100))
        };
        if let Some(took) = obeyed {
            if isolate {
                bed.prober().guard();
            }
            let from = ordered.max(over).max(last_session(bed).unwrap_or(over));
            return Ok(Some((ordered + took).saturating_duration_since(from)));
        }
        // Measured from its recovery, it has had its time; the longer wait is for the nucleus.
        if recovered.is_some_and(|at| at.elapsed() > PATIENCE) {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Orders as soon as the broker takes it.
fn order(bed: &mut Real, fault: Fault, isolate: bool) -> Result<Instant, Trouble> {
    if matches!(fault, Fault::BrokerRestarted | Fault::BrokerForgets) {
        start_broker(bed, fault)?;
    }
    let desired = json!({"quarantine": isolate});
    if !isolate {
        bed.prober().unguard();
    }
    let mut at = Instant::now();
    scene(bed).wait("the broker", PATIENCE, |bed| {
        at = Instant::now();
        bed.desire(&desired).is_ok()
    })?;
    Ok(at)
}

fn begin(bed: &mut Real, fault: Fault) -> Result<(), Trouble> {
    let nucleus = bed.nucleus();
    let signal = |signal| nucleus.map_or(Ok(()), |pid| processes::signal(pid, signal));
    match fault {
        Fault::AgentKilled => bed
            .agent()
            .map_or(Ok(()), |pid| processes::signal(pid, Signal::SIGKILL)),
        Fault::ComponentRestarted => bed.restart_component(),
        Fault::NucleusStopped => signal(Signal::SIGTERM),
        Fault::NucleusKilled => signal(Signal::SIGKILL),
        Fault::NucleusFrozen(_) => signal(Signal::SIGSTOP),
        Fault::BrokerRestarted | Fault::BrokerForgets => bed.kill_broker(),
        Fault::BlackHole(_) => Ok(bed.way().black_hole(true)?),
        Fault::LinkCut => Ok(bed.way().cut()?),
        Fault::ConfigurationDeployed(seconds) => {
            bed.configure(&json!({"shadow": {"refreshSeconds": seconds.to_string()}}))
        }
        Fault::Redeployed => bed.deploy_agent().map(drop),
    }
}

fn end(bed: &mut Real, fault: Fault) -> Result<(), Trouble> {
    match fault {
        Fault::NucleusFrozen(time) => {
            std::thread::sleep(time);
            bed.nucleus()
                .map_or(Ok(()), |pid| processes::signal(pid, Signal::SIGCONT))
        }
        Fault::BlackHole(time) => {
            std::thread::sleep(time);
            Ok(bed.way().black_hole(false)?)
        }
        Fault::BrokerRestarted | Fault::BrokerForgets => start_broker(bed, fault),
        _ => Ok(()),
    }
}

/// Once; the order may have needed it already.
fn start_broker(bed: &mut Real, fault: Fault) -> Result<(), Trouble> {
    if bed.broker_runs() {
        return Ok(());
    }
    bed.start_broker(matches!(fault, Fault::BrokerForgets))
}

fn millis_now() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis()
}

/// Sessions that the broker took and that are open.
fn sessions(bed: &Real) -> Vec<Value> {
    let ended: Vec<Value> = bed.policy().told("ended");
    let mut sessions = bed.policy().told("session");
    sessions.retain(|line| {
        line["accepted"] == true && !ended.iter().any(|end| end["connection"] == line["connection"])
    });
    sessions
}

fn has_session(bed: &Real) -> bool {
    !sessions(bed).is_empty()
}

/// When the newest of them was taken.
fn last_session(bed: &Real) -> Option<Instant> {
    let at = sessions(bed)
        .iter()
        .filter_map(|line| line["at"].as_u64())
        .max()?;
    let ago = millis_now().saturating_sub(u128::from(at));
    Instant::now().checked_sub(Duration::from_millis(u64::try_from(ago).ok()?))
}
