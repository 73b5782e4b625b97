//! The control socket's agent side.
//!
//! In: requests of root (or of the agent's own user). Out: answers. Bounded: one request a connection, a few seconds each, and
//! as many at once as [`super::crowd`] has places for, so that a local process cannot hold the agent up, nor keep others from
//! being heard. Deliberately absent: what is answered ([`super::answers`]).

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::SemaphorePermit;

use super::answers::Answers;
use super::aside::Aside;
use super::crowd::{Asked, Lanes, SilentClients, Welcome};
use crate::agent::board::Board;
use crate::agent::enforcement::Enforcement;
use crate::agent::observer::Observer;
use crate::agent::reporter::questions::ReportDesk;
use crate::control::protocol::{Ask, IncomingRequest, LineForm, MAX_REQUEST, answer_line, read_request};
use crate::control::question::{ReportRequest, Request};
use crate::host::files;
use crate::host::spare::Spare;
use crate::host::turns::timed;
use crate::{error_text, lock};

/// How long one may be there without having asked.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(1);
/// From one look to the next whether the socket's file is still there.
const CHECK: Duration = Duration::from_secs(2);
/// From one refused client to the next try.
const REFUSED: Duration = Duration::from_millis(100);
/// Refusals in a row before one is sent away who has not asked: who asks does so within a moment.
const PATIENCE: u32 = 2;
/// From one try to the next to have a descriptor to spare again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long one may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Answers whoever asks at the control socket.
#[derive(Clone)]
pub(crate) struct Server {
    /// Where to listen.
    pub socket: PathBuf,
    /// What every task last said about itself.
    pub board: Board,
    /// Takes the operator's orders, says what is enforced.
    pub enforcer: Enforcement,
    /// Knows the running interval.
    pub observer: Arc<Observer>,
    /// Where questions about reports are asked.
    pub reports: ReportDesk,
    /// Reads and writes long lines: some tens of milliseconds for a long order, never more. The way out is not behind what hangs.
    pub lines: Aside,
    /// Makes lists, which take as long as the machine has sockets and processes.
    pub lists: Aside,
    /// For a client who comes when all descriptors are used.
    pub spare: Arc<Mutex<Spare>>,
}

/// What a look for the socket's file has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SocketFile {
    /// The number that its file system has for it.
    There(u64),
    Gone,
    /// It could not be looked at.
    Unknown,
}

