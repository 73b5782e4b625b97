//! The control socket's agent side.
//!
//! In: requests of root (or of the agent's own user). Out: answers. Bounded: one request a connection, a few
//! connections at once, a few seconds each, so that a local process cannot hold the agent up. Deliberately absent: what
//! is answered ([`super::answers`]).

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::answers::Answers;
use crate::agent::board::Board;
use crate::agent::enforcement::Enforcement;
use crate::agent::observer::Observer;
use crate::agent::reporter::questions::ReportDesk;
use crate::control::protocol::{
    Ask, IncomingRequest, LineForm, MAX_ORDER_REQUEST, MAX_REQUEST, answer_line, read_request,
};
use crate::control::question::{ReportRequest, Request};
use crate::error_text;
use crate::host::files;
use crate::host::turns::timed;
use crate::host::worker::Worker;

/// Connections served at once.
const MAX_CONNECTIONS: usize = 32;
/// How long one may be there without having asked.
const REQUEST_LIMIT: Duration = Duration::from_secs(1);
/// From one look to the next whether the socket's file is still there.
const CHECK: Duration = Duration::from_secs(2);
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
    /// Reads and writes lines: some tens of milliseconds for a long order, never more. The way out is not behind what hangs.
    pub lines: Worker,
    /// Makes lists, which take as long as the machine has sockets and processes.
    pub lists: Worker,
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
        let made = beside(&self.lines, move || make_socket(&socket)).await?;
        UnixListener::from_std(made).map_err(|error| error.to_string())
    }

    /// Which file the socket is; none when it is gone, or cannot be looked at.
    async fn file(&self) -> Option<u64> {
        let socket = self.socket.clone();
        let look = move || Ok(std::fs::symlink_metadata(&socket).ok().map(|file| file.ino()));
        beside(&self.lines, look).await.ok().flatten()
    }

    /// Serves until that file is gone.
    async fn accept(self: Arc<Self>, listener: UnixListener, file: Option<u64>) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let Ok(accepted) = tokio::time::timeout(CHECK, listener.accept()).await else {
                if self.file().await != file {
                    return;
                }
                continue;
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors, for instance; others will be freed.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let server = Arc::clone(&self);
            let serve = async move {
                let _ = tokio::time::timeout(LIMIT, server.serve(stream)).await;
                drop(place);
            };
            tokio::spawn(timed("a control connection", Box::pin(serve)));
        }
    }

    async fn serve(&self, stream: UnixStream) -> std::io::Result<()> {
        let user = stream.peer_cred()?.uid();
        let (read, mut write) = stream.into_split();
        let line = if user == 0 || user == nix::unistd::geteuid().as_raw() {
            // Only root's may be long: others are here when the agent itself is not root.
            let limit = if user == 0 { MAX_ORDER_REQUEST } else { MAX_REQUEST };
            let mut line = String::new();
            let mut reader = BufReader::new(read.take(limit));
            tokio::time::timeout(REQUEST_LIMIT, reader.read_line(&mut line)).await??;
            self.answer_to(line, limit).await
        } else {
            // Nothing of a stranger's is read, not even which form they know.
            Err("only root may ask the agent".to_owned())
        };
        let line = line.or_else(|problem| answer_line(LineForm::Numbered, &Err::<(), _>(problem)))?;
        write.write_all(line.as_bytes()).await
    }

    /// The line of the answer. Reading a long order takes some tens of milliseconds, writing a long answer no less: both
    /// are done beside the thread that decides.
    async fn answer_to(&self, line: String, limit: u64) -> Result<String, String> {
        let read = move || Ok(read_request(&line, limit));
        let IncomingRequest { form, request } = beside(&self.lines, read).await?;
        match request {
            Ok(Request::Status(question)) => self.line(form, question).await,
            Ok(Request::Traffic(question)) => self.line(form, question).await,
            Ok(Request::Sockets(question)) => self.line(form, question).await,
            Ok(Request::Report(ReportRequest::Show(question))) => self.line(form, question).await,
            Ok(Request::Report(ReportRequest::Last(question))) => self.line(form, question).await,
            Ok(Request::Report(ReportRequest::Send(question))) => self.line(form, question).await,
            Ok(Request::Report(ReportRequest::Metrics(question))) => self.line(form, question).await,
            Ok(Request::Isolate(question)) => self.line(form, question).await,
            Ok(Request::Order(question)) => self.line(form, question).await,
            Ok(Request::Plan(question)) => self.line(form, question).await,
            Ok(Request::Release(question)) => self.line(form, question).await,
            Ok(Request::Pulse(question)) => self.line(form, question).await,
            Err(problem) => self.written(form, Err::<(), _>(problem)).await,
        }
    }

    async fn line<Q: Ask>(&self, form: LineForm, question: Q) -> Result<String, String>
    where
        Self: Answers<Q>,
        Q::Answer: Send + 'static,
    {
        self.written(form, self.answer(question).await).await
    }

    async fn written<T: Serialize + Send + 'static>(
        &self,
        form: LineForm,
        answer: Result<T, String>,
    ) -> Result<String, String> {
        let write = move || answer_line(form, &answer).map_err(|error| error.to_string());
        beside(&self.lines, write).await
    }
}

/// Work that may take a while, off the thread that decides.
pub(super) async fn beside<T: Send + 'static>(
    worker: &Worker,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = worker.run(work).await;
    done.unwrap_or_else(|error| Err(format!("no answer could be made: {}", error_text(&error))))
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
