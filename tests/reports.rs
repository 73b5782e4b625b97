//! Reports of the real binary under every failure: what is told again, what is given up, and what never happens.
//!
//! Where the test itself answers in the service's place the cloud is stopped, so that nobody else does.

#![expect(
    clippy::disallowed_methods,
    reason = "changes the lab's interfaces and reads what the agent keeps"
)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/broker.rs"]
mod broker;
/// What [`broker`] expects beside itself.
mod common {
    pub(crate) const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);
}

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use broker::{broker_down, broker_up};
use common::LIMIT;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::{Ns, in_lab, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions, THING};
use serde_json::{Value, json};

/// Reports only when the test wants one: the first slot lies within 100 seconds, the next are as far apart.
const RARELY: u64 = 100;

fn stage_with(reporting: &Value, seconds: u64, cloud: &[&str]) -> StageOptions {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipe.yaml");
    StageOptions {
        configuration: json!({"reporting": reporting, "development": {"reportIntervalSeconds": seconds}}),
        // A flood would be an alarm, and the alarm a quarantine.
        cloud: [&["--no-lambda"], cloud]
            .concat()
            .iter()
            .map(|&text| text.to_owned())
            .collect(),
        ..StageOptions::new(env!("CARGO_BIN_EXE_edgewarden"), recipe)
    }
}

/// A stage that reports every two seconds; the control case: reports are accepted.
fn reporting(options: StageOptions) -> Stage {
    let mut stage = Stage::start(options).unwrap();
    stage.start_agent().unwrap();
    count_above(&stage, "accepted", 1);
    stage
}

/// A stage without cloud, whose agent is connected: the test answers.
fn alone(reporting: &Value) -> Stage {
    let mut stage = Stage::start(stage_with(reporting, RARELY, &[])).unwrap();
    stage.start_agent().unwrap();
    stage
        .wait_status(LIMIT, "control: the channel works", |s| {
            s["cloud"]["channelWorks"] == true
        })
        .unwrap();
    stage.cloud = None;
    stage
}

fn count(stage: &Stage, what: &str) -> u64 {
    stage.status()["reports"][what].as_u64().unwrap()
}

/// Waits until a count is above a number and gives it.
fn count_above(stage: &Stage, what: &str, number: u64) -> u64 {
    let status = stage.wait_status(LIMIT, &format!("{what} above {number}"), |s| {
        s["reports"][what].as_u64() > Some(number)
    });
    status.unwrap()["reports"][what].as_u64().unwrap()
}

/// The next report the cloud accepts.
fn next_accepted(stage: &mut Stage) -> Value {
    let accepted = |event: &Value| event["event"] == "report" && event["outcome"] == "accepted";
    stage.cloud.as_mut().unwrap().wait_event(LIMIT, accepted).unwrap()
}

fn bytes_in(event: &Value) -> u64 {
    event["report"]["metrics"]["network_stats"]["bytes_in"]
        .as_u64()
        .unwrap_or_default()
}

/// `edgewarden report …`: exit code, output, errors.
fn report(stage: &Stage, arguments: &[&str]) -> (Option<i32>, String, String) {
    let all: Vec<&str> = std::iter::once("report")
        .chain(arguments.iter().copied())
        .collect();
    stage.edgewarden(&all).unwrap()
}

fn report_json(stage: &Stage, arguments: &[&str]) -> Value {
    let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let (code, output, errors) = report(stage, &all);
    assert_eq!(code, Some(0), "{errors}");
    serde_json::from_str(&output).unwrap()
}

fn send(stage: &Stage) -> u64 {
    report_json(stage, &["send"])["reportId"].as_u64().unwrap()
}

/// What the service would say.
fn answer(stage: &Stage, format: &str, suffix: &str, body: &Value) {
    let topic = format!("$aws/things/{THING}/defender/metrics/{format}/{suffix}");
    stage.publish(&topic, &body.to_string()).unwrap();
}

fn accept(stage: &Stage, report_id: u64) {
    let body = json!({"thingName": THING, "reportId": report_id, "status": "ACCEPTED", "timestamp": 1});
    answer(stage, "json", "accepted", &body);
}

