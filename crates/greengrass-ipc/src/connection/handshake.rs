//! From a socket path to an accepted connection.
//!
//! In: options and the current token. Out: an open socket with the decoder that may hold the first bytes after the
//! ack. Both ways of being refused are told apart only in the text: lite closes without a word, classic sends an ack
//! without the accepted flag. A refused token is followed at once by one attempt to authenticate by component name.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::frame::{CONNECTION_ACCEPTED, Decoder, FrameError, Message, MessageKind, encode};
use crate::options::ClientOptions;

use super::peer;

/// Version of the protocol, the only one there is.
const PROTOCOL_VERSION: &str = "0.1.0";

/// Bytes read at a time during the handshake; an ack is far smaller.
const READ_BYTES: usize = 1024;

/// An open, accepted connection.
#[derive(Debug)]
pub(super) struct OpenConnection {
    pub(super) stream: UnixStream,
    pub(super) decoder: Decoder,
    pub(super) server_pid: Option<i32>,
    pub(super) server_start_ticks: Option<u64>,
}

/// How the client proves who it is. The token changes when lite hands out a new one.
#[derive(Debug)]
pub(super) struct Credentials {
    token: String,
    component_name: Option<String>,
}

impl Credentials {
    pub(super) fn new(options: &ClientOptions) -> Self {
        Self {
            token: options.auth_token.clone(),
            component_name: options.component_name.clone(),
        }
    }
}

/// Why an attempt to connect failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("could not connect to socket {}", socket.display())]
    Connect {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not use the socket during the handshake")]
    Socket {
        #[source]
        source: io::Error,
    },
    #[error("the nucleus refused {what} by closing the connection")]
    Closed { what: &'static str },
    #[error("the nucleus refused {what}")]
    Refused { what: &'static str },
    #[error("the nucleus answered the connect with a message of kind {kind:?}")]
    OutOfPlace { kind: MessageKind },
    #[error("could not exchange frames during the handshake")]
    Frame {
        #[source]
        source: FrameError,
    },
    #[error("the nucleus did not accept the connection within {after:?}")]
    Timeout { after: Duration },
}

impl ConnectError {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Refused { .. })
    }
}

/// Connects by token, and by component name when the token is refused.
pub(super) async fn connect(
    options: &ClientOptions,
    credentials: &mut Credentials,
) -> Result<OpenConnection, ConnectError> {
    let by_token = json!({ "authToken": credentials.token });
    let refusal = match limited(options, by_token, "the token").await {
        Err(refusal) if refusal.is_refusal() => refusal,
        outcome => return outcome.map(|(accepted, _)| accepted),
    };
    let Some(name) = &credentials.component_name else {
        return Err(refusal);
    };
    let by_name = json!({ "componentName": name });
    let (accepted, svcuid) = limited(options, by_name, "the token and the component name").await?;
    if let Some(token) = svcuid {
        tracing::info!("the nucleus gave a new token");
        credentials.token = token;
    }
    Ok(accepted)
}

async fn limited(
    options: &ClientOptions,
    proof: serde_json::Value,
    what: &'static str,
) -> Result<(OpenConnection, Option<String>), ConnectError> {
    let after = options.handshake_timeout;
    tokio::time::timeout(after, attempt(options, proof, what))
        .await
        .unwrap_or(Err(ConnectError::Timeout { after }))
}

async fn attempt(
    options: &ClientOptions,
    proof: serde_json::Value,
    what: &'static str,
) -> Result<(OpenConnection, Option<String>), ConnectError> {
    let mut stream = UnixStream::connect(&options.socket)
        .await
        .map_err(|source| ConnectError::Connect {
            socket: options.socket.clone(),
            source,
        })?;
    let server_pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    // Before it is asked: whoever answers was there meanwhile, so the number was not another's.
    let server_start_ticks = server_pid.and_then(peer::start_ticks);
    let connect = Message::new(MessageKind::Connect, 0)
        .with_version(PROTOCOL_VERSION)
        .with_payload(proof.to_string());
    let frame = encode(&connect).map_err(|source| ConnectError::Frame { source })?;
    match stream.write_all(&frame).await {
        Err(error) if is_close(&error) => return Err(ConnectError::Closed { what }),
        outcome => outcome.map_err(|source| ConnectError::Socket { source })?,
    }
    let mut decoder = Decoder::new(options.max_inbound_frame_bytes);
    let answer = first_message(&mut stream, &mut decoder, what).await?;
    if answer.kind != MessageKind::ConnectAck {
        return Err(ConnectError::OutOfPlace { kind: answer.kind });
    }
    if answer.flags & CONNECTION_ACCEPTED == 0 {
        return Err(ConnectError::Refused { what });
    }
    Ok((
        OpenConnection {
            stream,
            decoder,
            server_pid,
            server_start_ticks,
        },
        answer.svcuid,
    ))
}

async fn first_message(
    stream: &mut UnixStream,
    decoder: &mut Decoder,
    what: &'static str,
) -> Result<Message, ConnectError> {
    let mut chunk = BytesMut::with_capacity(READ_BYTES);
    loop {
        if let Some(message) = decoder.next().map_err(|source| ConnectError::Frame { source })? {
            return Ok(message);
        }
        chunk.clear();
        match stream.read_buf(&mut chunk).await {
            Ok(0) => return Err(ConnectError::Closed { what }),
            Ok(_) => decoder.push(&chunk),
            Err(error) if is_close(&error) => return Err(ConnectError::Closed { what }),
            Err(source) => return Err(ConnectError::Socket { source }),
        }
    }
}

/// Errors a socket reports when the other side closes it with our bytes unread.
fn is_close(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}
