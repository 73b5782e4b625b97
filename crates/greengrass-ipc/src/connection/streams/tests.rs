//! Unit tests of the tables: limits, ids, and when a renewal is due.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::connection::reply::{ReplyReceiver, reply_channel};
use crate::frame::Decoder;
use crate::queue::Queue;

const TIMEOUT: Duration = Duration::from_secs(7);
const SILENCE: Duration = Duration::from_secs(11);

fn command(queue: Option<Arc<Queue>>) -> (Command, ReplyReceiver) {
    let message = Message::new(MessageKind::ApplicationMessage, 0).with_operation("aws.greengrass#Op");
    let (reply, answer) = reply_channel();
    (
        Command {
            operation: "Op".into(),
            message,
            queue,
            reply,
        },
        answer,
    )
}

fn start(streams: &mut Streams, queue: Option<Arc<Queue>>, out: &mut BytesMut) -> ReplyReceiver {
    let (command, answer) = command(queue);
    streams.start(command, Instant::now(), out);
    answer
}

async fn next(queue: &Queue) -> Option<crate::queue::Delivery> {
    std::future::poll_fn(|context| queue.poll_next(context)).await
}

fn queue() -> Arc<Queue> {
    Arc::new(Queue::new(4, 1000))
}

fn sent(out: &mut BytesMut) -> Vec<Message> {
    let mut decoder = Decoder::new(10_012);
    decoder.push(&out.split());
    std::iter::from_fn(|| decoder.next().unwrap()).collect()
}

fn answer_to(id: i32) -> Message {
    Message::new(MessageKind::ApplicationMessage, id).with_service_model_type("aws.greengrass#OpResponse")
}

fn busy(answer: &mut ReplyReceiver) -> Option<usize> {
    match answer.try_answer() {
        Some(Err(IpcError::Busy { limit, .. })) => Some(limit),
        _ => None,
    }
}

#[tokio::test]
async fn calls_nobody_waits_for_make_room_and_others_do_not() {
    let (mut streams, mut out) = (Streams::new(TIMEOUT, SILENCE), BytesMut::new());
    let mut waiting: Vec<ReplyReceiver> = (0..MAX_STREAMS)
        .map(|_| start(&mut streams, None, &mut out))
        .collect();
    let mut refused = start(&mut streams, None, &mut out);
    assert_eq!(busy(&mut refused), Some(MAX_STREAMS));
    assert_eq!(sent(&mut out).len(), MAX_STREAMS);

    drop(waiting.pop());
    let mut accepted = start(&mut streams, None, &mut out);
    assert_eq!(busy(&mut accepted), None);
    let ids: Vec<i32> = sent(&mut out).iter().map(|message| message.stream_id).collect();
    assert_eq!(ids, [1025], "the refused request used no id");
}

#[tokio::test]
async fn subscriptions_have_a_limit_of_their_own() {
    let (mut streams, mut out) = (Streams::new(TIMEOUT, SILENCE), BytesMut::new());
    let waiting: Vec<ReplyReceiver> = (0..MAX_SUBSCRIPTIONS)
        .map(|_| start(&mut streams, Some(queue()), &mut out))
        .collect();
    assert_eq!(
        busy(&mut start(&mut streams, Some(queue()), &mut out)),
        Some(MAX_SUBSCRIPTIONS)
    );
    assert_eq!(
        busy(&mut start(&mut streams, None, &mut out)),
        None,
        "calls go on"
    );
    drop(waiting);
}

#[tokio::test]
async fn a_request_given_up_or_not_encodable_uses_no_id() {
    let (mut streams, mut out) = (Streams::new(TIMEOUT, SILENCE), BytesMut::new());
    drop(start(&mut streams, None, &mut out));
    let (given_up, answer) = command(None);
    drop(answer);
    streams.start(given_up, Instant::now(), &mut out);
    let (mut too_long, mut answer) = command(None);
    too_long.message.operation = Some("x".repeat(40_000));
    streams.start(too_long, Instant::now(), &mut out);
    assert!(matches!(answer.try_answer(), Some(Err(IpcError::Encode { .. }))));
    drop(start(&mut streams, None, &mut out));
    let ids: Vec<i32> = sent(&mut out).iter().map(|message| message.stream_id).collect();
    assert_eq!(ids, [1, 2]);
}

#[tokio::test]
async fn the_connection_is_renewed_before_ids_run_out() {
    let mut streams = Streams::new(TIMEOUT, SILENCE);
    streams.next_id = i32::MAX - RESERVED_IDS;
    assert!(streams.exhausted().is_none());
    drop(start(&mut streams, None, &mut BytesMut::new()));
    assert!(matches!(streams.exhausted(), Some(ConnectionEnd::OutOfIds)));
    streams.connection_lost("test", Instant::now());
    assert!(streams.exhausted().is_none());
}

