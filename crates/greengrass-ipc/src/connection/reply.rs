//! The way of an answer back to its caller, and what a caller who gives up may say about it.
//!
//! In: the connection task says when it takes the request and what the answer is. Out: to the caller, the answer, or
//! whether the request may have been sent. Both sides may act at the same moment: either the task sees that the caller
//! is gone and sends nothing, or the caller learns that the request was taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::IpcError;

type Answer = Result<Bytes, IpcError>;

/// The connection task's end.
#[derive(Debug)]
pub(crate) struct ReplySender {
    sender: oneshot::Sender<Answer>,
    taken: Arc<AtomicBool>,
}

/// The caller's end.
#[derive(Debug)]
pub(crate) struct ReplyReceiver {
    receiver: oneshot::Receiver<Answer>,
    taken: Arc<AtomicBool>,
}

/// Both ends of one reply.
pub(crate) fn reply_channel() -> (ReplySender, ReplyReceiver) {
    let (sender, receiver) = oneshot::channel();
    let taken = Arc::new(AtomicBool::new(false));
    let reply = ReplySender {
        sender,
        taken: Arc::clone(&taken),
    };
    (reply, ReplyReceiver { receiver, taken })
}

impl ReplySender {
    /// Called before the request is sent. False: the caller has given up, and nothing may be sent.
    pub(super) fn take(&self) -> bool {
        self.taken.store(true, Ordering::SeqCst);
        !self.is_given_up()
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.sender.is_closed()
    }

    /// Answers the caller. False when it has given up.
    pub(super) fn answer(self, answer: Answer) -> bool {
        self.sender.send(answer).is_ok()
    }
}

impl ReplyReceiver {
    /// The answer; `None` when the connection task is gone. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> Option<Answer> {
        (&mut self.receiver).await.ok()
    }

    #[cfg(test)]
    pub(super) fn try_answer(&mut self) -> Option<Answer> {
        self.receiver.try_recv().ok()
    }

    /// Gives up. True when the request may have been sent.
    pub(crate) fn give_up(&mut self) -> bool {
        self.receiver.close();
        self.taken.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_up_first_is_never_sent_and_who_is_taken_first_is_told() {
        let (reply, mut receiver) = reply_channel();
        assert!(!receiver.give_up() && !reply.take());

        let (reply, mut receiver) = reply_channel();
        assert!(reply.take() && receiver.give_up());
        assert!(!reply.answer(Ok(Bytes::new())));
    }

    #[test]
    fn at_the_same_moment_a_request_is_never_both_sent_and_called_unsent() {
        for _ in 0..2_000 {
            let (reply, mut receiver) = reply_channel();
            let task = std::thread::spawn(move || reply.take());
            let may_be_sent = receiver.give_up();
            assert!(may_be_sent || !task.join().unwrap());
        }
    }
}
