//! Frames past the IP stack.

use edgewarden_lab::packet::{TCP, UDP, ip, tcp, udp};
use edgewarden_lab::site::{ATTACKER_V4, GATEWAY_WAN_V4, Ns};
use serde_json::json;

use crate::ears::Ear;
use crate::field::Field;
use crate::tools::{FRAMES, Rights, XDP};
use crate::{AttackError, Played, Terms};

/// A load by which frames are known where they arrive.
const MARK: &[u8] = b"<<edgewarden attack>>";
const IPV4: [u8; 2] = [8, 0];
/// What senders say that their frames are: the truth, ARP, IPv6, VLAN, LLDP, 802.2, 802.3, an experiment, everything.
const DECLARED: [&str; 9] = [
    "0800", "0806", "86dd", "8100", "88cc", "0004", "0001", "88b5", "0003",
];
/// Of each kind.
const FRAMES_EACH: &str = "20";
/// LLDP's group, which no bridge passes on, and its type.
const LINK_GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
const LLDP: [u8; 2] = [0x88, 0xcc];
/// Segments are cut to so many bytes, and a frame has so many in all.
const SEGMENT: u16 = 1_400;
const LARGE: usize = 60_000;

/// Two digits a byte.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn datagram() -> Vec<u8> {
    ip(GATEWAY_WAN_V4, ATTACKER_V4, UDP, 0, &udp(4_000, 9_999, MARK))
}

/// From the gateway to its router, with whatever stands before the packet.
fn frame(field: &Field, before: &[u8], content: &[u8]) -> Result<String, AttackError> {
    let (from, to) = (field.mac(Ns::Gateway, "wan0")?, field.mac(Ns::Internet, "gw0")?);
    Ok(hexadecimal(&[&to, &from, before, content].concat()))
}

/// Sends each frame under each name.
fn send(field: &Field, frames: &[String]) -> Result<(), AttackError> {
    for frame in frames {
        for declared in DECLARED {
            let words = ["wan0", declared, frame, FRAMES_EACH, "0"];
            FRAMES.run(field.site(), Rights::NetRaw, &words)?;
        }
    }
    Ok(())
}

fn restricted(
    terms: &Terms,
    frames: impl Fn(&Field) -> Result<Vec<String>, AttackError>,
) -> Result<Played, AttackError> {
    let field = Field::free(terms, &json!({}))?;
    let ear = Ear::on(field.site(), Ns::Internet, MARK)?;
    let frames = frames(&field)?;
    let block = json!({"remotes": ["203.0.113.0/24", "2001:db8:ffff::/48"]});
    let order = json!({"id": "r1", "posture": "restrict", "block": block});
    field.attacked(&ear, &order, || send(&field, &frames))
}

pub(super) fn other_declared_type(terms: &Terms) -> Result<Played, AttackError> {
    restricted(terms, |field| Ok(vec![frame(field, &IPV4, &datagram())?]))
}

pub(super) fn tagged(terms: &Terms) -> Result<Played, AttackError> {
    restricted(terms, |field| {
        let tags: [&[u8]; 4] = [
            &[0x81, 0, 0, 5, 8, 0],
            &[0x88, 0xa8, 0, 5, 8, 0],
            &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0],
            &[0x81, 0, 0, 5, 0x81, 0, 0, 6, 8, 0],
        ];
        tags.iter().map(|tag| frame(field, tag, &datagram())).collect()
    })
}

/// One large TCP segment in a frame to a link group, which the kernel is asked to cut.
pub(super) fn segmented(terms: &Terms) -> Result<Played, AttackError> {
    let field = Field::free(terms, &json!({}))?;
    let ear = Ear::on(field.site(), Ns::Internet, MARK)?;
    let load = MARK.iter().copied().cycle().take(LARGE).collect::<Vec<u8>>();
    let packet = ip(GATEWAY_WAN_V4, ATTACKER_V4, TCP, 0, &tcp(1, 2, 0x10, &load));
    let from = field.mac(Ns::Gateway, "wan0")?;
    let frame = hexadecimal(&[LINK_GROUP.as_slice(), &from, &LLDP, &packet].concat());
    let headers: u16 = 54;
    let words = [headers, SEGMENT, 34, 16].map(u16::to_le_bytes).concat();
    // It needs a checksum, and is TCP over IPv4.
    let header = hexadecimal(&[&[1, 1], words.as_slice()].concat());
    let send = || {
        for declared in ["0800", "88cc"] {
            let words = ["wan0", declared, &frame, "100", "0", &header];
            FRAMES.run(field.site(), Rights::NetRaw, &words)?;
        }
        Ok::<(), AttackError>(())
    };
    field.attacked(&ear, &json!(true), send)
}

/// A socket of before, one after.
pub(super) fn xdp_socket(terms: &Terms) -> Result<Played, AttackError> {
    let field = Field::free(terms, &json!({}))?;
    let ear = Ear::on(field.site(), Ns::Internet, MARK)?;
    let frame = frame(&field, &IPV4, &datagram())?;
    let send = || XDP.run(field.site(), Rights::NetRaw, &["wan0", &frame, "10000"]);
    field.attacked(&ear, &json!(true), send)
}
