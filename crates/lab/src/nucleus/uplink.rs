//! The nucleus' way to its broker when it may lead through an HTTP proxy.
//!
//! In: the broker's place, a file with the proxy's URL (empty: no proxy), read for every connection. Out: a place on the
//! loopback that the MQTT client connects to instead, and the URL for whoever asks for `networkProxy`. A connection goes
//! the way that the file names when it is opened, and lives until somebody cuts it, as with the real nuclei. Like theirs an
//! attempt ends when the client gives it up: opened after all, it would take the client's id from a later connection.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Bytes that are read of a client whose way is not open; an MQTT client sends one packet of a hundred, and waits.
const MAX_EARLY: usize = 4_096;

/// The proxy's URL, when the file names one.
pub(super) fn url(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    Some(text.trim().to_owned()).filter(|url| !url.is_empty())
}

/// `HOST:PORT` of a URL `http://HOST:PORT`.
fn place(url: &str) -> Option<&str> {
    url.strip_prefix("http://")
}

/// Listens on the loopback and carries what comes to `broker`; gives the port.
pub(super) async fn open(file: PathBuf, broker: String) -> std::io::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(carry(client, file.clone(), broker.clone()));
        }
    });
    Ok(port)
}

async fn carry(mut client: TcpStream, file: PathBuf, broker: String) -> std::io::Result<()> {
    let mut early = Vec::new();
    let mut server = tokio::select! {
        biased;
        left = until_it_leaves(&mut client, &mut early) => return left,
        server = way(&file, &broker) => server?,
    };
    server.write_all(&early).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

async fn way(file: &Path, broker: &str) -> std::io::Result<TcpStream> {
    match url(file).as_deref().and_then(place) {
        Some(proxy) => crate::proxy::connect(proxy, broker).await,
        None => TcpStream::connect(broker).await,
    }
}

/// Keeps what the client says: its end is seen only behind that.
async fn until_it_leaves(client: &mut TcpStream, early: &mut Vec<u8>) -> std::io::Result<()> {
    while early.len() < MAX_EARLY {
        if client.read_buf(early).await? == 0 {
            return Ok(());
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const ASKED: &[u8] = b"CONNECT 192.0.2.1:8883 HTTP/1.1\r\nHost: 192.0.2.1:8883\r\n\r\n";
    const SAID: &[u8] = b"CONNECT as gateway-01";

    /// A client that has said something, and its attempt at a proxy that has not opened the way.
    async fn attempt(directory: &Path) -> (TcpStream, TcpStream) {
        let proxy = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let file = directory.join("proxy");
        std::fs::write(&file, format!("http://{}", proxy.local_addr().unwrap())).unwrap();
        let port = open(file, "192.0.2.1:8883".into()).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        client.write_all(SAID).await.unwrap();
        let (mut way, _) = proxy.accept().await.unwrap();
        let mut head = [0; ASKED.len()];
        way.read_exact(&mut head).await.unwrap();
        assert_eq!(&head[..], ASKED);
        (client, way)
    }

    #[tokio::test]
    async fn an_attempt_ends_with_its_client() {
        let directory = tempfile::tempdir().unwrap();
        let (client, mut way) = attempt(directory.path()).await;
        drop(client);
        let mut after = Vec::new();
        let end = timeout(LIMIT, way.read_to_end(&mut after)).await;
        assert!(matches!(end, Ok(Ok(0))), "{end:?}: {after:?}");
    }

    #[tokio::test]
    async fn what_a_client_says_early_goes_the_way_that_opens() {
        let directory = tempfile::tempdir().unwrap();
        let (mut client, mut way) = attempt(directory.path()).await;
        way.write_all(b"HTTP/1.1 200 Connection established\r\n\r\nCONNACK")
            .await
            .unwrap();
        let (mut heard, mut answered) = ([0; SAID.len()], [0; 7]);
        timeout(LIMIT, way.read_exact(&mut heard)).await.unwrap().unwrap();
        timeout(LIMIT, client.read_exact(&mut answered))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((&heard[..], &answered[..]), (SAID, &b"CONNACK"[..]));
    }
}
