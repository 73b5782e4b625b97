//! The control socket's agent side.
//!
//! In: requests of root (or of the agent's own user). Out: answers. Bounded: one request a connection, a few
//! connections at once, a few seconds each, so that a local process cannot hold the agent up.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::connections::{ConnectionList, Query};
use super::protocol::{Answer, MAX_REASON, MAX_REQUEST, Request};
use super::socket_list;
use crate::agent::board::{Board, CaptureStatus};
use crate::agent::enforcer::{Command, Handle};
use crate::agent::reporter::desk::Desk;
use crate::host::{clock, files};
use crate::observe::Observer;
use crate::quarantine::order::{Authority, Order};
use crate::quarantine::order_document::Wish;

/// Connections served at once.
const MAX_CONNECTIONS: usize = 8;
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a status waits for a fresh look at the kernel.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// Longest self-ending quarantine that can be asked for: a year.
const MAX_SECONDS: u64 = 366 * 86_400;

/// Serves for ever.
pub struct Server {
    /// Where to listen.
    pub socket: PathBuf,
    /// Status.
    pub board: Board,
    /// Orders.
    pub enforcer: Handle,
    /// Traffic.
    pub observer: Arc<Observer>,
    /// Reports.
    pub reports: Desk,
}

impl Server {
    /// Runs until it is dropped. A socket that cannot be made is tried again: the agent is more than its CLI.
    pub async fn run(self) {
        let server = Arc::new(self);
        let mut warned = false;
        loop {
            match listen(&server.socket) {
                Ok(listener) => Arc::clone(&server).accept(listener).await,
                Err(error) if !warned => {
                    tracing::warn!("no control socket: {error}");
                    warned = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(LIMIT).await;
        }
    }

    async fn accept(self: Arc<Self>, listener: UnixListener) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, for instance; others will be freed.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                let _ = tokio::time::timeout(LIMIT, server.serve(stream)).await;
                drop(place);
            });
        }
    }

    async fn serve(&self, stream: UnixStream) -> std::io::Result<()> {
        let user = stream.peer_cred()?.uid();
        let (read, mut write) = stream.into_split();
        let text = if user == 0 || user == nix::unistd::geteuid().as_raw() {
            let mut line = String::new();
            BufReader::new(read.take(MAX_REQUEST))
                .read_line(&mut line)
                .await?;
            match serde_json::from_str::<Request>(&line) {
                Ok(request) => self.answer(request).await,
                Err(error) => line_of(&Answer::<Value>::Error(format!(
                    "the request cannot be read: {error}"
                ))),
            }
        } else {
            line_of(&Answer::<Value>::Error("only root may ask the agent".into()))
        };
        write.write_all(text.as_bytes()).await
    }

    /// An answer that takes a while to make, made beside the thread that decides.
    async fn aside<T: Serialize>(
        &self,
        make: impl FnOnce(&Observer) -> Answer<T> + Send + 'static,
    ) -> String {
        let observer = Arc::clone(&self.observer);
        let made = tokio::task::spawn_blocking(move || line_of(&make(&observer))).await;
        made.unwrap_or_else(|error| {
            line_of(&Answer::<Value>::Error(format!(
                "no answer could be made: {error}"
            )))
        })
    }

    /// The answer as a line.
    async fn answer(&self, request: Request) -> String {
        let answer = match request {
            Request::Top => {
                let look =
                    |observer: &Observer| to_answer(serde_json::to_value(observer.peek(clock::now().wall)));
                return self.aside(look).await;
            }
            Request::Connections { query } => {
                return self.aside(move |observer| connections(observer, &query)).await;
            }
            Request::Status => {
                // Fresh counters; a packet filter that hangs must not keep anybody from seeing the rest.
                let look = self.enforcer.ask(Command::Look);
                let _stale = tokio::time::timeout(LOOK_LIMIT, look).await;
                self.status()
            }
            Request::Report { question } => match self.reports.ask(question).await {
                Ok(value) => Answer::Ok(value),
                Err(problem) => Answer::Error(problem),
            },
            Request::Quarantine {
                reason,
                expires_seconds,
            } => match quarantine(&reason, expires_seconds) {
                Ok(wish) => self.wish(wish).await,
                Err(problem) => Answer::Error(problem),
            },
            Request::Release {
                everything: false, ..
            } => self.wish(Wish::Release).await,
            Request::Release {
                everything: true,
                reason,
            } => match reason.map(|reason| check_reason(&reason)) {
                Some(Ok(reason)) => self.instruct(Command::Override { reason }).await,
                Some(Err(problem)) => Answer::Error(problem),
                None => Answer::Error("ending every order needs a reason: the cloud is told".into()),
            },
        };
        line_of(&answer)
    }

    async fn wish(&self, wish: Wish) -> Answer {
        self.instruct(Command::Wish {
            authority: Authority::Operator,
            wish: Ok(wish),
        })
        .await
    }

    async fn instruct(&self, command: Command) -> Answer {
        match self.enforcer.ask(command).await {
            Some(_) => self.status(),
            None => Answer::Error("the agent is stopping".into()),
        }
    }

    fn status(&self) -> Answer {
        let state = self.enforcer.state().borrow().clone();
        let capture = self.observer.status();
        self.board.update(|status| {
            status.enforcement = state;
            status.capture = CaptureStatus {
                receiver: capture.receiver.map(|receiver| receiver.name().to_owned()),
                lost_frames: capture.lost_frames,
                faults: capture.faults(),
                interfaces: capture.reading().map(str::to_owned).collect(),
            };
        });
        to_answer(serde_json::to_value(self.board.read()))
    }
}

