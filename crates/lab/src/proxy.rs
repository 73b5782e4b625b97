//! An HTTP proxy that tunnels: `CONNECT host:port`, as a nucleus with `networkProxy` uses it.
//!
//! In: connections. Out: connections to whom they name, and a line on standard output for each. Deliberately absent:
//! everything but CONNECT, users and passwords, limits of time.

use std::io::{Error, ErrorKind};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Longest head of a request or an answer; what a nucleus sends is a hundred bytes.
const MAX_HEAD: usize = 4_096;

/// Arguments of `edgewarden-lab proxy`.
#[derive(Clone, Debug, clap::Args)]
pub struct ProxyArgs {
    /// Where to listen, on every address.
    #[arg(long)]
    pub port: u16,
}

/// Serves until it is killed.
///
/// # Errors
/// When the port cannot be opened.
pub async fn run(args: ProxyArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let listener = TcpListener::bind(("::", args.port)).await?;
    println!("{}", json!({ "event": "listening", "port": args.port }));
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream));
    }
}

async fn serve(mut client: TcpStream) -> std::io::Result<()> {
    let head = read_head(&mut client).await?;
    let to = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next())
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, "no CONNECT"))?;
    let mut server = TcpStream::connect(to).await?;
    println!("{}", json!({ "event": "tunnel", "to": to }));
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Opens a way to `to` through the proxy at `proxy`, both `HOST:PORT`.
pub(crate) async fn connect(proxy: &str, to: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let head = read_head(&mut stream).await?;
    if head.starts_with("HTTP/1.1 200") {
        return Ok(stream);
    }
    Err(Error::new(ErrorKind::ConnectionRefused, head))
}

/// Reads up to the empty line, and not a byte of what comes after it.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(Error::new(ErrorKind::InvalidData, "head too long"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
