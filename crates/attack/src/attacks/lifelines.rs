//! Attacks on what isolation lets pass: whose address is a lifeline, by which interface, and who uses it up.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use edgewarden_lab::packet::{UDP, ip, udp};
use edgewarden_lab::site::{ATTACKER_V4, GATEWAY_WAN_V4, INTERNET_V4, Ns, lab_program};
use edgewarden_lab::stage::PATIENCE;
use serde_json::json;

use crate::ears::Ear;
use crate::field::{Field, STORAGE};
use crate::tools::{FRAMES, Rights, STREAM, start};
use crate::{AttackError, Played, Terms};

const HTTPS: u16 = 443;
const MQTT: u16 = 8883;
const DNS: u16 = 53;
/// Local port of forged questions.
const ASKER: u16 = 4_000;
/// Forged answers, one after the other.
const FORGERIES: u32 = 10;

/// A question for an address below the storage's name, or its forged answer, as a frame on lo.
fn message(bucket: u32, answer: Option<Ipv4Addr>) -> String {
    let mut data = vec![0x12, 0x34];
    data.extend(match answer {
        None => [1, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        Some(_) => [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0],
    });
    let name = format!("bucket{bucket}.{STORAGE}");
    for label in name.split('.') {
        data.push(u8::try_from(label.len()).unwrap_or_default());
        data.extend(label.as_bytes());
    }
    data.extend([0, 0, 1, 0, 1]);
    if let Some(address) = answer {
        data.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        data.extend(address.octets());
    }
    let (from, to) = (GATEWAY_WAN_V4, INTERNET_V4);
    let packet = if answer.is_some() {
        ip(to, from, UDP, 0, &udp(DNS, ASKER, &data))
    } else {
        ip(from, to, UDP, 0, &udp(ASKER, DNS, &data))
    };
    let frame = [[0_u8; 12].as_slice(), &[8, 0], &packet].concat();
    super::frames::hexadecimal(&frame)
}

pub(super) fn forged_answers(terms: &Terms) -> Result<Played, AttackError> {
    let field = Field::free(terms, &json!({}))?;
    let IpAddr::V4(mine) = ATTACKER_V4 else {
        return Ok(Played::default());
    };
    let ear = Ear::tcp(field.site(), Ns::Internet, ATTACKER_V4, HTTPS)?;
    let millis = terms.time.as_millis().to_string();
    let (address, port) = (ATTACKER_V4.to_string(), HTTPS.to_string());
    let connect = || STREAM.run(field.site(), Rights::User, &[&address, &port, &millis]);
    let forge = |bucket| {
        for frame in [message(bucket, None), message(bucket, Some(mine))] {
            FRAMES.run(field.site(), Rights::NetRaw, &["lo", "0800", &frame, "1", "0"])?;
        }
        Ok::<(), AttackError>(())
    };
    forge(0)?;
    connect()?;
    let free = ear.heard();
    field.isolate()?;
    for bucket in 1..=FORGERIES {
        forge(bucket)?;
    }
    connect()?;
    Ok(Played {
        free,
        arrived: ear.heard(),
        degraded: field.degraded(),
    })
}

pub(super) fn bound_to_another_interface(terms: &Terms) -> Result<Played, AttackError> {
    let field = Field::free(terms, &json!({}))?;
    field.run(Ns::Lan, "ip", &format!("addr add {INTERNET_V4}/32 dev eth0"))?;
    let ear = Ear::tcp(field.site(), Ns::Lan, INTERNET_V4, MQTT)?;
    let millis = terms.time.as_millis().to_string();
    let (address, port) = (INTERNET_V4.to_string(), MQTT.to_string());
    let connect = || STREAM.run(field.site(), Rights::User, &[&address, &port, &millis, "lan0"]);
    field.attacked(&ear, &json!(true), connect)
}

/// How long the channel may be silent behind new rules, in seconds; the flood lasts three times as long at least.
const WINDOW: u64 = 10;
/// Datagrams of the flood, a second.
const FLOOD: &str = "8000";

/// Connections of root's that are tried on the free device.
const TRIES: u64 = 5;

/// How many of [`TRIES`] connections of root's to the cloud are not made, once the uplink's queue is full; none where it is one or
/// two of them, which a slow machine loses.
fn kept_from_connecting(field: &Field) -> Result<u64, AttackError> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let mut kept = 0;
        for _ in 0..TRIES {
            kept += u64::from(!field.site().tcp_connects(Ns::Gateway, INTERNET_V4, MQTT)?);
        }
        if kept + 1 >= TRIES {
            return Ok(kept);
        }
    }
    Ok(0)
}

/// What arrives at the resolver's port is meant to pass, within its share; what counts is whether the device stays isolated. The
/// control case is how many connections to the cloud the flood keeps a free device from making.
pub(super) fn silenced_channel(terms: &Terms) -> Result<Played, AttackError> {
    let field = Field::free(terms, &json!({"confirmSeconds": WINDOW}))?;
    field.run(
        Ns::Gateway,
        "tc",
        "qdisc add dev wan0 root tbf rate 128kbit burst 1600 latency 1s",
    )?;
    let time = terms.time.max(Duration::from_secs(4 * WINDOW));
    let lab = terms.lab.clone().map_or_else(lab_program, Ok)?;
    let (remote, millis) = (format!("{INTERNET_V4}:{DNS}"), (2 * time).as_millis().to_string());
    let words = [
        "flood", "--remote", &remote, "--size", "20", "--rate", FLOOD, "--millis", &millis,
    ];
    let begin = || start(field.site(), Rights::User, lab.clone(), &words);
    let mut flood = begin()?;
    let free = kept_from_connecting(&field)?;
    flood.kill9()?;
    field
        .stage
        .wait_status(PATIENCE, "the channel is back", |status| {
            status["cloud"]["channelWorks"] == true
        })?;
    let mut flood = begin()?;
    field.stage.edgewarden(&["quarantine", "--reason", "flooded"])?;
    let begun = Instant::now();
    let mut degraded = None;
    while begun.elapsed() < time && degraded.is_none() {
        std::thread::sleep(Duration::from_millis(500));
        let enforcement = &field.stage.status()["enforcement"];
        let given_up = enforcement["rolledBack"].is_object() || enforcement["scope"] == "wide";
        degraded = given_up.then(|| {
            format!(
                "after {:?}: phase {}, scope {}",
                begun.elapsed(),
                enforcement["phase"],
                enforcement["scope"]
            )
        });
    }
    let running = flood.is_running();
    flood.kill9()?;
    Ok(Played {
        free: if running { free } else { 0 },
        arrived: 0,
        degraded: degraded.or_else(|| {
            let channel = field.stage.status()["cloud"]["channelWorks"] == true;
            (!channel).then(|| "the nucleus was silent all the time".to_owned())
        }),
    })
}
