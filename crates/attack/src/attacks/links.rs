//! Attacks on what keeps the link alive: as a way out, and by using it up.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use edgewarden_lab::packet::{ICMPV6, ip};
use edgewarden_lab::site::{GATEWAY_WAN_V6, INTERNET_V4, Ns};
use serde_json::json;

use super::frames::hexadecimal;
use crate::ears::Ear;
use crate::field::Field;
use crate::tools::{FRAMES, Rights};
use crate::{AttackError, Played, Terms};

const MARK: &[u8] = b"<<neighbour attack>>";
const ALL_NODES: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const IPV6: [u8; 2] = [0x86, 0xdd];
const SOLICITATION: u8 = 135;
const LARGE: usize = 1_300;
const MANY: &str = "5000";

pub(super) fn large_neighbour_messages(terms: &Terms) -> Result<Played, AttackError> {
    let field = Field::free(terms, &json!({}))?;
    let ear = Ear::on(field.site(), Ns::Internet, MARK)?;
    let load = MARK.iter().copied().cycle().take(LARGE).collect::<Vec<u8>>();
    let message = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0], load.as_slice()].concat();
    let packet = ip(GATEWAY_WAN_V6, ALL_NODES, ICMPV6, 0, &message);
    let from = field.mac(Ns::Gateway, "wan0")?;
    let frame = hexadecimal(&[ALL_NODES_MAC.as_slice(), &from, &IPV6, &packet].concat());
    let send = || FRAMES.run(field.site(), Rights::NetRaw, &["wan0", "86dd", &frame, MANY, "0"]);
    field.attacked(&ear, &json!(true), send)
}

/// A port of the data endpoint.
const MQTT: u16 = 8_883;
/// Microseconds between two requests.
const PAUSE: &str = "200";

/// The device forgets its router while somebody else asks for others all the time.
pub(super) fn starved_arp(terms: &Terms) -> Result<Played, AttackError> {
    let field = Field::free(terms, &json!({}))?;
    let from = field.mac(Ns::Gateway, "wan0")?;
    let request = [
        &[0xff; 6],
        from.as_slice(),
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &from,
        &[198, 51, 100, 2],
        &[0; 6],
        &[198, 51, 100, 99],
    ]
    .concat();
    let frame = hexadecimal(&request);
    let reaches = || -> Result<bool, AttackError> {
        field.run(Ns::Gateway, "ip", "neigh flush dev wan0")?;
        Ok(field.site().tcp_connects(Ns::Gateway, INTERNET_V4, MQTT)?)
    };
    field.isolate()?;
    let free = u64::from(reaches()?);
    let count = (terms.time.as_micros() / 100).to_string();
    let mut flood = FRAMES.start(
        field.site(),
        Rights::NetRaw,
        &["wan0", "0806", &frame, &count, PAUSE],
    )?;
    // Until the bucket is empty.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let begun = Instant::now();
    let reached = reaches()?;
    let took = begun.elapsed();
    flood.kill9()?;
    let degraded = (!reached).then(|| format!("the router was not found within {took:?}"));
    Ok(Played {
        free,
        arrived: 0,
        degraded: degraded.or_else(|| field.degraded()),
    })
}
