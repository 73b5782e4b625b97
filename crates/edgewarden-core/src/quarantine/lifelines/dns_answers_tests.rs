//! Which answers reveal endpoints, and the many that do not.

use proptest::prelude::*;
use simple_dns::rdata::{A, AAAA, CNAME};
use simple_dns::{QCLASS, QTYPE, TYPE};

use super::*;
use crate::quarantine::lifelines::lifeline::{Lifelines, Purpose, Surroundings, targets};

const ENDPOINT: &str = "x-ats.iot.eu-west-1.amazonaws.com";
const CLIENT: &str = "198.51.100.2:40000";
const RESOLVER: &str = "198.51.100.1:53";

fn watched() -> WatchedNames {
    let around = Surroundings {
        data_endpoint: Some(ENDPOINT.into()),
        region: Some("eu-west-1".into()),
        resolvers: vec!["198.51.100.1".parse().unwrap()],
        ..Surroundings::default()
    };
    let nameservers = ["198.51.100.1", "127.0.0.53"].map(|text| text.parse().unwrap());
    WatchedNames::new(&targets(&Lifelines::default(), &around), nameservers.to_vec())
}

/// A message about `name`; records as (owner, alias or address).
fn message(id: u16, name: &str, response: bool, records: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = if response {
        Packet::new_reply(id)
    } else {
        Packet::new_query(id)
    };
    let question = simple_dns::Question::new(
        Name::new_unchecked(name),
        QTYPE::TYPE(TYPE::A),
        QCLASS::CLASS(CLASS::IN),
        false,
    );
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

fn datagram<'a>(payload: &'a [u8], source: &str, destination: &str, way: DatagramDirection) -> Datagram<'a> {
    Datagram {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        interface: 2,
        way,
        payload,
    }
}

fn ask(answers: &mut DnsAnswers, id: u16, name: &str) {
    let query = message(id, name, false, &[]);
    let found = answers.see(
        &datagram(&query, CLIENT, RESOLVER, DatagramDirection::Sent),
        &watched(),
        Duration::ZERO,
    );
    assert_eq!(found, []);
}

fn addresses(found: &[Endpoint]) -> Vec<String> {
    let mut all: Vec<String> = found
        .iter()
        .map(|endpoint| endpoint.address.to_string())
        .collect();
    all.dedup();
    all
}

fn answer(answers: &mut DnsAnswers, payload: &[u8]) -> Vec<String> {
    let answer = datagram(payload, RESOLVER, CLIENT, DatagramDirection::Received);
    addresses(&answers.see(&answer, &watched(), Duration::from_secs(1)))
}

#[test]
fn the_answer_to_a_question_opens_the_ports_of_its_name() {
    let mut answers = DnsAnswers::default();
    ask(&mut answers, 7, "X-ATS.iot.eu-west-1.amazonaws.COM");
    let payload = message(
        7,
        ENDPOINT,
        true,
        &[(ENDPOINT, "192.0.2.1"), (ENDPOINT, "2001:db8::1")],
    );
    let datagram = datagram(&payload, RESOLVER, CLIENT, DatagramDirection::Received);
    let found = answers.see(&datagram, &watched(), Duration::from_secs(1));
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(
        found
            .iter()
            .all(|endpoint| endpoint.purpose == Purpose::DataEndpoint)
    );
    assert_eq!(addresses(&found), ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(
        answers.see(&datagram, &watched(), Duration::from_secs(1)),
        [],
        "only once"
    );
}

#[test]
fn aliases_are_followed_and_what_belongs_to_no_alias_is_not_taken() {
    let mut answers = DnsAnswers::default();
    ask(&mut answers, 7, ENDPOINT);
    let records = [
        ("b.example", "192.0.2.2"),
        (ENDPOINT, "a.example"),
        ("a.example", "b.example"),
        ("b.example", "a.example"),
        ("other.example", "192.0.2.66"),
    ];
    assert_eq!(
        answer(&mut answers, &message(7, ENDPOINT, true, &records)),
        ["192.0.2.2"]
    );
}

#[test]
fn a_chain_of_aliases_without_end_is_cut() {
    let mut answers = DnsAnswers::default();
    ask(&mut answers, 7, ENDPOINT);
    let names: Vec<String> = (0..=MAX_ALIASES).map(|n| format!("n{n}.example")).collect();
    let mut records = vec![(ENDPOINT, names[0].as_str())];
    records.extend(names.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str())));
    records.push((names[MAX_ALIASES].as_str(), "192.0.2.66"));
    assert_eq!(
        answer(&mut answers, &message(7, ENDPOINT, true, &records)),
        [""; 0]
    );
}