/// Waits for what became of the newest report.
fn became(stage: &Stage, outcome: &str) -> Value {
    stage
        .wait_status(LIMIT, &format!("the report became {outcome}"), |_| {
            report_json(stage, &["last"])["outcome"] == outcome
        })
        .unwrap();
    report_json(stage, &["last"])
}

fn ip(stage: &Stage, arguments: &[&str]) {
    let run = || Command::new("ip").args(arguments).status();
    let status = stage.site.run_in(Ns::Gateway, run).unwrap().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}

/// The shortest time between two reports the lab's cloud takes.
const QUICK: [&str; 2] = ["--min-interval-seconds", "1"];

fn outage(name: &str, offline: &'static str, check: impl Fn(u64, u64)) {
    in_lab(name, || {
        let mut stage = reporting(stage_with(&json!({"offline": offline}), 2, &QUICK));
        next_accepted(&mut stage);
        let id = next_accepted(&mut stage)["reportId"].as_u64();
        broker_down(&mut stage);
        // 64 MiB through an interface that only appears now, over three intervals nobody hears of.
        flood(&stage);
        let last = |stage: &Stage| report_json(stage, &["last"])["reportId"].as_u64();
        stage
            .wait_status(LIMIT, "three reports went nowhere", |_| {
                last(&stage) >= id.map(|id| id + 6)
            })
            .unwrap();
        broker_up(&mut stage);
        let after = next_accepted(&mut stage);
        check(bytes_in(&after), bytes_in(&next_accepted(&mut stage)));
        assert!(after["reportId"].as_u64() > id);
    });
}

/// Bytes received through a pair of interfaces of the gateway's own, more than everything else in the lab by far.
const FLOOD: u64 = 8 * 1024 * 1024;

fn flood(stage: &Stage) {
    ip(
        stage,
        &["link", "add", "flood0", "type", "veth", "peer", "name", "flood1"],
    );
    ip(stage, &["link", "set", "flood1", "up"]);
    ip(stage, &["link", "set", "flood0", "up"]);
    ip(stage, &["address", "add", "192.0.2.201/30", "dev", "flood0"]);
    ip(
        stage,
        &[
            "neighbour",
            "replace",
            "192.0.2.202",
            "lladdr",
            "02:00:00:00:00:01",
            "dev",
            "flood0",
        ],
    );
    // Packets are lost without a word until the kernel has noticed that the other end is up.
    let is_up = || {
        let run = || Command::new("ip").args(["link", "show", "flood0"]).output();
        let output = stage.site.run_in(Ns::Gateway, run).unwrap().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("state UP")
    };
    wait_until(LIMIT, "flood0 is up", is_up).unwrap();
    let send = || {
        let socket = std::net::UdpSocket::bind("192.0.2.201:0").unwrap();
        for _ in 0..FLOOD / 1_024 {
            let _ = socket.send_to(&[0; 1_024], "192.0.2.202:9");
        }
    };
    stage.site.run_in(Ns::Gateway, send).unwrap();
}

#[test]
fn an_outage_of_three_intervals_is_told_in_the_next_report_once() {
    outage(
        "an_outage_of_three_intervals_is_told_in_the_next_report_once",
        "fold",
        |next, later| {
            assert!(
                (FLOOD / 2..FLOOD * 2).contains(&next),
                "the outage's traffic is told: {next}"
            );
            assert!(later < FLOOD / 4, "and only once: {later}");
        },
    );
}

#[test]
fn with_drop_an_outage_does_not_look_like_a_burst() {
    outage(
        "with_drop_an_outage_does_not_look_like_a_burst",
        "drop",
        |next, later| {
            assert!(next < FLOOD / 4 && later < FLOOD / 4, "{next}, {later}");
        },
    );
}

