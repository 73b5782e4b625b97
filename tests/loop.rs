//! The whole loop in the real binary: order, isolation that is proven, release.

use std::time::Duration;

use edgewarden_lab::site::{
    ATTACKER_V4, ATTACKER_V6, DEVICE_V4, DEVICE_V6, GATEWAY_WAN_V4, GATEWAY_WAN_V6, Ns, in_lab,
};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);

fn options() -> StageOptions {
    StageOptions::new(
        env!("CARGO_BIN_EXE_edgewarden"),
        concat!(env!("CARGO_MANIFEST_DIR"), "/recipe.yaml"),
    )
}

#[test]
fn the_shadow_isolates_and_releases() {
    in_lab("the_shadow_isolates_and_releases", || {
        let mut stage = Stage::start(options()).unwrap();
        stage.start_agent().unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
        let _attacker = stage.site.echo_server(Ns::Internet, 4444).unwrap();
        let _service = stage.site.echo_server(Ns::Gateway, 8080).unwrap();
        let mut held = stage
            .site
            .open_connection(Ns::Gateway, ATTACKER_V4, 4444)
            .unwrap();
        let passes = |stage: &Stage| {
            let site = &stage.site;
            [
                site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4444).unwrap(),
                site.tcp_connects(Ns::Gateway, ATTACKER_V6, 4444).unwrap(),
                site.tcp_connects(Ns::Internet, GATEWAY_WAN_V4, 8080).unwrap(),
                site.tcp_connects(Ns::Internet, GATEWAY_WAN_V6, 8080).unwrap(),
                site.tcp_connects(Ns::Lan, ATTACKER_V4, 4444).unwrap(),
                site.tcp_connects(Ns::Lan, ATTACKER_V6, 4444).unwrap(),
                site.ping(Ns::Internet, DEVICE_V4).unwrap(),
                site.ping(Ns::Internet, DEVICE_V6).unwrap(),
                site.udp_reaches(Ns::Gateway, Ns::Internet, ATTACKER_V4, 5555)
                    .unwrap(),
                site.udp_reaches(Ns::Gateway, Ns::Internet, ATTACKER_V6, 5555)
                    .unwrap(),
            ]
        };
        assert!(held.exchange(), "control: the attacker's connection works");
        assert_eq!(passes(&stage), [true; 10], "control: everything flows");

        stage.desire(&json!({"quarantine": true})).unwrap();
        stage
            .wait_shadow(LIMIT, "reported.quarantine = true", |s| {
                s["state"]["reported"]["quarantine"] == true
            })
            .unwrap();
        assert_eq!(passes(&stage), [false; 10], "everything is cut");
        assert!(!held.exchange(), "the attacker's open connection is dead");
        let status = stage.status();
        assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
        assert_eq!(status["cloud"]["channelWorks"], true, "{status}");

        stage.desire(&json!({"quarantine": false})).unwrap();
        stage
            .wait_shadow(LIMIT, "reported.quarantine = false", |s| {
                s["state"]["reported"]["quarantine"] == false
            })
            .unwrap();
        assert_eq!(passes(&stage), [true; 10], "everything flows again");
        assert!(!stage.has_table().unwrap());
    });
}
