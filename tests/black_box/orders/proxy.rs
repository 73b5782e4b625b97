//! Behind an HTTP proxy only the proxy is a lifeline, and whatever becomes of the proxy is followed.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, BROKER_PORT, INTERNET_V4, Ns, Running, lab_program, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::json;

use super::lifelines::planned;
use crate::common::{LIMIT, connected_and_released, isolate, options, release};

const FIRST: u16 = 3128;
const SECOND: u16 = 3129;
/// What the nucleus' configuration says is looked at every minute.
const FOLLOWED: Duration = Duration::from_secs(90);
/// How long what is cut is looked at.
const STAYS: Duration = Duration::from_secs(6);

/// A connected lab whose nucleus goes through the proxy that the file names; the file, and the proxy.
struct Behind {
    stage: Stage,
    file: PathBuf,
    proxy: Option<Running>,
}

impl Behind {
    fn start() -> Self {
        let file = std::env::temp_dir().join(format!("edgewarden-proxy-{}", std::process::id()));
        name(&file, Some(FIRST));
        let mut stage = Stage::start(StageOptions {
            online: false,
            // The endpoint is known from the beginning, so that it would be a lifeline at once.
            nucleus: [
                "--endpoint-late-millis",
                "0",
                "--proxy-file",
                &file.display().to_string(),
            ]
            .map(str::to_owned)
            .to_vec(),
            ..options()
        })
        .unwrap();
        let proxy = Some(proxy(&stage, FIRST));
        stage.go_online().unwrap();
        stage.start_agent().unwrap();
        connected_and_released(&stage);
        Self { stage, file, proxy }
    }

    fn reaches(&self, address: IpAddr, port: u16) -> bool {
        self.stage.site.tcp_connects(Ns::Gateway, address, port).unwrap()
    }

    /// Isolated, with the first proxy and nothing of the broker's own.
    fn isolated() -> Self {
        let mut behind = Self::start();
        assert!(
            behind.reaches(INTERNET_V4, BROKER_PORT) && behind.reaches(ATTACKER_V4, FIRST),
            "control: both flow before"
        );
        let tunnel = |event: &serde_json::Value| event["event"] == "tunnel";
        let tunnel = behind.proxy.as_mut().unwrap().find_event(LIMIT, tunnel).unwrap();
        assert_eq!(tunnel["to"], format!("{INTERNET_V4}:{BROKER_PORT}"), "control");
        let own = (INTERNET_V4.to_string(), u64::from(BROKER_PORT));
        wait_until(LIMIT, "the endpoint's own address is given up", || {
            let planned = planned(&behind.stage);
            !planned.contains(&own) && planned.contains(&(ATTACKER_V4.to_string(), FIRST.into()))
        })
        .unwrap();
        isolate(&behind.stage);
        // Longer than from one question to the nucleus to the next.
        let since = Instant::now();
        while since.elapsed() < STAYS {
            assert!(
                !behind.reaches(INTERNET_V4, BROKER_PORT),
                "the endpoint's own address"
            );
        }
        assert!(behind.reaches(ATTACKER_V4, FIRST), "the proxy");
        behind
    }

    /// Released, with a nucleus that the change of the proxy disconnected, and nothing since.
    fn released(&self) {
        release(&self.stage);
        let ends = |event: &serde_json::Value| event["event"] == "mqtt" && event["state"] == "disconnected";
        let ends: Vec<_> = self.stage.nucleus.events().into_iter().filter(ends).collect();
        assert_eq!(ends.len(), 1, "{ends:?} in\n{}", self.stage.agent_output());
    }

    /// The proxy is gone, and the nucleus goes the way that the file names.
    fn leave_for(&mut self, port: Option<u16>) {
        name(&self.file, port);
        self.proxy = None;
        let mqtt = |state: &'static str| {
            move |event: &serde_json::Value| event["event"] == "mqtt" && event["state"] == state
        };
        self.stage
            .nucleus
            .wait_event(LIMIT, mqtt("disconnected"))
            .unwrap();
        self.stage
            .nucleus
            .wait_event(FOLLOWED, mqtt("connected"))
            .unwrap();
    }

    /// Seen in the nucleus' connections.
    fn gives_up_the_first(&self) {
        let _left = self.stage.site.echo_server(Ns::Internet, FIRST).unwrap();
        let cut = wait_until(FOLLOWED, "the proxy of before is given up", || {
            !self.reaches(ATTACKER_V4, FIRST)
        });
        let planned = planned(&self.stage);
        assert!(cut.is_ok(), "{planned:?} in\n{}", self.stage.agent_output());
    }

    /// An order that is given now can only have come the way that the nucleus goes now.
    fn hears(&self, id: &str) {
        self.stage
            .desire(&json!({"quarantine": {"id": id, "posture": "isolate"}}))
            .unwrap();
        let came = |s: &serde_json::Value| {
            s["enforcement"]["phase"] == "enforced" && s["enforcement"]["orders"][0]["id"] == id
        };
        self.stage.wait_status(LIMIT, id, came).unwrap();
    }
}

fn name(file: &Path, port: Option<u16>) {
    let url = port.map(|port| format!("http://{ATTACKER_V4}:{port}"));
    std::fs::write(file, url.unwrap_or_default()).unwrap();
}

fn proxy(stage: &Stage, port: u16) -> Running {
    let log = stage.site.directory().join(format!("proxy-{port}.log"));
    let program = lab_program().unwrap();
    let args = ["proxy", "--port", &port.to_string()];
    let mut proxy = stage.site.spawn(Ns::Internet, program, &args, &[], log).unwrap();
    let listens = |event: &serde_json::Value| event["event"] == "listening";
    proxy.wait_event(LIMIT, listens).unwrap();
    proxy
}

lab_test!(behind_a_proxy_only_the_proxy_is_a_lifeline, || {
    let behind = Behind::isolated();
    behind.hears("again");
    release(&behind.stage);
    assert!(behind.reaches(INTERNET_V4, BROKER_PORT));
});

lab_test!(another_proxy_is_followed_while_isolated, || {
    let mut behind = Behind::isolated();
    let _second = proxy(&behind.stage, SECOND);
    assert!(!behind.reaches(ATTACKER_V4, SECOND), "control: not a lifeline");
    behind.leave_for(Some(SECOND));
    behind.hears("moved");
    assert!(behind.reaches(ATTACKER_V4, SECOND));
    behind.gives_up_the_first();
    behind.released();
});

lab_test!(a_proxy_that_is_taken_out_locks_nobody_out, || {
    let mut behind = Behind::isolated();
    behind.leave_for(None);
    behind.hears("direct");
    assert!(behind.reaches(INTERNET_V4, BROKER_PORT));
    behind.gives_up_the_first();
    behind.released();
});
