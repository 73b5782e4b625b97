//! Operations that answer once.

use std::time::{Duration, SystemTime};

use greengrass_ipc::{
    ComponentState, DeferComponentUpdate, DeleteThingShadow, EmptyReply, ErrorCode, GetConfiguration,
    GetThingShadow, IpcError, ListNamedShadowsForThing, Metric, MetricUnit, PauseComponent, PayloadFormat,
    PublishToIotCore, PublishToTopic, PutComponentMetric, Qos, Request, RequestStatus, RestartComponent,
    ResumeComponent, SendConfigurationValidityReport, StopComponent, UpdateConfiguration, UpdateState,
    UpdateThingShadow, UserProperty,
};
use serde_json::{Value, json};

use super::Bench;

/// The request is accepted by `{}` as well as by nothing at all and by members nobody knows.
async fn accepted<R: Request<Reply = EmptyReply>>(bench: &mut Bench, request: &R, expected: Value) {
    for answer in ["{}", "", r#"{"future":null}"#] {
        let reply = bench.request(request, expected.clone(), answer).await.unwrap();
        assert_eq!(reply, EmptyReply::default());
    }
    for nonsense in ["not json", "7", r#"{"cut":"#] {
        let reply = bench.request(request, expected.clone(), nonsense).await;
        assert!(matches!(reply, Err(IpcError::BadReply { .. })), "{reply:?}");
    }
}

#[tokio::test]
async fn publish_to_iot_core() {
    let bench = &mut Bench::new().await;
    let mut publish = PublishToIotCore::new("a/b", Qos::AtMostOnce, &[0xfb, 0xff]);
    let bare = json!({ "topicName": "a/b", "qos": "0", "payload": "+/8=" });
    accepted(bench, &publish, bare).await;

    let properties = &mut publish.properties;
    properties.retain = Some(false);
    properties.user_properties = vec![UserProperty::new("k", "v")];
    properties.message_expiry_interval_seconds = Some(60);
    properties.correlation_data = Some("hi".into());
    properties.response_topic = Some("a/answers".into());
    properties.payload_format = Some(PayloadFormat::Utf8);
    properties.content_type = Some("text/plain".into());
    publish.payload = b"";
    let full = json!({
        "topicName": "a/b", "qos": "0", "payload": "", "retain": false,
        "userProperties": [{ "key": "k", "value": "v" }], "messageExpiryIntervalSeconds": 60,
        "correlationData": "aGk=", "responseTopic": "a/answers", "payloadFormat": "1",
        "contentType": "text/plain",
    });
    accepted(bench, &publish, full).await;
}

#[tokio::test]
async fn publish_to_topic() {
    let bench = &mut Bench::new().await;
    let message = json!({ "temperature": 21.5 });
    let expected = json!({ "topic": "t", "publishMessage": { "jsonMessage": { "message": message } } });
    accepted(bench, &PublishToTopic::json("t", &message), expected).await;
    let expected = json!({ "topic": "t", "publishMessage": { "binaryMessage": { "message": "aGk=" } } });
    accepted(bench, &PublishToTopic::binary("t", b"hi"), expected).await;
}