/// Not through a [`Value`], which takes several times the memory.
fn connections(observer: &Observer, query: &Query) -> Answer<ConnectionList> {
    match socket_list::connections(observer, query) {
        Ok(list) => Answer::Ok(list),
        Err(error) => Answer::Error(format!(
            "the open sockets could not be listed: {}",
            crate::error_text(&error)
        )),
    }
}

fn line_of(answer: &Answer<impl Serialize>) -> String {
    let mut text = serde_json::to_string(answer).unwrap_or_default();
    text.push('\n');
    text
}

fn to_answer(value: serde_json::Result<Value>) -> Answer {
    value.map_or_else(|error| Answer::Error(error.to_string()), Answer::Ok)
}

fn check_reason(reason: &str) -> Result<String, String> {
    let reason = reason.trim();
    let plain =
        !reason.is_empty() && reason.chars().count() <= MAX_REASON && !reason.chars().any(char::is_control);
    if plain {
        Ok(reason.to_owned())
    } else {
        Err(format!("a reason has 1 to {MAX_REASON} printable characters"))
    }
}

fn quarantine(reason: &str, expires_seconds: Option<u64>) -> Result<Wish, String> {
    let now = clock::now().wall;
    let mut order = Order::isolate(Authority::Operator, "operator", Some(check_reason(reason)?), now);
    if let Some(seconds) = expires_seconds {
        let whole = i64::try_from(seconds)
            .ok()
            .filter(|_| (1..=MAX_SECONDS).contains(&seconds));
        let whole = whole.ok_or_else(|| format!("a quarantine ends after 1 to {MAX_SECONDS} seconds"))?;
        order.expires = now.checked_add(SignedDuration::from_secs(whole)).ok();
    }
    Ok(Wish::Order(Box::new(order)))
}

fn listen(socket: &Path) -> Result<UnixListener, String> {
    if let Some(directory) = socket.parent() {
        files::make_directory(directory).map_err(|error| crate::error_text(&error))?;
    }
    // A socket left by an agent that was killed.
    files::remove(socket).map_err(|error| crate::error_text(&error))?;
    let failed = |error: std::io::Error| format!("{}: {error}", socket.display());
    let listener = UnixListener::bind(socket).map_err(failed)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}
