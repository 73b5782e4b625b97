//! What the memory of addresses keeps, and what it lets go.

use std::net::{IpAddr, Ipv4Addr};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn endpoint(address: &str) -> Endpoint {
    let address = address.parse().unwrap();
    Endpoint {
        purpose: Purpose::DataEndpoint,
        address,
        protocol: Protocol::Tcp,
        port: 8883,
    }
}

fn of(by: OriginKind, endpoints: impl IntoIterator<Item = Endpoint>) -> Vec<Sighting> {
    let origin = Origin::new(by, "test");
    let sighting = |endpoint| Sighting {
        endpoint,
        origin: origin.clone(),
    };
    endpoints.into_iter().map(sighting).collect()
}

fn looked_up(endpoints: impl IntoIterator<Item = Endpoint>) -> Vec<Sighting> {
    of(OriginKind::LookUp, endpoints)
}

fn many(count: u32) -> impl Iterator<Item = Endpoint> {
    let address = |n| IpAddr::from(Ipv4Addr::from(0xC000_0200 + n));
    (0..count).map(move |n| Endpoint {
        address: address(n),
        ..endpoint("192.0.2.1")
    })
}

#[test]
fn the_last_known_address_is_never_forgotten() {
    let mut book = AddressBook::default();
    assert!(book.note(looked_up([endpoint("192.0.2.1")]), at("2026-01-01T00:00:00Z")));
    assert!(
        !book.note([], at("2027-01-01T00:00:00Z")),
        "a dead resolver changes nothing"
    );
    assert!(book.note(looked_up([endpoint("192.0.2.2")]), at("2027-01-01T00:00:01Z")));
    assert_eq!(
        book.endpoints(),
        [endpoint("192.0.2.2")],
        "the old address goes once there is a new one"
    );
}

#[test]
fn rotating_answers_add_up_within_a_day_and_are_bounded() {
    let mut book = AddressBook::default();
    for one in many(600) {
        book.note(looked_up([one]), at("2026-01-01T00:00:00Z"));
    }
    assert_eq!(book.endpoints().len(), MAX_ENDPOINTS);
}

#[test]
fn what_is_on_another_way_is_forgotten() {
    let mut book = AddressBook::default();
    let logs = Endpoint {
        purpose: Purpose::Logs,
        ..endpoint("192.0.2.3")
    };
    let known = [endpoint("192.0.2.1"), endpoint("192.0.2.2"), logs];
    book.note(looked_up(known), at("2026-01-01T00:00:00Z"));
    let mut confinement = Confinement {
        purpose: Purpose::DataEndpoint,
        kept: vec![endpoint("192.0.2.1")],
        ports: vec![(Protocol::Tcp, 8883)],
    };
    book.confine(&confinement);
    assert_eq!(book.endpoints().len(), 3, "they may be an unresolved name's");
    confinement.ports.clear();
    book.confine(&confinement);
    assert_eq!(book.endpoints(), [endpoint("192.0.2.1"), logs]);
}

#[test]
fn no_purpose_pushes_out_another() {
    let mut book = AddressBook::default();
    let servers = many(600).map(|end| Endpoint {
        purpose: Purpose::Ntp,
        protocol: Protocol::Udp,
        port: 123,
        ..end
    });
    let known = servers.chain([endpoint("192.0.2.1")]);
    book.note(looked_up(known), at("2026-01-01T00:00:00Z"));
    assert!(book.knows_data_endpoint());
    assert_eq!(book.endpoints().len(), MAX_ENDPOINTS + 1);
}

#[test]
fn where_the_nucleus_is_connected_is_pushed_out_by_nothing() {
    let (mut book, there) = (AddressBook::default(), endpoint("203.0.113.9"));
    book.note_connected(&[there], at("2026-01-01T00:00:00Z"));
    for (hour, one) in many(600).enumerate() {
        let now = at("2026-01-01T00:00:01Z") + SignedDuration::from_secs(i64::try_from(hour).unwrap());
        book.note(looked_up([one]), now);
    }
    assert!(book.endpoints().contains(&there));
    assert_eq!(book.endpoints().len(), MAX_ENDPOINTS);
    book.note_connected(&[], at("2026-01-01T01:00:00Z"));
    let kept = book.addresses().into_iter().find(|known| known.endpoint == there);
    assert_eq!(
        kept.map(|known| known.used),
        Some(true),
        "an outage changes nothing"
    );
}

#[test]
fn what_programs_ask_for_pushes_out_no_name_of_our_own() {
    let (mut book, own) = (AddressBook::default(), endpoint("203.0.113.9"));
    book.note(looked_up([own]), at("2026-01-01T00:00:00Z"));
    book.note(of(OriginKind::AskedFor, many(600)), at("2026-01-01T00:00:01Z"));
    assert!(book.endpoints().contains(&own));
    assert_eq!(book.endpoints().len(), MAX_ENDPOINTS);
}

#[test]
fn what_an_earlier_agent_remembered_counts_until_a_look_up_succeeds() {
    let old = r#"[[{"purpose":"dataEndpoint","address":"192.0.2.1","protocol":"tcp","port":8883},"2026-01-01T00:00:00Z"],
        [{"purpose":"dataEndpoint","address":"192.0.2.2","protocol":"tcp","port":8883},"2026-01-01T00:00:00Z"]]"#;
    let mut book: AddressBook = serde_json::from_str(old).unwrap();
    let now = at("2026-01-01T00:01:00Z");
    assert_eq!(book.addresses()[0].origin, Origin::default());
    book.note([], now);
    book.note_connected(&[endpoint("192.0.2.2")], now);
    assert_eq!(book.endpoints().len(), 2, "no look-up has succeeded");
    let mut unseen = book.clone();
    unseen.knows_sockets = false;
    unseen.note(looked_up([endpoint("192.0.2.3")]), now);
    assert_eq!(unseen.endpoints().len(), 3, "the nucleus may be there");
    book.note(looked_up([endpoint("192.0.2.3")]), now);
    let left = [endpoint("192.0.2.2"), endpoint("192.0.2.3")];
    assert_eq!(book.endpoints(), left, "the nucleus is connected to one of them");
}

#[test]
fn the_journal_keeps_who_said_it_and_an_earlier_agent_reads_the_addresses() {
    let mut book = AddressBook::default();
    book.note_connected(&[endpoint("192.0.2.1")], at("2026-01-01T00:00:00Z"));
    let text = serde_json::to_string(&book).unwrap();
    let earlier: Vec<(Endpoint, Timestamp)> = serde_json::from_str(&text).unwrap();
    assert_eq!(earlier, [(endpoint("192.0.2.1"), at("2026-01-01T00:00:00Z"))]);
    let back: AddressBook = serde_json::from_str(&text).unwrap();
    assert_eq!(back.addresses(), book.addresses());
    let later = text.replace("\"nucleus\"", "\"oracle\"");
    let back: AddressBook = serde_json::from_str(&later).unwrap();
    assert_eq!(back.addresses()[0].origin.by, OriginKind::Remembered);
}
