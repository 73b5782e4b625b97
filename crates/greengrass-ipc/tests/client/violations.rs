//! A nucleus that breaks the protocol: the connection is dropped, and the next one works.

use std::time::Duration;

use crate::support::{Nucleus, connected, last_error, within};
use greengrass_ipc::frame::{Message, MessageKind, encode};
use greengrass_ipc::{Client, IpcError};
use serde_json::json;

/// The client has left the connection and works on a new one.
async fn recovers(nucleus: &Nucleus, client: &Client, reason: &str) {
    last_error(client, reason).await;
    let mut peer = nucleus.accept().await;
    let serve = async {
        let request = peer.request("GetConfiguration").await;
        peer.answer(&request, r#"{"ok":true}"#).await;
    };
    let call = client.request_json("GetConfiguration", json!({}));
    let (answer, ()) = within("a call", async { tokio::join!(call, serve) }).await;
    assert_eq!(answer.unwrap(), json!({ "ok": true }));
}

fn damaged() -> Vec<u8> {
    let mut frame = encode(&Message::new(MessageKind::ApplicationMessage, 1).with_json("{}"))
        .unwrap()
        .to_vec();
    let last = frame.len() - 1;
    frame[last] ^= 1;
    frame
}

#[tokio::test]
async fn bytes_that_are_no_frame() {
    let cases: [(&[u8], &str); 4] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "longer than the"),
        (&[0, 0, 0, 40, 0, 0, 0, 9, 1, 2, 3, 4], "prelude checksum"),
        (&[0x7f, 0xff, 0xff, 0xff], "longer than the 1048576 allowed"),
        (&damaged(), "could not decode the frame"),
    ];
    for (bytes, reason) in cases {
        let (nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
        peer.send_raw(bytes).await;
        // The nucleus keeps its side open: the client must not wait for more.
        peer.closed_by_client().await;
        recovers(&nucleus, &client, reason).await;
    }
}

#[tokio::test]
async fn messages_that_are_out_of_place() {
    let cases = [
        (Message::new(MessageKind::ConnectAck, 0), "kind ConnectAck"),
        (Message::new(MessageKind::Connect, 0), "kind Connect"),
        (
            Message::new(MessageKind::ProtocolError, 0).with_payload("bad id"),
            "ProtocolError: bad id",
        ),
        (Message::new(MessageKind::InternalError, 0), "InternalError"),
    ];
    for (message, reason) in cases {
        let (nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
        peer.send(&message).await;
        peer.closed_by_client().await;
        recovers(&nucleus, &client, reason).await;
    }
}

#[tokio::test]
async fn half_a_frame_and_the_end() {
    let (nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let frame = encode(&Message::new(MessageKind::ApplicationMessage, 1).with_json("{}")).unwrap();
    peer.send_raw(&frame[..frame.len() / 2]).await;
    drop(peer);
    recovers(&nucleus, &client, "closed the connection").await;
}

#[tokio::test]
async fn half_a_frame_and_silence() {
    let (nucleus, client, mut peer) =
        Nucleus::with_client(|options| options.stall_timeout = Duration::from_millis(200)).await;
    let frame = encode(&Message::new(MessageKind::ApplicationMessage, 1).with_json("{}")).unwrap();
    peer.send_raw(&frame[..frame.len() / 2]).await;
    peer.closed_by_client().await;
    recovers(&nucleus, &client, "half a frame was not completed").await;
}

#[tokio::test]
async fn a_nucleus_that_stops_reading() {
    let (_nucleus, client, mut peer) =
        Nucleus::with_client(|options| options.stall_timeout = Duration::from_millis(300)).await;
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                client
                    .request_json("Big", json!({ "filler": "x".repeat(9_000) }))
                    .await
            })
        })
        .collect();
    // It goes on talking, so it is not silent.
    let talk = async {
        let event = Message::new(MessageKind::ApplicationMessage, 99).with_json("{}");
        let event = encode(&event).unwrap();
        while peer.try_send_raw(&event).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = last_error(&client, "half a frame was not completed") => {}
        // The client may close the connection while it is being talked to.
        () = talk => last_error(&client, "half a frame was not completed").await,
    }
    for call in calls {
        call.abort();
    }
}

#[tokio::test]
async fn harmless_surprises_are_no_violations() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    for surprise in [
        Message::new(MessageKind::Ping, 0),
        Message::new(MessageKind::PingResponse, 0),
        Message::new(MessageKind::ApplicationMessage, 99).with_json("{}"),
        Message::new(MessageKind::ApplicationError, -1),
    ] {
        peer.send(&surprise).await;
    }
    let serve = async {
        let request = peer.request("GetConfiguration").await;
        assert_eq!(
            request.stream_id, 1,
            "nothing was sent in answer to the surprises"
        );
        peer.answer(&request, "{}").await;
    };
    let call = client.request_json("GetConfiguration", json!({}));
    within("a call", async { tokio::join!(call, serve) })
        .await
        .0
        .unwrap();
}

