//! Which questions are of lifelines, and the many that are not.

use proptest::prelude::*;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, ResourceRecord, TYPE};

use super::*;
use crate::quarantine::lifelines::lifeline::{Lifelines, Surroundings, targets};

const ENDPOINT: &str = "x-ats.iot.eu-west-1.amazonaws.com";
const CLIENT: &str = "198.51.100.2:40000";
const RESOLVER: &str = "198.51.100.1:53";

fn watched() -> WatchedNames {
    let around = Surroundings {
        data_endpoint: Some(ENDPOINT.into()),
        region: Some("eu-west-1".into()),
        ..Surroundings::default()
    };
    WatchedNames::new(&targets(&Lifelines::default(), &around))
}

fn message(id: u16, name: &str, kind: TYPE, answer: Option<[u8; 4]>) -> Vec<u8> {
    let mut packet = if answer.is_some() {
        Packet::new_reply(id)
    } else {
        Packet::new_query(id)
    };
    let question = simple_dns::Question::new(
        Name::new_unchecked(name),
        QTYPE::TYPE(kind),
        QCLASS::CLASS(CLASS::IN),
        false,
    );
    packet.questions.push(question);
    packet.answers.extend(answer.map(|address| {
        let data = RData::A(A::from(std::net::Ipv4Addr::from(address)));
        ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 60, data)
    }));
    packet.build_bytes_vec_compressed().unwrap()
}

fn asked(payload: &[u8], to: &str, way: DatagramDirection) -> Option<String> {
    let datagram = Datagram {
        source: CLIENT.parse().unwrap(),
        destination: to.parse().unwrap(),
        interface: 2,
        way,
        payload,
    };
    asked_for(&datagram, &watched())
}

fn sent(payload: &[u8]) -> Option<String> {
    asked(payload, RESOLVER, DatagramDirection::Sent)
}

#[test]
fn a_question_for_a_lifeline_is_seen_whomever_it_is_sent_to() {
    for (name, kind) in [
        (ENDPOINT, TYPE::A),
        ("X-ATS.iot.eu-west-1.amazonaws.COM", TYPE::AAAA),
    ] {
        let question = message(7, name, kind, None);
        assert_eq!(sent(&question).as_deref(), Some(ENDPOINT));
        let of_stub = asked(&question, "127.0.0.53:53", DatagramDirection::Loopback);
        assert_eq!(of_stub.as_deref(), Some(ENDPOINT));
    }
}

#[test]
fn names_below_count_only_where_they_may() {
    let bucket = "bucket.s3.eu-west-1.amazonaws.com";
    for (name, counts) in [
        (bucket, true),
        ("s3.eu-west-1.amazonaws.com", true),
        ("evils3.eu-west-1.amazonaws.com", false),
        ("below.x-ats.iot.eu-west-1.amazonaws.com", false),
        ("bucket.s3.eu-west-1.amazonaws.com.evil.example", false),
        ("www.example", false),
    ] {
        let found = sent(&message(7, name, TYPE::A, None));
        assert_eq!(found.as_deref(), counts.then_some(name), "{name}");
    }
}

#[test]
fn an_answer_says_nothing() {
    let answer = message(7, ENDPOINT, TYPE::A, Some([192, 0, 2, 66]));
    for way in [
        DatagramDirection::Sent,
        DatagramDirection::Received,
        DatagramDirection::Loopback,
    ] {
        assert_eq!(asked(&answer, RESOLVER, way), None, "{way:?}");
        assert_eq!(asked(&answer, CLIENT, way), None, "{way:?}");
    }
}

#[test]
fn what_is_no_question_for_addresses_of_this_machine_says_nothing() {
    let question = message(7, ENDPOINT, TYPE::A, None);
    assert_eq!(asked(&question, RESOLVER, DatagramDirection::Received), None);
    assert_eq!(
        asked(&question, "198.51.100.1:5353", DatagramDirection::Sent),
        None
    );
    assert_eq!(sent(&message(7, ENDPOINT, TYPE::TXT, None)), None);
    for (at, byte) in [(2, 0x28), (5, 0), (5, 2)] {
        let mut other = question.clone();
        other[at] = byte;
        assert_eq!(sent(&other), None, "byte {at} = {byte}");
    }
    for length in 0..question.len() {
        assert_eq!(sent(&question[..length]), None, "{length} bytes");
    }
}

proptest! {
    /// Whatever comes: no panic and no name.
    #[test]
    fn bytes_without_sense_say_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(sent(&bytes), None);
    }

    /// The name of a question is read as the parser of the whole message reads it.
    #[test]
    fn a_question_read_alone_says_what_the_whole_message_says(
        name in "[a-zA-Z0-9_-]{1,63}(\\.[a-zA-Z0-9_-]{1,40}){0,4}", id in any::<u16>(),
    ) {
        let payload = message(id, &name, TYPE::A, None);
        let whole = Packet::parse(&payload).unwrap();
        let alone = question_of(&payload[HEADER..]).unwrap();
        prop_assert_eq!(alone, plain(&whole.questions[0].qname.to_string()));
    }
}
