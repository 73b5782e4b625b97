//! What both flavours do with every kind of event.

use super::*;

fn violation(kind: &str) -> Value {
    json!({"thingName": "gw-1", "violationEventType": kind, "violationId": "37e1"})
}

fn acts(decisions: &[Decision]) -> bool {
    let expected = [
        Action::AddToGroup("Quarantine"),
        Action::RemoveFromGroup("DEFAULT"),
        Action::UpdateDesired(json!({"quarantine": true})),
    ];
    matches!(decisions, [Decision::Act { thing, actions }] if thing == "gw-1" && *actions == expected)
}

#[test]
fn only_a_new_alarm_quarantines_but_the_workshops_handler_acts_on_everything() -> Result<(), LambdaError> {
    for (kind, acted) in [
        ("in-alarm", true),
        ("alarm-cleared", false),
        ("alarm-invalidated", false),
        ("new", false),
    ] {
        let event = sns_event(&violation(kind), 1);
        let decisions = decide(&event, Flavour::Correct)?;
        assert_eq!(acts(&decisions), acted, "{kind}: {decisions:?}");
        if !acted {
            let [Decision::Ignore { thing, why }] = decisions.as_slice() else {
                panic!("{decisions:?}")
            };
            assert!(
                thing == "gw-1" && why.contains(kind) && why.contains("workshop"),
                "{why}"
            );
        }
        assert!(acts(&decide(&event, Flavour::Workshop)?), "{kind}");
    }
    Ok(())
}

#[test]
fn every_record_counts_except_in_the_workshop() -> Result<(), LambdaError> {
    let mut event = sns_event(&violation("in-alarm"), 1);
    let record = event["Records"][0].clone();
    event["Records"] = json!([record, record]);
    assert_eq!(decide(&event, Flavour::Correct)?.len(), 2);
    assert_eq!(decide(&event, Flavour::Workshop)?.len(), 1);
    Ok(())
}

#[test]
fn unreadable_events_are_named() {
    let no_thing = sns_event(&json!({"violationEventType": "in-alarm"}), 1);
    let odd_thing = sns_event(&json!({"thingName": "a/b", "violationEventType": "in-alarm"}), 1);
    let mut no_json = sns_event(&json!({}), 1);
    no_json["Records"][0]["Sns"]["Message"] = json!("{");
    let too_many = json!({"Records": vec![json!({}); MAX_RECORDS + 1]});
    for (event, expected) in [
        (json!({}), "Records must be a list"),
        (json!({"Records": []}), "Records must be a list"),
        (too_many, "Records must be a list"),
        (json!({"Records": [{}]}), "Sns.Message must be a string"),
        (
            json!({"Records": [{"Sns": {"Message": {}}}]}),
            "Sns.Message must be a string",
        ),
        (no_json, "as JSON"),
        (no_thing, "thingName"),
        (odd_thing, "thingName"),
    ] {
        for flavour in [Flavour::Correct, Flavour::Workshop] {
            match decide(&event, flavour) {
                Err(error) => assert!(error.to_string().contains(expected), "{error}"),
                Ok(decisions) => panic!("{event} led to {decisions:?}"),
            }
        }
    }
}

#[test]
fn the_envelope_holds_the_message_as_a_string() {
    let message = violation("in-alarm");
    let event = sns_event(&message, 255);
    let record = &event["Records"][0];
    assert_eq!(record["EventSource"], json!("aws:sns"));
    assert_eq!(record["Sns"]["Message"], json!(message.to_string()));
    assert_eq!(
        record["Sns"]["MessageId"],
        json!("00000000-0000-0000-0000-0000000000ff")
    );
    for key in [
        "Type",
        "TopicArn",
        "Subject",
        "SignatureVersion",
        "Signature",
        "SigningCertUrl",
        "UnsubscribeUrl",
        "MessageAttributes",
    ] {
        assert!(record["Sns"].get(key).is_some(), "{key}");
    }
}

#[test]
fn flavours_read_back() {
    for flavour in [Flavour::Correct, Flavour::Workshop] {
        assert_eq!(flavour.to_string().parse(), Ok(flavour));
    }
    assert!("none".parse::<Flavour>().is_err());
}
