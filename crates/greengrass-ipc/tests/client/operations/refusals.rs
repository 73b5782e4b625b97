//! Every error of the service model in the words of both nuclei.

use greengrass_ipc::frame::{Message, MessageKind, TERMINATE_STREAM};
use greengrass_ipc::{ErrorCode, IpcError, PauseComponent, SubscribeToTopic};
use serde_json::json;

use super::Bench;
use crate::support::within;

/// Name on the wire and in Rust.
fn codes() -> [(&'static str, ErrorCode); 13] {
    [
        ("ComponentNotFoundError", ErrorCode::ComponentNotFound),
        ("ConflictError", ErrorCode::Conflict),
        (
            "FailedUpdateConditionCheckError",
            ErrorCode::FailedUpdateConditionCheck,
        ),
        ("InvalidArgumentsError", ErrorCode::InvalidArguments),
        (
            "InvalidArtifactsDirectoryPathError",
            ErrorCode::InvalidArtifactsDirectoryPath,
        ),
        (
            "InvalidClientDeviceAuthTokenError",
            ErrorCode::InvalidClientDeviceAuthToken,
        ),
        ("InvalidCredentialError", ErrorCode::InvalidCredential),
        (
            "InvalidRecipeDirectoryPathError",
            ErrorCode::InvalidRecipeDirectoryPath,
        ),
        ("InvalidTokenError", ErrorCode::InvalidToken),
        ("ResourceNotFoundError", ErrorCode::ResourceNotFound),
        ("ServiceError", ErrorCode::Service),
        ("UnauthorizedError", ErrorCode::Unauthorized),
        ("BrandNewError", ErrorCode::Other("BrandNewError".into())),
    ]
}

/// The bodies each nucleus gives such an error, with the header that names its shape and without.
fn bodies(name: &str, text: &str) -> [(Option<String>, String); 4] {
    let shape = Some(format!("aws.greengrass#{name}"));
    let lite = json!({ "_message": text, "_errorCode": name }).to_string();
    let classic = json!({
        "message": text, "_service": "aws.greengrass#GreengrassCoreIPC", "_message": text, "_errorCode": name,
    });
    [
        (shape.clone(), lite.clone()),
        (shape.clone(), classic.to_string()),
        (shape, json!({ "message": text }).to_string()),
        (None, lite),
    ]
}

fn refusal(request: &Message, shape: Option<String>, payload: String) -> Message {
    let mut error = Message::new(MessageKind::ApplicationError, request.stream_id)
        .with_flags(TERMINATE_STREAM)
        .with_json(payload);
    error.service_model_type = shape;
    error
}

fn check(error: &IpcError, expected: &ErrorCode, text: &str, body: &str) {
    assert_eq!(error.code(), Some(expected), "{body}");
    assert!(
        matches!(error, IpcError::Service { message, .. } if message == text),
        "{body}: {error:?}"
    );
    let not_found = matches!(
        expected,
        ErrorCode::ResourceNotFound | ErrorCode::ComponentNotFound
    );
    assert_eq!(error.is_not_found(), not_found, "{body}");
    assert_eq!(
        error.is_unauthorized(),
        *expected == ErrorCode::Unauthorized,
        "{body}"
    );
    let unsupported = *expected == ErrorCode::Service && text.is_empty();
    assert_eq!(error.is_unsupported(), unsupported, "{body}");
}

#[tokio::test]
async fn every_error_of_both_nuclei_for_a_call() {
    let bench = &mut Bench::new().await;
    for (name, code) in codes() {
        for (shape, payload) in ["why not", ""].iter().flat_map(|text| bodies(name, text)) {
            let text = if payload.contains("why not") {
                "why not"
            } else {
                ""
            };
            let serve = async {
                let request = bench.peer.request("PauseComponent").await;
                bench
                    .peer
                    .send(&refusal(&request, shape.clone(), payload.clone()))
                    .await;
            };
            let pause = PauseComponent::new("c");
            let (refused, ()) =
                within(name, async { tokio::join!(bench.client.request(&pause), serve) }).await;
            check(&refused.unwrap_err(), &code, text, &payload);
        }
    }
}

#[tokio::test]
async fn every_error_of_both_nuclei_for_a_subscription() {
    let bench = &mut Bench::new().await;
    for (name, code) in codes() {
        for (shape, payload) in bodies(name, "why not") {
            let serve = async {
                let request = bench.peer.request("SubscribeToTopic").await;
                bench
                    .peer
                    .send(&refusal(&request, shape.clone(), payload.clone()))
                    .await;
            };
            let subscribe = SubscribeToTopic::new("t");
            let (refused, ()) = within(name, async {
                tokio::join!(bench.client.subscribe(&subscribe), serve)
            })
            .await;
            check(&refused.unwrap_err(), &code, "why not", &payload);
        }
    }
}