#[test]
fn refused_reports_are_told_and_never_sent_again() {
    in_lab("refused_reports_are_told_and_never_sent_again", || {
        let reporting = json!({"customMetrics": [{"what": "health.enforcement"}]});
        let options = stage_with(
            &reporting,
            2,
            &["--min-interval-seconds", "1", "--reject-reports"],
        );
        let mut stage = Stage::start(options).unwrap();
        stage.start_agent().unwrap();
        count_above(&stage, "rejected", 3);
        let status = stage.status();
        assert_eq!(status["reports"]["accepted"], 0, "{status}");
        let error = status["reports"]["lastError"].as_str().unwrap();
        assert!(error.contains("InvalidPayload"), "{error}");
        let events = stage.cloud.as_ref().unwrap().events();
        let sent: Vec<&Value> = events.iter().filter(|it| it["event"] == "report").collect();
        let mut ids: Vec<u64> = sent.iter().filter_map(|it| it["reportId"].as_u64()).collect();
        assert!(ids.is_sorted() && ids.len() >= 4);
        ids.dedup();
        assert_eq!(ids.len(), sent.len(), "no report twice");
        assert!(
            !sent[0]["report"]["custom_metrics"].is_null(),
            "control: they are configured"
        );
        let second = &sent[1]["report"];
        assert!(
            second["custom_metrics"].is_null(),
            "what was refused is suspected: {second}"
        );
    });
}

#[test]
fn throttled_reports_wait_for_their_slot_and_lose_nothing() {
    in_lab("throttled_reports_wait_for_their_slot_and_lose_nothing", || {
        let mut stage = reporting(stage_with(&json!({}), 2, &["--min-interval-seconds", "5"]));
        let rejected = count_above(&stage, "rejected", 0);
        flood(&stage);
        count_above(&stage, "rejected", rejected);
        let told = |event: &Value| bytes_in(event) > FLOOD / 2 && event["outcome"] == "accepted";
        stage.cloud.as_mut().unwrap().wait_event(LIMIT, told).unwrap();
        let error = |event: &Value| event["error"]["code"] == "Throttled";
        stage.cloud.as_ref().unwrap().find_event(LIMIT, error).unwrap();
    });
}

#[test]
fn answers_count_once_and_only_for_our_reports() {
    in_lab("answers_count_once_and_only_for_our_reports", || {
        let stage = alone(&json!({}));
        let id = send(&stage);
        assert_eq!(report_json(&stage, &["last"])["outcome"], "waiting");
        accept(&stage, id + 77);
        accept(&stage, id - 77);
        answer(
            &stage,
            "json",
            "rejected",
            &json!({"reportId": id + 1, "status": "REJECTED"}),
        );
        accept(&stage, id);
        let last = became(&stage, "accepted");
        assert_eq!(last["reportId"], id, "somebody else's answers changed nothing");
        accept(&stage, id);
        answer(
            &stage,
            "json",
            "rejected",
            &json!({"reportId": id, "status": "REJECTED"}),
        );
        // The marker is answered after both, on the same way.
        let (code, _, errors) = report(&stage, &["send"]);
        assert_eq!(code, Some(1));
        assert!(
            errors.contains("would throttle") && errors.contains(" s, at "),
            "{errors}"
        );
        let status = stage.status();
        assert_eq!(status["reports"]["accepted"], 1, "{status}");
        assert_eq!(status["reports"]["rejected"], 0, "{status}");
    });
}

#[test]
fn a_lost_answer_is_told_and_a_late_one_still_counts() {
    in_lab("a_lost_answer_is_told_and_a_late_one_still_counts", || {
        let mut stage = reporting(stage_with(&json!({}), 4, &QUICK));
        stage.cloud = None;
        let unanswered = count(&stage, "unanswered");
        count_above(&stage, "unanswered", unanswered);
        let accepted = count(&stage, "accepted");
        let last = report_json(&stage, &["last"])["reportId"].as_u64().unwrap();
        accept(&stage, last);
        count_above(&stage, "accepted", accepted);
    });
}

