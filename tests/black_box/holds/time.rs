//! Clock steps of the agent alone, through libfaketime (Debian package `faketime`); the machine's clock is left alone.
//!
//! In: nothing. Invariant looked at: no step of the wall clock ends an order early or late; the shadow service's own
//! time does.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edgewarden_lab::site::{BROKER_PORT, Ns, SpawnSpec, lab_program};
use edgewarden_lab::stage::Stage;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::picture::picture;
use crate::common::{LIMIT, connected_and_released, done, options};

/// A clock that can be set while its program runs.
struct FakeClock(PathBuf);

impl FakeClock {
    fn new(stage: &Stage, name: &str) -> Self {
        let clock = Self(stage.site.directory().join(name));
        clock.set("+0");
        clock
    }

    /// An offset (`+1d`, `-1d`) or a time (`@1970-01-01 00:00:00`).
    fn set(&self, text: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &self.0).unwrap();
    }

    /// Words for `env` that put a program under this clock. Uptime stays the machine's.
    fn words(&self) -> Vec<String> {
        vec![
            format!("LD_PRELOAD={}", library().display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.0.display()),
            "FAKETIME_NO_CACHE=1".into(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
        ]
    }
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap();
    folders
        .map(|folder| folder.unwrap().path().join("faketime/libfaketime.so.1"))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("libfaketime is missing (Debian package faketime)"))
}

/// A connected, released agent under a clock of its own.
fn start_agent(stage: &mut Stage, clock: &FakeClock) {
    let words = clock.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    stage.start_agent_as(Path::new("env"), &words).unwrap();
    connected_and_released(stage);
}

/// A cloud under a clock of its own, in place of the stage's.
fn start_cloud(stage: &mut Stage, clock: &FakeClock) {
    stage.cloud = None;
    let mut spec = SpawnSpec::new("env", stage.site.directory().join("faked-cloud.log"));
    spec.args = clock.words().into_iter().map(Into::into).collect();
    spec.args.push(lab_program().unwrap().into());
    let broker = format!("127.0.0.1:{BROKER_PORT}");
    spec.args
        .extend(["cloud", "--broker", &broker, "--min-interval-seconds", "1"].map(Into::into));
    let mut cloud = stage.site.spawn_with(Ns::Internet, spec).unwrap();
    cloud
        .wait_event(LIMIT, |event| event["event"] == "connected")
        .unwrap();
    stage.cloud = Some(cloud);
}

fn operator_isolates(stage: &Stage, args: &[&str]) {
    done(stage, &[&["quarantine", "--reason", "r"], args].concat());
}

/// Waits until the agent says what is wrong with its clock, and that nothing was opened for it.
fn doubted(stage: &Stage, side: &str) {
    let told = |s: &Value| {
        let faults = s["enforcement"]["faults"].to_string();
        faults.contains("the clock is doubted") && faults.contains(side)
    };
    let status = stage
        .wait_status(LIMIT, &format!("doubted, {side}"), told)
        .unwrap();
    assert_eq!(status["enforcement"]["posture"], "isolate", "{status}");
    assert!(picture(stage).is_some());
}

fn shadow_isolates_until(stage: &Stage, end: Timestamp) {
    let order = json!({"id": "until", "posture": "isolate", "expires": end.to_string()});
    stage.desire(&json!({ "quarantine": order })).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    assert!(picture(stage).is_some());
}

fn from_now(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

/// Steps by a day to both sides: an order of 20 s ends after 20 s.
pub(crate) fn steps() {
    let mut stage = Stage::start(options()).unwrap();
    let clock = FakeClock::new(&stage, "clock");
    start_agent(&mut stage, &clock);
    let given = Instant::now();
    operator_isolates(&stage, &["--expires-seconds", "20"]);
    assert_eq!(
        stage.status()["enforcement"]["faults"],
        json!([]),
        "control: no doubt before"
    );
    clock.set("+1d");
    doubted(&stage, "24 hours ahead");
    // A restart in the same boot is no way out either.
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let words = clock.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    stage.start_agent_as(Path::new("env"), &words).unwrap();
    doubted(&stage, "24 hours ahead");
    clock.set("-1d");
    doubted(&stage, "24 hours behind");
    let early = given.elapsed();
    assert!(
        early < Duration::from_secs(18),
        "control: looked at before the end: {early:?}"
    );
    stage.wait_phase(LIMIT, "released").unwrap();
    let took = given.elapsed();
    println!("an order of 20 s ended after {took:?}");
    let right = Duration::from_secs(18)..Duration::from_secs(26);
    assert!(right.contains(&took), "{took:?}");
    assert_eq!(picture(&stage), None);
    assert_eq!(
        stage.status()["enforcement"]["faults"],
        json!([]),
        "nothing ends by the clock any more"
    );
}

/// The service's time makes true what the wall clock alone could not.
pub(crate) fn confirmed_by_the_service() {
    let mut stage = Stage::start(options()).unwrap();
    let (clock, clouds) = (
        FakeClock::new(&stage, "clock"),
        FakeClock::new(&stage, "cloud-clock"),
    );
    start_cloud(&mut stage, &clouds);
    start_agent(&mut stage, &clock);
    shadow_isolates_until(&stage, from_now(3600));
    clock.set("+1d");
    doubted(&stage, "24 hours ahead");

    clouds.set("+1d");
    // Something to report makes the service answer.
    operator_isolates(&stage, &[]);
    let ended = |s: &Value| {
        let orders = &s["enforcement"]["orders"];
        orders.as_array().is_some_and(|all| all.len() == 1) && orders[0]["authority"] == "operator"
    };
    let status = stage
        .wait_status(LIMIT, "the shadow's order ends", ended)
        .unwrap();
    assert!(
        !status["enforcement"]["faults"].to_string().contains("doubted"),
        "{status}"
    );
}

/// A device that believes in 1970: the service's time ends its order at the right time.
pub(crate) fn without_a_battery() {
    let mut stage = Stage::start(options()).unwrap();
    let clock = FakeClock::new(&stage, "clock");
    clock.set("@1970-01-02 00:00:00");
    start_agent(&mut stage, &clock);
    let end = from_now(10);
    shadow_isolates_until(&stage, end);
    doubted(&stage, "behind");
    assert!(Timestamp::now() < end, "control: looked at before the end");
    stage.wait_phase(LIMIT, "released").unwrap();
    let late = Timestamp::now().duration_since(end);
    println!("ended {late:?} after its time");
    assert!(
        late > SignedDuration::from_secs(-1) && late < SignedDuration::from_secs(5),
        "{late:?}"
    );
}
