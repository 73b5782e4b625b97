//! What reports hold: as much as the path carries, in the configured encoding, with custom metrics.

use std::net::{TcpListener, TcpStream};

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::Ns;
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

use super::{QUICK, RARELY, alone, answer, became, report, report_json, reporting, send, stage_with};
use crate::common::LIMIT;

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

lab_test!(many_connections_are_all_listed_on_classic, || {
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

lab_test!(
    many_connections_fit_into_lites_limit_with_their_true_total,
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
    }
);

lab_test!(
    a_report_in_cbor_with_short_names_is_sent_and_its_answer_understood,
    || {
        let stage = alone(&json!({"format": "cbor", "names": "short"}), RARELY);
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
    }
);

lab_test!(
    custom_metrics_are_listed_created_and_sent_and_bad_files_are_told,
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
    }
);