#[test]
fn report_ids_rise_over_quick_restarts_and_a_clock_set_back() {
    in_lab("report_ids_rise_over_quick_restarts_and_a_clock_set_back", || {
        let mut stage = alone(&json!({}));
        let mut last = send(&stage);
        // As after a clock that was an hour ahead: the newest report came from the future.
        stage.agent = None;
        let file = stage.state_directory().join("last-report.json");
        let mut kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(kept["reportId"], last, "kept before it was sent");
        kept["reportId"] = json!(last + 3_600);
        kept["sent"] = json!("2099-01-01T00:00:00Z");
        std::fs::write(&file, kept.to_string()).unwrap();
        last += 3_600;
        for _ in 0..3 {
            stage.start_agent().unwrap();
            stage
                .wait_status(LIMIT, "the reporter runs", |_| {
                    report(&stage, &["show"]).0 == Some(0)
                })
                .unwrap();
            let shown = report_json(&stage, &["show"]);
            assert_eq!(shown["document"]["header"]["report_id"], last + 1, "{shown}");
            let (code, _, errors) = report(&stage, &["send"]);
            if code == Some(0) {
                last = report_json(&stage, &["last"])["reportId"].as_u64().unwrap();
            } else {
                assert!(errors.contains("would throttle"), "{errors}");
            }
            stage.agent = None;
        }
        assert!(
            std::fs::read_to_string(&file)
                .unwrap()
                .contains(&format!("\"reportId\":{last}"))
        );
    });
}

#[test]
fn a_replaced_interface_neither_hides_nor_invents_traffic() {
    in_lab("a_replaced_interface_neither_hides_nor_invents_traffic", || {
        let mut stage = reporting(stage_with(&json!({}), 2, &QUICK));
        flood(&stage);
        let told = |event: &Value| bytes_in(event) > FLOOD / 2;
        stage.cloud.as_mut().unwrap().wait_event(LIMIT, told).unwrap();
        next_accepted(&mut stage);
        ip(&stage, &["link", "delete", "flood0"]);
        let quiet = next_accepted(&mut stage);
        assert!(
            bytes_in(&quiet) < FLOOD / 4,
            "a removed interface sends nothing: {quiet}"
        );
        flood(&stage);
        stage.cloud.as_mut().unwrap().wait_event(LIMIT, told).unwrap();
        let quiet = next_accepted(&mut stage);
        assert!(bytes_in(&quiet) < FLOOD / 4, "told once: {}", bytes_in(&quiet));
    });
}

/// Connections on loopback, held; each counts at both ends.
fn hold(stage: &Stage, count: usize) -> Vec<(TcpStream, TcpStream)> {
    let open = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (0..count)
            .map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0))
            .collect()
    };
    stage.site.run_in(Ns::Gateway, open).unwrap()
}

#[test]
fn many_connections_are_all_listed_on_classic() {
    in_lab("many_connections_are_all_listed_on_classic", || {
        let options = StageOptions {
            personality: Personality::Classic,
            ..stage_with(&json!({}), 2, &QUICK)
        };
        let mut stage = reporting(options);
        let _held = hold(&stage, 400);
        let established =
            |event: &Value| event["report"]["metrics"]["tcp_connections"]["established_connections"].clone();
        let many = |event: &Value| established(event)["total"].as_u64() >= Some(800);
        let event = stage.cloud.as_mut().unwrap().wait_event(LIMIT, many).unwrap();
        let established = established(&event);
        let listed = established["connections"].as_array().unwrap().len() as u64;
        assert_eq!(established["total"].as_u64(), Some(listed));
    });
}

#[test]
fn many_connections_fit_into_lites_limit_with_their_true_total() {
    in_lab(
        "many_connections_fit_into_lites_limit_with_their_true_total",
        || {
            let mut stage = reporting(stage_with(&json!({"names": "short"}), 2, &QUICK));
            let _held = hold(&stage, 400);
            let many = |event: &Value| event["report"]["met"]["tc"]["ec"]["t"].as_u64() >= Some(800);
            let event = stage.cloud.as_mut().unwrap().wait_event(LIMIT, many).unwrap();
            assert_eq!(event["outcome"], "accepted", "{}", event["error"]);
            let listed = event["report"]["met"]["tc"]["ec"]["cs"].as_array().unwrap().len();
            assert!((50..400).contains(&listed), "{listed} connections listed");
            let shown = report_json(&stage, &["show"]);
            assert_eq!(shown["limit"], 7_290);
            let bytes = shown["bytes"].as_u64().unwrap();
            assert!((7_200..=7_290).contains(&bytes), "{bytes}");
        },
    );
}

