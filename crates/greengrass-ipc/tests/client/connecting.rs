//! How the client gets, is refused, loses and gives up connections.

use std::path::{Component, PathBuf};
use std::time::Duration;

use crate::support::{Nucleus, TOKEN, connected, last_error, within};
use greengrass_ipc::frame::{CONNECTION_ACCEPTED, Message, MessageKind};
use greengrass_ipc::{Client, ConnectionState, IotCoreMessage, IpcError, Subscription};
use serde_json::json;
use tokio::net::UnixListener;

#[test]
fn handles_can_be_used_from_any_thread() {
    fn shareable<T: Send + Sync + 'static>() {}
    shareable::<Client>();
    shareable::<Subscription<IotCoreMessage>>();
}

#[tokio::test]
async fn both_ways_of_being_refused_and_then_accepted() {
    let nucleus = Nucleus::new();
    let client = Client::start(nucleus.options());

    let mut lite = nucleus.knock().await;
    lite.credentials().await;
    drop(lite);
    last_error(&client, "refused the token by closing the connection").await;

    let mut classic = nucleus.knock().await;
    classic.credentials().await;
    classic.send(&Message::new(MessageKind::ConnectAck, 0)).await;
    classic.closed_by_client().await;
    last_error(&client, "the nucleus refused the token").await;

    let _peer = nucleus.accept().await;
    assert_eq!(connected(&client).await, 1);
    let own_pid = i32::try_from(std::process::id()).unwrap();
    let state = client.connection().borrow().clone();
    assert!(
        matches!(state, ConnectionState::Connected { epoch: 1, server_pid: Some(pid), server_start_ticks: Some(_), .. } if pid == own_pid),
        "{state:?}"
    );
}

#[tokio::test]
async fn a_refused_token_is_renewed_by_component_name() {
    let nucleus = Nucleus::new();
    let mut options = nucleus.options();
    options.component_name = Some("io.edgewarden.Agent".into());
    let client = Client::start(options);

    let mut first = nucleus.knock().await;
    assert_eq!(first.credentials().await, json!({ "authToken": TOKEN }));
    drop(first);

    let mut second = nucleus.knock().await;
    assert_eq!(
        second.credentials().await,
        json!({ "componentName": "io.edgewarden.Agent" })
    );
    let ack = Message::new(MessageKind::ConnectAck, 0)
        .with_flags(CONNECTION_ACCEPTED)
        .with_svcuid("new-token-000001");
    second.send(&ack).await;
    assert_eq!(connected(&client).await, 1);
    drop(second);

    let mut third = nucleus.knock().await;
    assert_eq!(
        third.credentials().await,
        json!({ "authToken": "new-token-000001" })
    );
    third.acknowledge().await;
    within("the second connection", async {
        while connected(&client).await < 2 {}
    })
    .await;
}

#[tokio::test]
async fn something_else_than_an_ack_is_no_acceptance() {
    let nucleus = Nucleus::new();
    let client = Client::start(nucleus.options());
    let mut peer = nucleus.knock().await;
    peer.credentials().await;
    peer.send(&Message::new(MessageKind::ProtocolError, 0)).await;
    peer.closed_by_client().await;
    last_error(&client, "kind ProtocolError").await;
    let _peer = nucleus.accept().await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left() {
    let nucleus = Nucleus::new();
    let mut options = nucleus.options();
    options.handshake_timeout = Duration::from_millis(100);
    let client = Client::start(options);
    let mut silent = nucleus.knock().await;
    silent.credentials().await;
    silent.closed_by_client().await;
    last_error(&client, "did not accept the connection within 100ms").await;
    let _peer = nucleus.accept().await;
    connected(&client).await;
}

#[tokio::test]
async fn a_call_waits_for_the_connection_but_not_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("later.socket");
    let mut options = greengrass_ipc::ClientOptions::new(&socket, TOKEN);
    options.request_timeout = Duration::from_millis(300);
    let client = Client::start(options);

    let error = client
        .request_json("GetConfiguration", json!({}))
        .await
        .unwrap_err();
    match error {
        IpcError::NotConnected {
            last_error: Some(text),
            ..
        } => {
            assert!(
                text.contains("later.socket") && text.contains("No such file"),
                "{text}"
            );
        }
        other => panic!("expected NotConnected with a reason, got {other:?}"),
    }
    // The same client works as soon as there is a nucleus.
    let listener = UnixListener::bind(&socket).unwrap();
    let (stream, _) = within("a client that connects", listener.accept()).await.unwrap();
    drop(stream);
}

#[tokio::test]
async fn a_request_made_before_the_connection_is_sent_after_it() {
    let nucleus = Nucleus::new();
    let client = Client::start(nucleus.options());
    let call = tokio::spawn(async move { client.get_configuration(None, &["a"]).await });
    let mut refused = nucleus.knock().await;
    refused.credentials().await;
    drop(refused);
    let mut peer = nucleus.accept().await;
    let request = peer.request("GetConfiguration").await;
    peer.answer(&request, r#"{"componentName":"c","value":{"a":"1"}}"#)
        .await;
    assert_eq!(
        within("the call", call).await.unwrap().unwrap(),
        json!({ "a": "1" })
    );
}

#[tokio::test]
async fn a_relative_path_works() {
    let nucleus = Nucleus::new();
    let here = std::env::current_dir().unwrap();
    let up = here
        .components()
        .filter(|part| matches!(part, Component::Normal(_)));
    let mut relative: PathBuf = up.map(|_| "..").collect();
    relative.push(nucleus.socket().strip_prefix("/").unwrap());
    assert!(relative.is_relative());

    let mut options = nucleus.options();
    options.socket = relative;
    let client = Client::start(options);
    let _peer = nucleus.accept().await;
    connected(&client).await;
}

#[tokio::test]
async fn a_requested_reconnect_makes_a_new_connection() {
    let (nucleus, client, mut first) = Nucleus::with_client(|_| ()).await;
    assert_eq!(connected(&client).await, 1);
    client.reconnect("subscriptions are silent");
    first.closed_by_client().await;
    last_error(&client, "reconnect requested: subscriptions are silent").await;
    let _second = nucleus.accept().await;
    assert_eq!(connected(&client).await, 2);
}

#[tokio::test]
async fn a_reconnect_requested_without_a_connection_does_not_end_the_next() {
    let nucleus = Nucleus::new();
    let client = Client::start(nucleus.options());
    let mut peer = nucleus.knock().await;
    peer.credentials().await;
    client.reconnect("too early");
    peer.acknowledge().await;
    let serve = async {
        let request = peer.request("GetConfiguration").await;
        peer.answer(&request, "{}").await;
    };
    let call = client.request_json("GetConfiguration", json!({}));
    within("a call", async { tokio::join!(call, serve) })
        .await
        .0
        .unwrap();
    assert_eq!(connected(&client).await, 1);
}

#[tokio::test]
async fn the_last_client_closes_the_connection() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let clone = client.clone();
    drop(client);
    let call = tokio::spawn(async move { clone.request_json("GetConfiguration", json!({})).await });
    let request = peer.request("GetConfiguration").await;
    peer.answer(&request, "{}").await;
    within("the call", call).await.unwrap().unwrap();
    assert_eq!(
        peer.receive_or_end().await,
        None,
        "the task with the last client is done"
    );
}
