//! The nucleus' way to its broker when it may lead through an HTTP proxy.
//!
//! In: the broker's place, a file with the proxy's URL (empty: no proxy), read for every connection. Out: a place on the
//! loopback that the MQTT client connects to instead, and the URL for whoever asks for `networkProxy`. A connection goes
//! the way that the file names when it is opened, and lives until somebody cuts it, as with the real nuclei.

use std::path::{Path, PathBuf};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

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
    let url = url(&file);
    let mut server = match url.as_deref().and_then(place) {
        Some(proxy) => crate::proxy::connect(proxy, &broker).await?,
        None => TcpStream::connect(&broker).await?,
    };
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