#[test]
fn a_report_in_cbor_with_short_names_is_sent_and_its_answer_understood() {
    in_lab(
        "a_report_in_cbor_with_short_names_is_sent_and_its_answer_understood",
        || {
            let stage = alone(&json!({"format": "cbor", "names": "short"}));
            let shown = report_json(&stage, &["show"]);
            assert_eq!(shown["format"], "cbor");
            assert_eq!(shown["document"]["hed"]["v"], "1.0", "{shown}");
            let id = send(&stage);
            let last = report_json(&stage, &["last"]);
            assert!(
                last["topic"]
                    .as_str()
                    .unwrap()
                    .ends_with("/defender/metrics/cbor"),
                "{last}"
            );
            answer(&stage, "cbor", "accepted", &json!({"reportId": id}));
            became(&stage, "accepted");
        },
    );
}

#[test]
fn custom_metrics_are_listed_created_and_sent_and_bad_files_are_told() {
    in_lab(
        "custom_metrics_are_listed_created_and_sent_and_bad_files_are_told",
        || {
            let directory = tempfile::tempdir().unwrap();
            // Files of a stage that reports every two seconds are stale after four. Renamed: never seen half written.
            let drop_files = || {
                for (name, content) in [("cpu_temp", r#"{"number": 41.5}"#), ("bad", "no")] {
                    let file = directory.path().join(name);
                    std::fs::write(&file, content).unwrap();
                    std::fs::rename(&file, file.with_extension("json")).unwrap();
                }
            };
            std::os::unix::fs::symlink("/etc/passwd", directory.path().join("link.json")).unwrap();
            let reporting_keys = json!({"metricsDirectory": directory.path(), "customMetrics": [
            {"name": "out", "what": "interface.bytesOut"},
            {"what": "process.bytesOut", "top": 3},
            {"what": "health.lostFrames"}, {"what": "health.enforcement"}]});
            let options = StageOptions {
                personality: Personality::Classic,
                ..stage_with(&reporting_keys, 2, &QUICK)
            };
            let mut stage = reporting(options);
            let told = |event: &Value| {
                drop_files();
                !event["report"]["custom_metrics"]["cpu_temp"].is_null()
            };
            let event = stage.cloud.as_mut().unwrap().wait_event(LIMIT, told).unwrap();
            let custom = &event["report"]["custom_metrics"];
            assert_eq!(custom["cpu_temp"], json!([{"number": 41.5}]), "{custom}");
            assert_eq!(custom["health_enforcement"], json!([{"number": 0}]), "{custom}");
            assert!(
                custom["process_bytesOut"][0]["number_list"].is_array(),
                "{custom}"
            );
            drop_files();
            let (_, lines, _) = report(&stage, &["metrics", "--aws-cli"]);
            let names: Vec<&str> = lines
                .lines()
                .filter_map(|line| line.split(' ').skip_while(|word| *word != "--metric-name").nth(1))
                .collect();
            for name in custom.as_object().unwrap().keys() {
                assert!(
                    names.contains(&name.as_str()),
                    "{name} is sent but not in\n{lines}"
                );
            }
            for reason in ["bad.json: it is not JSON", "link.json: it is a symbolic link"] {
                let told = |status: &Value| {
                    drop_files();
                    status["reports"]["leftOut"].to_string().contains(reason)
                };
                stage.wait_status(LIMIT, reason, told).unwrap();
            }
            drop_files();
            let (_, dry, about) = report(&stage, &["send", "--dry-run"]);
            assert!(
                dry.contains("cpu_temp") && about.contains("bytes of 131072 as json on "),
                "{about}"
            );
        },
    );
}
