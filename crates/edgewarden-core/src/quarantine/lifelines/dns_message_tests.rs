//! What answers our own question, and what does not.

use proptest::prelude::*;
use simple_dns::rdata::{A, AAAA, CNAME};

use super::*;

const ENDPOINT: &str = "x-ats.iot.eu-west-1.amazonaws.com";

fn question() -> OwnQuestion {
    OwnQuestion {
        id: 7,
        name: ENDPOINT.to_owned(),
        kind: AddressKind::V4,
        takes_long: false,
    }
}

/// An answer about `name`; records as (owner, alias or address).
fn answer(id: u16, name: &str, records: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = Packet::new_reply(id);
    let name = Name::new_unchecked(name);
    let question = Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false);
    packet.questions.push(question);
    for (owner, value) in records {
        let data = match value.parse() {
            Ok(IpAddr::V4(v4)) => RData::A(A::from(v4)),
            Ok(IpAddr::V6(v6)) => RData::AAAA(AAAA::from(v6)),
            Err(_) => RData::CNAME(CNAME(Name::new_unchecked(value))),
        };
        let record = ResourceRecord::new(Name::new_unchecked(owner), CLASS::IN, 60, data);
        packet.answers.push(record);
    }
    packet.build_bytes_vec_compressed().unwrap()
}

fn found(bytes: &[u8]) -> Option<Vec<String>> {
    let addresses = question().answered(bytes)?.addresses;
    Some(addresses.iter().map(IpAddr::to_string).collect())
}

#[test]
fn an_answer_gives_the_addresses_of_its_own_aliases_only() {
    let sent = question().bytes().unwrap();
    let read = Packet::parse(&sent).unwrap();
    assert_eq!(
        (read.id(), read.questions[0].qname.to_string().as_str()),
        (7, ENDPOINT)
    );
    let records = [
        ("b.example", "192.0.2.2"),
        (ENDPOINT, "a.example"),
        ("a.example", "b.example"),
        ("b.example", "a.example"),
        ("other.example", "192.0.2.66"),
    ];
    assert_eq!(found(&answer(7, ENDPOINT, &records)).unwrap(), ["192.0.2.2"]);
    let upper = ENDPOINT.to_ascii_uppercase();
    assert_eq!(
        found(&answer(7, &upper, &[(&upper, "192.0.2.3")])).unwrap(),
        ["192.0.2.3"]
    );
}

#[test]
fn what_does_not_answer_this_question_is_passed_over() {
    let good = [(ENDPOINT, "192.0.2.66")];
    assert_eq!(
        found(&answer(7, ENDPOINT, &good)).unwrap(),
        ["192.0.2.66"],
        "control"
    );
    assert_eq!(found(&answer(8, ENDPOINT, &good)), None, "another number");
    assert_eq!(found(&answer(7, "logs.example", &good)), None, "another name");
    let question_back = question().bytes().unwrap();
    assert_eq!(found(&question_back), None, "a question");
    let six = OwnQuestion {
        kind: AddressKind::V6,
        ..question()
    };
    assert_eq!(six.answered(&answer(7, ENDPOINT, &good)), None, "another type");
    let mut refusal = answer(7, ENDPOINT, &good);
    refusal[3] |= 3;
    assert_eq!(found(&refusal).unwrap(), [""; 0], "a refusal");
    let mut large = answer(7, ENDPOINT, &good);
    large[10..12].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(found(&large), None, "more announced than is taken");
}

#[test]
fn an_answer_that_is_cut_says_so_and_a_longer_one_can_be_asked_for() {
    let mut cut = answer(7, ENDPOINT, &[(ENDPOINT, "192.0.2.66")]);
    assert!(!question().answered(&cut).unwrap().is_cut, "control");
    cut[2] |= 2;
    let said = question().answered(&cut).unwrap();
    assert_eq!((said.addresses.len(), said.is_cut), (1, true));
    let long = OwnQuestion {
        takes_long: true,
        ..question()
    };
    let bytes = long.bytes().unwrap();
    let read = Packet::parse(&bytes).unwrap();
    assert_eq!(read.opt().unwrap().udp_packet_size, LONG_ANSWER);
    let many: Vec<String> = (1..=250).map(|last| format!("192.0.2.{last}")).collect();
    let records: Vec<_> = many.iter().map(|one| (ENDPOINT, one.as_str())).collect();
    assert_eq!(found(&answer(7, ENDPOINT, &records)).unwrap().len(), 250);
}

#[test]
fn a_chain_of_aliases_without_end_is_cut() {
    let names: Vec<String> = (0..=MAX_ALIASES).map(|n| format!("n{n}.example")).collect();
    let mut records = vec![(ENDPOINT, names[0].as_str())];
    records.extend(names.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str())));
    records.push((names[MAX_ALIASES].as_str(), "192.0.2.66"));
    assert_eq!(found(&answer(7, ENDPOINT, &records)).unwrap(), [""; 0]);
}

proptest! {
    /// A true answer with some bytes changed: no panic, and at most what an answer may give.
    #[test]
    fn a_damaged_answer_gives_no_more_than_an_answer(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let records = [(ENDPOINT, "a.example"), ("a.example", "192.0.2.1"), ("a.example", "2001:db8::1")];
        let mut payload = answer(7, ENDPOINT, &records);
        for (index, byte) in changes {
            let at = index.index(payload.len());
            payload[at] = byte;
        }
        prop_assert!(found(&payload).unwrap_or_default().len() <= MAX_RECORDS);
    }
}
