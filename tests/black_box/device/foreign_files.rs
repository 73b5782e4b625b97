//! Files of others that block: pipes and file systems that hang, wherever resolvers, time servers and metrics are read.
//! The agent goes on, each source keeps its own last word, and stopping takes no longer.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::Stage;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::agent::{joined, restart_behind};
use crate::common::programs::{sender, wait_state};
use crate::common::silent::hang;
use crate::common::told::shown;
use crate::common::{LIMIT, connected_and_released, isolate, options, ready, release};

/// An order on a machine that does much else, with room: what hangs would hold it for minutes.
const NORMAL: Duration = Duration::from_secs(15);
/// How long stopping may take.
const STOP: Duration = Duration::from_secs(5);

/// Every file and folder that is read, by what it says; the last is a file of the folder.
const SOURCES: [(&str, &str); 10] = [
    ("etc/resolv.conf", "nameserver"),
    ("run/systemd/resolve/resolv.conf", "nameserver"),
    ("etc/systemd/timesyncd.conf", "NTP"),
    ("etc/chrony/chrony.conf", "server"),
    ("etc/chrony.conf", "server"),
    ("etc/ntpsec/ntp.conf", "server"),
    ("etc/ntp.conf", "server"),
    ("etc/systemd/timesyncd.conf.d/x.conf", "NTP"),
    ("etc/chrony/conf.d/x.conf", "server"),
    ("etc/chrony/sources.d/x.sources", "server"),
];
/// The one that stays readable, and proves that the others do not hold it up.
const FRESH: &str = "etc/ntp.conf";

/// The device's own configuration, apart from this machine's.
struct Configuration {
    /// Holds `etc`, `run` and `metrics`.
    root: PathBuf,
    /// The shell's words that put it in place.
    mounts: String,
}

impl Configuration {
    /// As it should be: every source names another address.
    fn new(stage: &Stage) -> Self {
        let root = stage.site.directory().join("device");
        let copy = root.join("etc");
        std::fs::create_dir_all(&copy).unwrap();
        std::fs::create_dir_all(root.join("metrics")).unwrap();
        // What may not be read without privilege is not needed.
        let _some = std::process::Command::new("cp")
            .args(["-a", "/etc/.", copy.to_str().unwrap()])
            .output()
            .unwrap();
        std::fs::create_dir_all("/run/systemd/resolve").unwrap();
        let configuration = Self {
            mounts: format!(
                "mount --rbind {0}/etc /etc && mount --rbind {0}/run /run/systemd/resolve",
                root.display()
            ),
            root,
        };
        for folder in [
            "etc/systemd/timesyncd.conf.d",
            "etc/chrony/conf.d",
            "etc/chrony/sources.d",
        ] {
            let _was = std::fs::remove_dir_all(configuration.path(folder));
        }
        for (number, (source, _)) in SOURCES.iter().enumerate() {
            configuration.write(source, &address(number));
        }
        configuration
    }

    fn path(&self, source: &str) -> PathBuf {
        match source.strip_prefix("run/systemd/resolve/") {
            Some(file) => self.root.join("run").join(file),
            None => self.root.join(source),
        }
    }

    fn write(&self, source: &str, address: &str) {
        let path = self.path(source);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _was = std::fs::remove_file(&path);
        let (_, key) = SOURCES.iter().find(|(known, _)| *known == source).unwrap();
        let between = if *key == "NTP" { "=" } else { " " };
        std::fs::write(path, format!("{key}{between}{address}\n")).unwrap();
    }

    /// Puts a pipe into its place.
    fn block(&self, source: &str) {
        let path = self.path(source);
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    }
}

fn address(number: usize) -> String {
    format!("192.0.2.{}", 100 + number)
}

/// Addresses that the agent knows from all sources by its last look, as the status counts them.
fn known(status: &Value) -> u64 {
    status["lifelines"]["addresses"].as_u64().unwrap_or_default()
}

/// Whether the packet filter lets the address through.
fn open(stage: &Stage, address: &str) -> bool {
    let (_, rules, _) = stage.nft(&["list", "ruleset"]).unwrap();
    let ends = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_digit());
    rules
        .match_indices(address)
        .any(|(at, _)| ends(&rules[at + address.len()..]))
}

fn wait_open(stage: &Stage, address: &str) {
    let what = format!("{address} is a lifeline");
    wait_until(LIMIT, &what, || open(stage, address)).unwrap();
}

