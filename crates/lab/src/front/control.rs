//! Takes changes of the way from a Unix socket: one JSON object a line, answered when it holds for every byte that has not
//! arrived yet; cuts and refusals follow in the same moment.
//!
//! In: lines of whoever reaches the socket. Out: new settings, and `{"ok":true}` or `{"error":…}`. A path and no address,
//! so that a test reaches it from whatever network namespace it is in.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::settings::{Change, Settings};

/// Longest line taken: some hundred denied topics.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// How long a change may take to be sent and its answer to be read; one asker at a time is served.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens the socket; one that an earlier run left is replaced.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

/// Serves for ever, one asker after the other.
pub(super) async fn serve(listener: UnixListener, settings: watch::Sender<Settings>) {
    loop {
        match listener.accept().await {
            // An asker that goes away early has no answer to get.
            Ok((asker, _)) => drop(tokio::time::timeout(PATIENCE, answer(asker, &settings)).await),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn answer(asker: UnixStream, settings: &watch::Sender<Settings>) -> io::Result<()> {
    let (from, mut to) = asker.into_split();
    let mut lines = BufReader::new(from.take(MAX_LINE_BYTES)).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = change(&line, settings);
        to.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    Ok(())
}

fn change(line: &str, settings: &watch::Sender<Settings>) -> Value {
    match serde_json::from_str::<Change>(line) {
        Ok(change) => {
            settings.send_modify(|settings| settings.apply(change));
            json!({"ok": true})
        }
        Err(error) => json!({"error": error.to_string()}),
    }
}