#[tokio::test]
async fn a_frame_that_drips_is_not_waited_for() {
    let (nucleus, client, mut peer) =
        Nucleus::with_client(|options| options.stall_timeout = Duration::from_millis(400)).await;
    let frame =
        encode(&Message::new(MessageKind::ApplicationMessage, 1).with_payload(vec![b' '; 4_000])).unwrap();
    // Each byte comes well within the limit, the whole frame never does.
    let drip = async {
        for byte in frame.chunks(1) {
            if peer.try_send_raw(byte).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the client took the whole frame");
    };
    within("the end of the connection", drip).await;
    recovers(&nucleus, &client, "half a frame was not completed").await;
}

#[tokio::test]
async fn frames_that_follow_each_other_closely_are_no_stall() {
    let (_nucleus, client, mut peer) =
        Nucleus::with_client(|options| options.stall_timeout = Duration::from_secs(1)).await;
    let frame = encode(&Message::new(MessageKind::ApplicationMessage, 99).with_json("{}")).unwrap();
    let (head, tail) = frame.split_at(20);
    peer.send_raw(head).await;
    // There is half a frame all the time, for three times the limit, but never the same one.
    for _ in 0..24 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        peer.send_raw(&[tail, head].concat()).await;
    }
    peer.send_raw(tail).await;
    assert_eq!(connected(&client).await, 1);
}

#[tokio::test]
async fn a_nucleus_that_takes_requests_and_says_nothing() {
    let (nucleus, client, mut peer) =
        Nucleus::with_client(|options| options.stall_timeout = Duration::from_millis(300)).await;
    let call = client.request_json("GetConfiguration", json!({}));
    let lost = within("the end of the call", call).await.unwrap_err();
    assert!(matches!(lost, IpcError::ConnectionLost { .. }), "{lost:?}");
    peer.request("GetConfiguration").await;
    peer.closed_by_client().await;
    recovers(&nucleus, &client, "nothing at all came for 300ms").await;
}

#[tokio::test]
async fn an_idle_nucleus_and_a_slow_one_are_kept() {
    let (_nucleus, client, mut peer) =
        Nucleus::with_client(|options| options.stall_timeout = Duration::from_secs(1)).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let call = client.request_json("GetConfiguration", json!({}));
    let serve = async {
        let request = peer.request("GetConfiguration").await;
        // Slower than the limit, but not silent.
        for _ in 0..15 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            peer.event(99, "a/b", "aGk=").await;
        }
        peer.answer(&request, "{}").await;
    };
    let (answer, ()) = within("a call", async { tokio::join!(call, serve) }).await;
    answer.unwrap();
    assert_eq!(connected(&client).await, 1);
}

#[tokio::test]
async fn limits_beyond_all_time_are_no_overflow() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|options| {
        options.request_timeout = Duration::MAX;
        options.stall_timeout = Duration::MAX;
        options.handshake_timeout = Duration::MAX;
    })
    .await;
    let serve = async {
        let request = peer.request("GetConfiguration").await;
        let frame = encode(&crate::support::response(&request, "{}")).unwrap();
        peer.send_raw(&frame[..20]).await;
        peer.send_raw(&frame[20..]).await;
    };
    let call = client.request_json("GetConfiguration", json!({}));
    within("a call", async { tokio::join!(call, serve) })
        .await
        .0
        .unwrap();
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "stands for the freezer of a paused component"
)]
async fn a_process_that_was_paused_beyond_every_limit_finds_its_answer() {
    let (_nucleus, client, mut peer) =
        Nucleus::with_client(|options| options.stall_timeout = Duration::from_millis(300)).await;
    for _ in 0..5 {
        let serve = async {
            let request = peer.request("GetConfiguration").await;
            let frame = encode(&crate::support::response(&request, "{}")).unwrap();
            let (head, tail) = frame.split_at(20);
            peer.send_raw(head).await;
            // Time for the client to take it, so that half a frame waits.
            tokio::time::sleep(Duration::from_millis(20)).await;
            // Nothing of this process goes on meanwhile, and at the end both the bytes and the limits are there.
            std::thread::sleep(Duration::from_millis(400));
            peer.send_raw(tail).await;
        };
        let call = client.request_json("GetConfiguration", json!({}));
        let (answer, ()) = within("a call", async { tokio::join!(call, serve) }).await;
        answer.unwrap();
    }
    assert_eq!(connected(&client).await, 1);
}