#[test]
fn names_below_count_only_where_they_may() {
    let bucket = "bucket.s3.eu-west-1.amazonaws.com";
    for (name, expected) in [
        (bucket, vec!["192.0.2.3"]),
        ("evils3.eu-west-1.amazonaws.com", vec![]),
        ("below.x-ats.iot.eu-west-1.amazonaws.com", vec![]),
        ("bucket.s3.eu-west-1.amazonaws.com.evil.example", vec![]),
        (r"bucket\.s3.eu-west-1.amazonaws.com.evil.example", vec![]),
    ] {
        let mut answers = DnsAnswers::default();
        ask(&mut answers, 7, name);
        let payload = message(7, name, true, &[(name, "192.0.2.3")]);
        assert_eq!(answer(&mut answers, &payload), expected, "{name}");
    }
}

#[test]
fn a_spoofed_answer_gives_nothing_and_the_true_one_still_counts() {
    let good = message(7, ENDPOINT, true, &[(ENDPOINT, "192.0.2.66")]);
    let other_name = message(7, "logs.example", true, &[("logs.example", "192.0.2.66")]);
    let other_owner = message(7, ENDPOINT, true, &[("logs.example", "192.0.2.66")]);
    let other_id = message(8, ENDPOINT, true, &[(ENDPOINT, "192.0.2.66")]);
    let question = message(7, ENDPOINT, false, &[(ENDPOINT, "192.0.2.66")]);
    let received = DatagramDirection::Received;
    let spoofed = [
        ("id", datagram(&other_id, RESOLVER, CLIENT, received)),
        ("name", datagram(&other_name, RESOLVER, CLIENT, received)),
        (
            "client's port",
            datagram(&good, RESOLVER, "198.51.100.2:40001", received),
        ),
        (
            "client",
            datagram(&good, RESOLVER, "198.51.100.3:40000", received),
        ),
        ("resolver", datagram(&good, "203.0.113.1:53", CLIENT, received)),
        (
            "configured resolver",
            datagram(&good, "127.0.0.53:53", CLIENT, received),
        ),
        (
            "resolver's port",
            datagram(&good, "198.51.100.1:5353", CLIENT, received),
        ),
        ("way", datagram(&good, RESOLVER, CLIENT, DatagramDirection::Sent)),
        ("no answer", datagram(&question, RESOLVER, CLIENT, received)),
        (
            "interface",
            Datagram {
                interface: 3,
                ..datagram(&good, RESOLVER, CLIENT, received)
            },
        ),
    ];
    for (what, spoofed) in spoofed {
        let mut answers = DnsAnswers::default();
        ask(&mut answers, 7, ENDPOINT);
        let found = answers.see(&spoofed, &watched(), Duration::from_secs(1));
        assert_eq!(found, [], "{what}");
        assert_eq!(
            answer(&mut answers, &good),
            ["192.0.2.66"],
            "control: after {what}"
        );
    }
    let mut answers = DnsAnswers::default();
    ask(&mut answers, 7, ENDPOINT);
    assert_eq!(answer(&mut answers, &other_owner), [""; 0], "another owner");
}