#[tokio::test]
async fn a_refused_renewal_waits_for_its_time() {
    let (mut streams, mut out, now) = (Streams::new(TIMEOUT, SILENCE), BytesMut::new(), Instant::now());
    let mut first = start(&mut streams, Some(queue()), &mut out);
    streams.receive(answer_to(1), now, &mut out).unwrap();
    assert!(matches!(first.try_answer(), Some(Ok(_))));
    assert_eq!(
        streams.deadline(),
        None,
        "a standing subscription waits for nothing"
    );

    streams.connection_lost("test", now);
    sent(&mut out);
    streams.settle(now, &mut out);
    assert_eq!(sent(&mut out).len(), 1, "renewed at once");
    assert_eq!(streams.deadline(), Some(now + TIMEOUT));

    let refusal = Message::new(MessageKind::ApplicationError, 1).with_flags(TERMINATE_STREAM);
    streams.receive(refusal, now, &mut out).unwrap();
    let due = streams.deadline().unwrap();
    assert!(due >= now + Duration::from_millis(200) && due <= now + Duration::from_millis(400));
    streams.settle(due - Duration::from_millis(1), &mut out);
    assert!(out.is_empty(), "not before its time");
    streams.settle(due, &mut out);
    assert_eq!(sent(&mut out).len(), 1);
}

#[tokio::test]
async fn a_subscription_that_stands_when_its_caller_has_gone_is_ended() {
    let (mut streams, mut out) = (Streams::new(TIMEOUT, SILENCE), BytesMut::new());
    drop(start(&mut streams, Some(queue()), &mut out));
    sent(&mut out);
    streams.receive(answer_to(1), Instant::now(), &mut out).unwrap();
    let end = Message::new(MessageKind::ApplicationMessage, 1).with_flags(TERMINATE_STREAM);
    assert_eq!(sent(&mut out), [end]);
    assert!(streams.subscriptions.is_empty() && streams.routes.is_empty());
}

#[tokio::test]
async fn a_message_without_a_shape_is_the_answer_while_one_is_awaited_and_an_event_later() {
    let (mut streams, mut out, now) = (Streams::new(TIMEOUT, SILENCE), BytesMut::new(), Instant::now());
    let queue = queue();
    let mut first = start(&mut streams, Some(Arc::clone(&queue)), &mut out);
    let nameless = Message::new(MessageKind::ApplicationMessage, 1).with_json("{}");
    streams.receive(nameless.clone(), now, &mut out).unwrap();
    assert!(matches!(first.try_answer(), Some(Ok(_))));
    streams.receive(nameless, now, &mut out).unwrap();
    drop(streams);
    assert!(matches!(
        next(&queue).await,
        Some(crate::queue::Delivery::Event(_))
    ));
    assert_eq!(
        next(&queue).await,
        None,
        "the end of the connection task ends the subscription"
    );
}

#[tokio::test]
async fn open_calls_and_silence_end_the_connection_and_open_subscriptions_do_not() {
    let (mut streams, mut out, start_of_all) =
        (Streams::new(TIMEOUT, SILENCE), BytesMut::new(), Instant::now());
    drop(start(&mut streams, Some(queue()), &mut out));
    let much_later = start_of_all + SILENCE * 100;
    assert!(streams.silence(much_later).is_none() && streams.deadline().is_none());

    let (call, _answer) = command(None);
    streams.start(call, much_later, &mut out);
    assert_eq!(streams.deadline(), Some(much_later + SILENCE));
    let heard = much_later + SILENCE - Duration::from_millis(1);
    streams.receive(answer_to(77), heard, &mut out).unwrap();
    assert!(
        streams.silence(much_later + SILENCE).is_none(),
        "heard in between"
    );
    assert!(matches!(
        streams.silence(heard + SILENCE),
        Some(ConnectionEnd::Silent { after: SILENCE })
    ));
    streams.receive(answer_to(2), heard, &mut out).unwrap();
    assert!(streams.silence(heard + SILENCE).is_none(), "no call is open");
}

#[tokio::test]
async fn unanswered_renewals_come_ever_later_and_too_many_end_the_connection() {
    let (mut streams, mut out) = (Streams::new(TIMEOUT, SILENCE), BytesMut::new());
    let mut now = Instant::now();
    let _first = start(&mut streams, Some(queue()), &mut out);
    streams.receive(answer_to(1), now, &mut out).unwrap();
    streams.connection_lost("test", now);
    sent(&mut out);
    let mut waits = Vec::new();
    while streams.exhausted().is_none() {
        streams.settle(now, &mut out);
        if !sent(&mut out).is_empty() {
            waits.push(streams.deadline().unwrap() - now);
        }
        now = streams.deadline().unwrap();
    }
    assert_eq!(waits[..6], [1, 2, 4, 8, 16, 16].map(|times| TIMEOUT * times));
    assert_eq!(waits.len(), MAX_ORPHANS + 1);
    assert!(matches!(
        streams.exhausted(),
        Some(ConnectionEnd::Unanswered { .. })
    ));

    // Whatever the number of those, a late answer still ends what nobody wants.
    streams.receive(answer_to(3), now, &mut out).unwrap();
    let end = Message::new(MessageKind::ApplicationMessage, 3).with_flags(TERMINATE_STREAM);
    assert_eq!(sent(&mut out), [end]);
    assert!(streams.exhausted().is_none());
}
