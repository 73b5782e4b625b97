//! The control socket's agent side.
//!
//! In: requests of root (or of the agent's own user). Out: answers. Bounded: one request a connection, a few
//! connections at once, a few seconds each, so that a local process cannot hold the agent up.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::operator::{self, check_reason};
use super::socket_list;
use crate::agent::board::Board;
use crate::agent::enforcement::Enforcement;
use crate::agent::enforcer::Command;
use crate::agent::observer::Observer;
use crate::agent::reporter::questions::Desk;
use crate::control::connections::{ConnectionList, Query};
use crate::control::protocol::{Answer, MAX_ORDER_REQUEST, MAX_REQUEST, Request};
use crate::control::status::CaptureStatus;
use crate::host::{clock, files};
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::{Authority, Order};

/// Connections served at once.
const MAX_CONNECTIONS: usize = 8;
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a status waits for a fresh look at the kernel.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// Serves for ever.
#[derive(Clone)]
pub(crate) struct Server {
    /// Where to listen.
    pub socket: PathBuf,
    /// Status.
    pub board: Board,
    /// Orders.
    pub enforcer: Enforcement,
    /// Traffic.
    pub observer: Arc<Observer>,
    /// Reports.
    pub reports: Desk,
}

impl Server {
    /// Runs until it is dropped. A socket that cannot be made is tried again: the agent is more than its CLI.
    pub(crate) async fn run(self) {
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
            // Only root's may be long: others are here when the agent itself is not root.
            let limit = if user == 0 { MAX_ORDER_REQUEST } else { MAX_REQUEST };
            let mut line = String::new();
            BufReader::new(read.take(limit)).read_line(&mut line).await?;
            match beside(move || read_request(&line, limit)).await {
                Ok(request) => self.answer(request).await,
                Err(problem) => line_of(&Answer::<Value>::Error(problem)),
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
        let made = beside(move || Ok(line_of(&make(&observer)))).await;
        made.unwrap_or_else(|problem| line_of(&Answer::<Value>::Error(problem)))
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
            } => {
                let order = operator::isolate(&reason, expires_seconds, clock::now().wall);
                self.order(order).await
            }
            Request::Order {
                order,
                reason,
                expires_seconds,
            } => {
                let now = clock::now().wall;
                let read = move || operator::order(&order, reason.as_deref(), expires_seconds, now);
                self.order(beside(read).await).await
            }
            Request::Plan { order } => return self.plan(order).await,
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

    async fn order(&self, order: Result<Box<Order>, String>) -> Answer {
        match order {
            Ok(order) => self.wish(Wish::Order(order)).await,
            Err(problem) => Answer::Error(problem),
        }
    }

    async fn plan(&self, order: Option<Value>) -> String {
        let now = clock::now().wall;
        let read = move || order.map(|order| operator::read_order(&order, now)).transpose();
        let shown = match beside(read).await {
            Ok(order) => self.enforcer.plan(order).await.ok_or_else(stopping),
            Err(problem) => Err(problem),
        };
        let line = beside(move || Ok(line_of(&shown.map_or_else(Answer::Error, Answer::Ok)))).await;
        line.unwrap_or_else(|problem| line_of(&Answer::<Value>::Error(problem)))
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
            None => Answer::Error(stopping()),
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

fn stopping() -> String {
    "the agent is stopping".to_owned()
}

/// Work that may take a while, off the thread that decides: a long order is read in some tens of milliseconds.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(format!("no answer could be made: {error}")))
}

/// `limit` is what was read at most.
fn read_request(line: &str, limit: u64) -> Result<Request, String> {
    let length = line.len() as u64;
    let too_long = |limit| Err(format!("the request is longer than {limit} bytes"));
    if length >= limit && !line.ends_with('\n') {
        return too_long(limit);
    }
    let request: Request =
        serde_json::from_str(line).map_err(|error| format!("the request cannot be read: {error}"))?;
    if length > MAX_REQUEST && !request.carries_order() {
        return too_long(MAX_REQUEST);
    }
    Ok(request)
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