#[test]
fn an_answer_without_a_question_or_too_late_gives_nothing() {
    let good = message(7, ENDPOINT, true, &[(ENDPOINT, "192.0.2.66")]);
    assert_eq!(answer(&mut DnsAnswers::default(), &good), [""; 0]);
    let mut answers = DnsAnswers::default();
    ask(&mut answers, 7, ENDPOINT);
    let late = datagram(&good, RESOLVER, CLIENT, DatagramDirection::Received);
    let found = answers.see(&late, &watched(), ANSWER_LIMIT + Duration::from_secs(1));
    assert_eq!(found, []);
    assert!(answers.waiting.is_empty());
}

#[test]
fn questions_of_others_and_to_others_are_not_remembered() {
    let mut answers = DnsAnswers::default();
    let query = message(7, ENDPOINT, false, &[]);
    let elsewhere = message(7, "www.example", false, &[]);
    for (payload, to, way) in [
        (&query, "203.0.113.1:53", DatagramDirection::Sent),
        (&query, "198.51.100.1:5353", DatagramDirection::Sent),
        (&query, RESOLVER, DatagramDirection::Received),
        (&elsewhere, RESOLVER, DatagramDirection::Sent),
    ] {
        answers.see(&datagram(payload, CLIENT, to, way), &watched(), Duration::ZERO);
    }
    assert!(answers.waiting.is_empty(), "{:?}", answers.waiting);
}

#[test]
fn a_stub_on_this_machine_answers_too() {
    let mut answers = DnsAnswers::default();
    let query = message(7, ENDPOINT, false, &[]);
    let good = message(7, ENDPOINT, true, &[(ENDPOINT, "192.0.2.1")]);
    let (client, stub) = ("127.0.0.1:40000", "127.0.0.53:53");
    answers.see(
        &datagram(&query, client, stub, DatagramDirection::Loopback),
        &watched(),
        Duration::ZERO,
    );
    let found = answers.see(
        &datagram(&good, stub, client, DatagramDirection::Loopback),
        &watched(),
        Duration::ZERO,
    );
    assert_eq!(addresses(&found), ["192.0.2.1"]);
}

#[test]
fn a_refusal_and_an_address_that_is_no_hosts_give_nothing() {
    let mut answers = DnsAnswers::default();
    ask(&mut answers, 7, ENDPOINT);
    let mut refusal = message(7, ENDPOINT, true, &[(ENDPOINT, "192.0.2.1")]);
    refusal[3] |= 3;
    assert_eq!(answer(&mut answers, &refusal), [""; 0]);
    ask(&mut answers, 8, ENDPOINT);
    let group = message(
        8,
        ENDPOINT,
        true,
        &[(ENDPOINT, "224.0.0.1"), (ENDPOINT, "255.255.255.255")],
    );
    assert_eq!(answer(&mut answers, &group), [""; 0]);
}

#[test]
fn questions_and_addresses_are_bounded() {
    let mut answers = DnsAnswers::default();
    for id in 0..1_000 {
        ask(&mut answers, id, ENDPOINT);
    }
    assert_eq!(answers.waiting.len(), MAX_QUESTIONS);
    let many: Vec<String> = (1..=60).map(|n| format!("192.0.2.{n}")).collect();
    let records: Vec<_> = many.iter().map(|address| (ENDPOINT, address.as_str())).collect();
    let found = answer(&mut answers, &message(999, ENDPOINT, true, &records));
    assert_eq!(found.len(), MAX_ADDRESSES);
}

#[test]
fn a_header_that_announces_more_than_is_taken_is_not_read() {
    let mut answers = DnsAnswers::default();
    ask(&mut answers, 7, ENDPOINT);
    let mut payload = message(7, ENDPOINT, true, &[(ENDPOINT, "192.0.2.1")]);
    payload[10..12].copy_from_slice(&[0xff, 0xff]);
    let seen = datagram(&payload, RESOLVER, CLIENT, DatagramDirection::Received);
    assert!(glance(&seen, &watched()).is_none());
}