impl Server {
    /// Runs until it is dropped. A socket that cannot be made is tried again: the agent is more than its CLI.
    pub(crate) async fn run(self) {
        let server = Arc::new(self);
        let mut warned = false;
        loop {
            match server.listen().await {
                Ok(listener) => {
                    let file = server.file().await;
                    Arc::clone(&server).accept(listener, file).await;
                    tracing::warn!("the file of the control socket was taken away: it is made anew");
                    continue;
                }
                Err(error) if !warned => {
                    tracing::warn!("no control socket: {error}");
                    warned = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(LIMIT).await;
        }
    }

    /// Makes the socket, where its file system answers.
    async fn listen(&self) -> Result<UnixListener, String> {
        let socket = self.socket.clone();
        let made = self.lines.run(move || make_socket(&socket)).await?;
        UnixListener::from_std(made).map_err(|error| error.to_string())
    }

    /// Looks which file the socket is.
    async fn file(&self) -> SocketFile {
        let socket = self.socket.clone();
        let look = move || {
            Ok(match std::fs::symlink_metadata(&socket) {
                Ok(file) => SocketFile::There(file.ino()),
                Err(error) if error.kind() == ErrorKind::NotFound => SocketFile::Gone,
                Err(_) => SocketFile::Unknown,
            })
        };
        self.lines.run(look).await.unwrap_or(SocketFile::Unknown)
    }

    /// Serves until that file is gone. All are taken in at once: who is in the kernel's queue is not heard.
    async fn accept(self: Arc<Self>, listener: UnixListener, file: SocketFile) {
        let lanes = Arc::new(Lanes::default());
        let mut silent = SilentClients::default();
        let gone = self.gone(file);
        tokio::pin!(gone);
        let mut refused = 0_u32;
        loop {
            lock(&self.spare).keep();
            let is_wanted = lock(&self.spare).is_wanted();
            let accepted = tokio::select! {
                () = &mut gone => return,
                accepted = listener.accept() => accepted,
                // The client who had it has gone by then, or others have.
                () = tokio::time::sleep(AGAIN), if is_wanted => continue,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) if lock(&self.spare).make_room(&error) => continue,
                Err(_) => {
                    // Out of descriptors, for instance; others will be freed. The kernel says so also where nobody waits, so
                    // whoever was taken in last may ask first.
                    if refused >= PATIENCE {
                        silent.send_one_away();
                    }
                    refused = refused.saturating_add(1);
                    tokio::time::sleep(REFUSED).await;
                    continue;
                }
            };
            lock(&self.spare).took_in();
            refused = 0;
            let (server, lanes, welcome) = (Arc::clone(&self), Arc::clone(&lanes), silent.welcome());
            let serve = async move {
                let _ = tokio::time::timeout(LIMIT, server.serve(stream, welcome, &lanes)).await;
            };
            tokio::spawn(timed("a control connection", Box::pin(serve)));
            // Whoever has asked already is heard before more are taken in.
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the socket is another file, or none. A look that fails says nothing: without a thread for it, or on a file
    /// system that hangs, clients are still heard.
    async fn gone(&self, mut file: SocketFile) {
        loop {
            tokio::time::sleep(CHECK).await;
            match (file, self.file().await) {
                (_, SocketFile::Unknown) => {}
                (SocketFile::Unknown, found) => file = found,
                (known, found) if known != found => return,
                _ => {}
            }
        }
    }

    async fn serve(&self, stream: UnixStream, welcome: Welcome, lanes: &Lanes) -> std::io::Result<()> {
        let user = stream.peer_cred()?.uid();
        let (read, mut write) = stream.into_split();
        let mut place = None;
        let line = if user == 0 || user == nix::unistd::geteuid().as_raw() {
            // Only root's may be long: others are here when the agent itself is not root.
            match lanes.read(read, welcome, user == 0).await {
                None => return Ok(()),
                Some(Ok(asked)) => self.answer_to(asked, lanes, &mut place).await,
                Some(Err(problem)) => Err(problem),
            }
        } else {
            // Nothing of a stranger's is read, not even which form they know.
            Err("only root may ask the agent".to_owned())
        };
        let line = line.or_else(|problem| answer_line(LineForm::Numbered, &Err::<(), _>(problem)))?;
        let written = write.write_all(line.as_bytes()).await;
        // Until then: what nobody reads takes memory too.
        drop(place);
        written
    }

    /// The line of the answer. Reading a long order takes some tens of milliseconds, writing a long answer no less: both
    /// are done beside the thread that decides. What is short is not, so that the way out waits for no thread.
    async fn answer_to<'l>(
        &self,
        asked: Asked<'_>,
        lanes: &'l Lanes,
        place: &mut Option<SemaphorePermit<'l>>,
    ) -> Result<String, String> {
        let Asked { line, limit, .. } = asked;
        let IncomingRequest { form, request } = if line.len() as u64 <= MAX_REQUEST {
            read_request(&line, limit)
        } else {
            self.lines.run(move || Ok(read_request(&line, limit))).await?
        };
        *place = match &request {
            Ok(Request::Pulse(_)) | Err(_) => None,
            Ok(Request::Release(_) | Request::Isolate(_) | Request::Order(_)) => {
                Some(lanes.instruction().await?)
            }
            Ok(_) => Some(lanes.question().await?),
        };
        match request {
            Ok(Request::Pulse(question)) => self.short_line(form, question).await,
            Ok(Request::Status(question)) => self.short_line(form, question).await,
            Ok(Request::Release(question)) => self.short_line(form, question).await,
            Ok(Request::Isolate(question)) => self.short_line(form, question).await,
            Ok(Request::Order(question)) => self.short_line(form, question).await,
            Ok(Request::Traffic(question)) => self.line(form, question).await,
            Ok(Request::Sockets(question)) => self.line(form, question).await,
            Ok(Request::Report(ReportRequest::Show(question))) => self.line(form, question).await,
            Ok(Request::Report(ReportRequest::Last(question))) => self.line(form, question).await,
            Ok(Request::Report(ReportRequest::Send(question))) => self.line(form, question).await,
            Ok(Request::Report(ReportRequest::Metrics(question))) => self.line(form, question).await,
            Ok(Request::Plan(question)) => self.line(form, question).await,
            Err(problem) => written(form, &Err::<(), _>(problem)),
        }
    }

    /// An answer whose length has a bound that is written in a moment.
    async fn short_line<Q: Ask>(&self, form: LineForm, question: Q) -> Result<String, String>
    where
        Self: Answers<Q>,
    {
        written(form, &self.answer(question).await)
    }

    async fn line<Q: Ask>(&self, form: LineForm, question: Q) -> Result<String, String>
    where
        Self: Answers<Q>,
        Q::Answer: Send + 'static,
    {
        let answer = self.answer(question).await;
        // Boxed: one way to the other thread for every answer.
        let write: Box<dyn FnOnce() -> Result<String, String> + Send> =
            Box::new(move || written(form, &answer));
        self.lines.run(write).await
    }
}

fn written<T: Serialize>(form: LineForm, answer: &Result<T, String>) -> Result<String, String> {
    answer_line(form, answer).map_err(|error| error.to_string())
}

fn make_socket(socket: &Path) -> Result<StdListener, String> {
    if let Some(directory) = socket.parent() {
        files::make_directory(directory).map_err(|error| error_text(&error))?;
    }
    // A socket left by an agent that was killed.
    files::remove(socket).map_err(|error| error_text(&error))?;
    let failed = |error: std::io::Error| format!("{}: {error}", socket.display());
    let listener = StdListener::bind(socket).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}