#[tokio::test]
async fn configuration() {
    let bench = &mut Bench::new().await;
    let mut get = GetConfiguration::new(&["a", "b"]);
    let reply = bench.request(
        &get,
        json!({ "keyPath": ["a", "b"] }),
        r#"{"componentName":"c","value":{"b":"1"}}"#,
    );
    let reply = reply.await.unwrap();
    assert_eq!(
        (reply.component_name.as_deref(), reply.value),
        (Some("c"), json!({ "b": "1" }))
    );

    get.component_name = Some("other");
    let request = json!({ "componentName": "other", "keyPath": ["a", "b"] });
    let reply = bench.request(&get, request.clone(), r#"{"value":[1]}"#).await;
    assert_eq!(reply.unwrap().component_name, None);
    let reply = bench.request(&get, request, "{}").await;
    assert!(matches!(reply, Err(IpcError::BadReply { .. })), "{reply:?}");
}

#[tokio::test]
async fn a_configuration_update_carries_its_time_as_a_float() {
    let bench = &mut Bench::new().await;
    let value = json!({ "interval": 300 });
    let when = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
    let update = UpdateConfiguration::new(&["reporting"], &value, when);
    let expected = json!({
        "keyPath": ["reporting"], "timestamp": 1_764_000_000.0, "valueToMerge": { "interval": 300 },
    });
    // serde_json tells 1764000000 and 1764000000.0 apart, as lite does.
    assert_ne!(expected["timestamp"], json!(1_764_000_000));
    accepted(bench, &update, expected).await;
}

#[tokio::test]
async fn reports_about_oneself() {
    let bench = &mut Bench::new().await;
    for (state, name) in [
        (ComponentState::Running, "RUNNING"),
        (ComponentState::Errored, "ERRORED"),
    ] {
        accepted(bench, &UpdateState::new(state), json!({ "state": name })).await;
    }
    let accept = SendConfigurationValidityReport::accept("d-1");
    let expected = json!({ "configurationValidityReport": { "status": "ACCEPTED", "deploymentId": "d-1" } });
    accepted(bench, &accept, expected).await;
    let reject = SendConfigurationValidityReport::reject("d-1", "interval: 3 is below 300");
    let expected = json!({ "configurationValidityReport": {
        "status": "REJECTED", "deploymentId": "d-1", "message": "interval: 3 is below 300",
    } });
    accepted(bench, &reject, expected).await;

    let mut defer = DeferComponentUpdate::new("d-1", Duration::from_secs(30));
    let expected = json!({ "deploymentId": "d-1", "recheckAfterMs": 30_000 });
    accepted(bench, &defer, expected).await;
    defer.message = Some("busy");
    let expected = json!({ "deploymentId": "d-1", "message": "busy", "recheckAfterMs": 30_000 });
    accepted(bench, &defer, expected).await;
    let expected = json!({ "deploymentId": "d-1", "recheckAfterMs": 0 });
    accepted(bench, &DeferComponentUpdate::go_on("d-1"), expected).await;

    let metrics = [
        (MetricUnit::Bytes, "BYTES"),
        (MetricUnit::BytesPerSecond, "BYTES_PER_SECOND"),
        (MetricUnit::Count, "COUNT"),
        (MetricUnit::CountPerSecond, "COUNT_PER_SECOND"),
        (MetricUnit::Megabytes, "MEGABYTES"),
        (MetricUnit::Seconds, "SECONDS"),
    ];
    for (unit, name) in metrics {
        let metrics = [Metric::new("m", unit, 2.0)];
        let expected = json!({ "metrics": [{ "name": "m", "unit": name, "value": 2.0 }] });
        accepted(bench, &PutComponentMetric::new(&metrics), expected).await;
    }
}

#[tokio::test]
async fn requests_to_other_components() {
    let bench = &mut Bench::new().await;
    let request = json!({ "componentName": "c" });
    accepted(bench, &PauseComponent::new("c"), request.clone()).await;
    accepted(bench, &ResumeComponent::new("c"), request.clone()).await;

    let restart = RestartComponent::new("c");
    let reply = bench.request(&restart, request.clone(), r#"{"restartStatus":"SUCCEEDED"}"#);
    let outcome = reply.await.unwrap();
    assert_eq!(
        (outcome.status, outcome.message),
        (RequestStatus::Succeeded, None)
    );
    let stop = StopComponent::new("c");
    let reply = bench.request(
        &stop,
        request.clone(),
        r#"{"stopStatus":"FAILED","message":"no"}"#,
    );
    let outcome = reply.await.unwrap();
    assert_eq!(
        (outcome.status, outcome.message.as_deref()),
        (RequestStatus::Failed, Some("no"))
    );
    let reply = bench.request(&stop, request, "{}").await;
    assert!(matches!(reply, Err(IpcError::BadReply { .. })), "{reply:?}");
}

#[tokio::test]
async fn shadows() {
    let bench = &mut Bench::new().await;
    let named = json!({ "thingName": "gw", "shadowName": "quarantine" });
    let document = r#"{"payload":"e30="}"#;
    let get = GetThingShadow::new("gw", "quarantine");
    let reply = bench.request(&get, named.clone(), document).await;
    assert_eq!(reply.unwrap().payload, "{}");
    let delete = DeleteThingShadow::new("gw", "quarantine");
    let reply = bench.request(&delete, named, "{}").await;
    assert_eq!(reply.unwrap().payload, "", "an absent document is an empty one");
    let update = UpdateThingShadow::new("gw", "", b"{}");
    let classic = json!({ "thingName": "gw", "shadowName": "", "payload": "e30=" });
    let reply = bench.request(&update, classic.clone(), document).await;
    assert_eq!(reply.unwrap().payload, "{}");
    let reply = bench.request(&update, classic, r#"{"payload":"%%"}"#).await;
    assert!(matches!(reply, Err(IpcError::BadReply { .. })), "{reply:?}");
}

#[tokio::test]
async fn names_of_shadows_come_in_pages() {
    let bench = &mut Bench::new().await;
    let mut list = ListNamedShadowsForThing::new("gw");
    let answer = r#"{"results":["a","b"],"timestamp":1764000000.5,"nextToken":"more"}"#;
    let page = bench
        .request(&list, json!({ "thingName": "gw" }), answer)
        .await
        .unwrap();
    let when = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_000_000_500);
    assert_eq!(page.results, ["a", "b"]);
    assert_eq!(page.timestamp, Some(when));

    list.next_token = page.next_token.as_deref();
    list.page_size = Some(100);
    let request = json!({ "thingName": "gw", "nextToken": "more", "pageSize": 100 });
    for last in [
        r#"{"results":[],"timestamp":null,"nextToken":null}"#,
        r#"{"results":[]}"#,
    ] {
        let page = bench.request(&list, request.clone(), last).await.unwrap();
        assert_eq!(
            (page.results.len(), page.timestamp, page.next_token),
            (0, None, None)
        );
    }
}

#[tokio::test]
async fn what_cannot_mean_anything_is_not_sent() {
    let bench = &mut Bench::new().await;
    let mut list = ListNamedShadowsForThing::new("gw");
    for size in [0, 101] {
        list.page_size = Some(size);
        let error = bench.client.request(&list).await.unwrap_err();
        assert!(
            error.to_string().contains("expected 1 to 100") && error.code().is_none(),
            "{error}"
        );
    }
    for value in [f64::NAN, f64::INFINITY] {
        let metrics = [Metric::new("load", MetricUnit::Count, value)];
        let error = bench
            .client
            .request(&PutComponentMetric::new(&metrics))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("\"load\""), "{error}");
    }
    let publish = PublishToIotCore::new("a/+", Qos::AtMostOnce, b"");
    let error = bench.client.request(&publish).await.unwrap_err();
    assert!(matches!(error, IpcError::InvalidRequest { .. }), "{error}");
    assert_ne!(error.code(), Some(&ErrorCode::InvalidArguments));
    // The first request that reaches the nucleus has the first id.
    let state = UpdateState::new(ComponentState::Running);
    let serve = async {
        let sent = bench.peer.request("UpdateState").await;
        bench.peer.answer(&sent, "{}").await;
        sent.stream_id
    };
    let (done, id) = tokio::join!(bench.client.request(&state), serve);
    assert_eq!((done.unwrap(), id), (EmptyReply::default(), 1));
}