proptest! {
    /// Whatever comes: no panic, no endless loop, and nothing without a question.
    #[test]
    fn bytes_without_sense_reveal_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut answers = DnsAnswers::default();
        prop_assert_eq!(answer(&mut answers, &bytes), [""; 0]);
    }

    /// A true answer with some bytes changed: no panic, and at most what an answer may give.
    #[test]
    fn a_damaged_answer_gives_no_more_than_an_answer(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut answers = DnsAnswers::default();
        ask(&mut answers, 7, ENDPOINT);
        let records = [(ENDPOINT, "a.example"), ("a.example", "192.0.2.1"), ("a.example", "2001:db8::1")];
        let mut payload = message(7, ENDPOINT, true, &records);
        for (index, byte) in changes {
            let at = index.index(payload.len());
            payload[at] = byte;
        }
        prop_assert!(answer(&mut answers, &payload).len() <= MAX_ADDRESSES);
    }
}

#[test]
fn what_follows_the_question_is_not_read_unless_it_is_the_answer_to_one_that_waits() {
    let mut answers = DnsAnswers::default();
    // As many records as may be announced, none of which can be read.
    let garbled = |id, name, response| {
        let mut payload = message(id, name, response, &[]);
        payload[6..8].copy_from_slice(&u16::try_from(MAX_RECORDS).unwrap().to_be_bytes());
        payload.extend([0xff; 500]);
        assert!(
            Packet::parse(&payload).is_err(),
            "control: it cannot be read whole"
        );
        payload
    };
    let question = garbled(7, ENDPOINT, false);
    let sent = datagram(&question, CLIENT, RESOLVER, DatagramDirection::Sent);
    answers.see(&sent, &watched(), Duration::ZERO);
    assert_eq!(answers.waiting.len(), 1, "its question is all that counts");
    for (id, name) in [(8, ENDPOINT), (7, "www.example")] {
        assert_eq!(answer(&mut answers, &garbled(id, name, true)), [""; 0]);
    }
    assert_eq!(answers.budget.used, 0, "nothing was read whole");
    assert_eq!(answer(&mut answers, &garbled(7, ENDPOINT, true)), [""; 0]);
    assert_eq!(answers.budget.used, 1);
    let good = message(7, ENDPOINT, true, &[(ENDPOINT, "192.0.2.1")]);
    assert_eq!(
        answer(&mut answers, &good),
        ["192.0.2.1"],
        "the question still waits"
    );
}

#[test]
fn only_so_many_answers_are_read_whole_in_a_second() {
    let mut answers = DnsAnswers::default();
    let revealed = |answers: &mut DnsAnswers, now| {
        let ids = 0..2 * u16::try_from(MAX_WHOLE).unwrap();
        let tell = |id: u16| {
            let payload = message(id, ENDPOINT, true, &[(ENDPOINT, "192.0.2.1")]);
            let answer = datagram(&payload, RESOLVER, CLIENT, DatagramDirection::Received);
            !answers.see(&answer, &watched(), now).is_empty()
        };
        u32::try_from(ids.map(tell).filter(|told| *told).count()).unwrap()
    };
    for id in 0..2 * u16::try_from(MAX_WHOLE).unwrap() {
        ask(&mut answers, id, ENDPOINT);
    }
    let now = Duration::from_secs(5);
    assert_eq!(revealed(&mut answers, now), MAX_WHOLE);
    assert_eq!(
        revealed(&mut answers, now),
        0,
        "what is over the budget is dropped"
    );
    assert_eq!(
        revealed(&mut answers, now + BUDGET_SPAN),
        MAX_WHOLE,
        "and counts later"
    );
}

proptest! {
    /// The name of a question is read as the parser of the whole message reads it.
    #[test]
    fn a_question_read_alone_says_what_the_whole_message_says(
        name in "[a-zA-Z0-9_-]{1,63}(\\.[a-zA-Z0-9_-]{1,40}){0,4}", id in any::<u16>(),
    ) {
        let payload = message(id, &name, false, &[]);
        let whole = Packet::parse(&payload).unwrap();
        let (alone, kind) = question_of(&payload[HEADER..]).unwrap();
        prop_assert_eq!(alone, name_of(&whole.questions[0].qname));
        prop_assert_eq!(kind, QuestionKind::V4);
    }
}
