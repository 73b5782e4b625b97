//! Unit tests of the largest payload and of topics; the JSON is checked by the tests against a scripted nucleus.

use super::*;
use crate::options::LITE_MAX_FRAME_BYTES;

fn publish<'a>(topic: &'a str, payload: &'a [u8]) -> PublishToIotCore<'a> {
    PublishToIotCore::new(topic, Qos::AtLeastOnce, payload)
}

#[test]
fn the_largest_payload_is_the_one_seen_on_lite() {
    let publish = publish("$aws/things/gateway-01/defender/metrics/json", b"");
    assert_eq!(publish.max_payload(LITE_MAX_FRAME_BYTES), 7290);
}

#[test]
fn the_largest_payload_is_exact_for_every_limit_with_and_without_properties() {
    let mut with_properties = publish("a/\"quoted\"/b", b"");
    with_properties.properties.response_topic = Some("answers".into());
    with_properties.properties.retain = Some(false);
    for message in [publish("a/\"quoted\"/b", b""), with_properties] {
        for limit in 600..640 {
            let largest = message.max_payload(limit);
            let size = |bytes: usize| {
                let payload = vec![7; bytes];
                let mut message = message.clone();
                message.payload = &payload;
                Client::frame_bytes(&message).unwrap()
            };
            assert!(
                size(largest) <= limit && size(largest + 1) > limit,
                "limit {limit}, largest {largest}"
            );
        }
    }
    assert_eq!(publish("t", b"").max_payload(10), 0);
}

#[test]
fn topics_that_would_hurt_the_nucleus_are_refused() {
    for bad in ["", "test/#", "a/+/b", "a\0", &"x".repeat(257)] {
        assert!(publish(bad, b"").fault().is_some(), "{bad:?}");
    }
    let ingest = format!("$aws/rules/rule/{}", "x".repeat(256));
    for good in [
        "$aws/things/gateway-01/shadow/name/q/update",
        &"x".repeat(256),
        &ingest,
    ] {
        assert_eq!(publish(good, b"").fault(), None);
    }
}