/// Has the agent look around: it does when its configuration changes.
fn look_around(stage: &mut Stage, round: u8, metrics: &Path) {
    let configuration = json!({
        "development": {"reportIntervalSeconds": 2},
        "reporting": {"metricsDirectory": metrics},
        "isolation": {"timeServers": [format!("192.0.2.{}", 200 + u16::from(round))]},
    });
    stage.deploy(&configuration).unwrap();
}

/// Both orders, in normal time.
fn orders_are_obeyed(stage: &Stage) {
    let began = Instant::now();
    isolate(stage);
    release(stage);
    let took = began.elapsed();
    assert!(took < NORMAL, "{took:?}");
}

fn stops_in_time(stage: &mut Stage) {
    let agent = stage.agent.as_mut().unwrap();
    agent.terminate().unwrap();
    let status = agent.wait_exit(STOP).unwrap();
    assert!(status.success(), "{status}");
}

fn told_once(stage: &Stage, text: &str) {
    let log = stage.agent_output();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
    assert_eq!(lines.len(), 1, "{text:?}: {lines:#?}");
}

/// The agent behind its own configuration, isolated, every source known.
fn isolated_with_every_source(stage: &mut Stage) -> Configuration {
    let configuration = Configuration::new(stage);
    restart_behind(stage, &configuration.mounts);
    connected_and_released(stage);
    look_around(stage, 0, &configuration.root.join("metrics"));
    isolate(stage);
    for number in 0..SOURCES.len() {
        wait_open(stage, &address(number));
    }
    wait_open(stage, "192.0.2.200");
    configuration
}

lab_test!(a_pipe_in_place_of_any_source_silences_that_source_only, || {
    let mut stage = ready(options());
    let configuration = isolated_with_every_source(&mut stage);
    let before = known(&stage.status());
    assert!(before >= SOURCES.len() as u64, "control: {before} addresses");

    let blocked = SOURCES.iter().map(|(source, _)| *source);
    let blocked: Vec<&str> = blocked.filter(|source| *source != FRESH).collect();
    blocked.iter().for_each(|source| configuration.block(source));
    configuration.write(FRESH, "192.0.2.250");
    look_around(&mut stage, 1, &configuration.root.join("metrics"));
    wait_open(&stage, "192.0.2.250");
    let told = |s: &Value| {
        let problems = joined(&s["lifelines"]["unresolved"]);
        let tells = |source: &&str| {
            problems.contains(&format!(
                "/{source} is not read, what it said last counts: it is not a regular file"
            ))
        };
        blocked.iter().all(tells) && known(s) == before
    };
    stage
        .wait_status(LIMIT, "every pipe is told, nothing is forgotten", told)
        .unwrap();
    look_around(&mut stage, 2, &configuration.root.join("metrics"));
    wait_open(&stage, "192.0.2.202");
    for source in &blocked {
        told_once(&stage, &format!("/{source} is not read"));
    }
    release(&stage);
    orders_are_obeyed(&stage);
    stops_in_time(&mut stage);

    // From the start on, too; and what is not there is no fault.
    std::fs::remove_file(configuration.path("etc/chrony.conf")).unwrap();
    restart_behind(&mut stage, &configuration.mounts);
    connected_and_released(&stage);
    orders_are_obeyed(&stage);
    let status = stage.status();
    let problems = joined(&status["lifelines"]["unresolved"]);
    assert!(
        problems.contains("/etc/resolv.conf is not read, it counts for nothing"),
        "{problems}"
    );
    assert!(!problems.contains("/etc/chrony.conf"), "{problems}");
    stops_in_time(&mut stage);
});

lab_test!(a_source_on_a_file_system_that_hangs_holds_up_nothing, || {
    let mut stage = ready(options());
    let configuration = isolated_with_every_source(&mut stage);
    let metrics = configuration.root.join("metrics");
    let before = known(&stage.status());
    let places = [
        "/etc/resolv.conf",
        "/etc/chrony/conf.d",
        metrics.to_str().unwrap(),
    ];
    let mut hanging = Vec::new();
    for place in places {
        match hang(&stage, Path::new(place)) {
            Some(running) => hanging.push(running),
            None => return,
        }
    }
    configuration.write(FRESH, "192.0.2.250");
    look_around(&mut stage, 1, &metrics);
    wait_open(&stage, "192.0.2.250");
    let told = |s: &Value| {
        let problems = joined(&s["lifelines"]["unresolved"]);
        let tells = |place: &&str| {
            problems.contains(&format!(
                "{place} is not read, what it said last counts: it does not answer"
            ))
        };
        places[..2].iter().all(tells) && known(s) == before
    };
    stage
        .wait_status(LIMIT, "what hangs is told, nothing is forgotten", told)
        .unwrap();
    let left_out = format!("{}: it does not answer", metrics.display());
    let accepted = |s: &Value| s["reports"]["accepted"].as_u64().unwrap_or_default();
    let reported = accepted(&stage.status());
    let goes_on =
        |s: &Value| joined(&s["reports"]["leftOut"]).contains(&left_out) && accepted(s) >= reported + 3;
    stage
        .wait_status(LIMIT, "reports go on without the metrics", goes_on)
        .unwrap();
    look_around(&mut stage, 2, &metrics);
    wait_open(&stage, "192.0.2.202");
    for place in &places[..2] {
        told_once(&stage, &format!("{place} is not read"));
    }
    release(&stage);
    orders_are_obeyed(&stage);
    stops_in_time(&mut stage);
});

lab_test!(
    metrics_as_large_as_they_may_be_are_read_beside_the_thread_that_decides,
    || {
        let mut stage = ready(options());
        let metrics = stage.site.directory().join("large");
        std::fs::create_dir(&metrics).unwrap();
        // Valid, and one for each place there is: 6 MB to be parsed, longer than any turn may take.
        let list = vec!["1"; 32_000].join(",");
        for number in 0..100 {
            let file = metrics.join(format!("large{number}.json"));
            std::fs::write(file, format!("{{\"number_list\":[{list}]}}")).unwrap();
        }
        look_around(&mut stage, 0, &metrics);
        let read = |s: &Value| joined(&s["reports"]["leftOut"]).contains("large");
        stage
            .wait_status(LIMIT, "read, and too large to be reported", read)
            .unwrap();
        orders_are_obeyed(&stage);
        // The stage looks at the turns when it ends.
        stops_in_time(&mut stage);
    }
);

lab_test!(a_path_of_an_order_that_hangs_costs_its_own_rule_alone, || {
    let mut stage = ready(options());
    let place = stage.site.directory().canonicalize().unwrap().join("hangs");
    std::fs::create_dir(&place).unwrap();
    let Some(_hanging) = hang(&stage, &place) else {
        return;
    };
    let (frozen, killed) = (
        sender(&stage, "zq-beside-frozen"),
        sender(&stage, "zq-beside-killed"),
    );
    let rule = |exe: &str, action: &str| json!({"match": {"exe": exe}, "action": action});
    let hangs = |name: &str| rule(place.join(name).to_str().unwrap(), "kill");
    // One that only its link leads to is found too, behind more of them than may hang.
    let link = place.with_file_name("link");
    std::os::unix::fs::symlink("opt", &link).unwrap();
    let linked = link.join("zq-beside-killed");
    let mut processes: Vec<Value> = (0..20).map(|n| hangs(&format!("app{n}/zq-none"))).collect();
    processes.extend([
        hangs("app/*"),
        rule("*/opt/zq-beside-frozen", "freeze"),
        rule(linked.to_str().unwrap(), "kill"),
    ]);
    let order = json!({"id": "h", "posture": "isolate", "processes": processes});
    stage.desire(&json!({ "quarantine": order })).unwrap();
    wait_state(&frozen, "T");
    let mut killed = killed;
    wait_until(LIMIT, "it has ended", || !killed.is_running()).unwrap();
    let contested = |s: &Value| shown(s, frozen.pid())["contested"].as_u64();
    stage
        .wait_status(LIMIT, "it is seen to be stopped", |s| contested(s).is_some())
        .unwrap();
    // Whoever is let go on is stopped again, and released when it is ordered.
    kill(Pid::from_raw(frozen.pid().cast_signed()), Signal::SIGCONT).unwrap();
    stage
        .wait_status(LIMIT, "it is stopped again", |s| contested(s) > Some(0))
        .unwrap();
    wait_state(&frozen, "T");
    stage.desire(&json!({"quarantine": false})).unwrap();
    wait_state(&frozen, "SR");
    stops_in_time(&mut stage);
});
