//! Where the nucleus is, who we are, and the limits of everything that waits or grows.
//!
//! In: values of the caller, the environment of a component, or a closure that looks up the variables the nucleus sets.
//! Deliberately absent: touching the socket path (classic hands out relative ones when the absolute one is too long).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::liveness::Liveness;

/// Longest frame nucleus lite accepts, in bytes. One byte more and it resets the connection without a word.
pub const LITE_MAX_FRAME_BYTES: usize = 10_012;

/// Longest frame accepted from the nucleus, in bytes. The format allows 24 MiB, but the largest thing a nucleus has
/// to say is a 128 KiB MQTT payload in base64; this leaves room for a large configuration and bounds memory.
pub const DEFAULT_MAX_INBOUND_FRAME_BYTES: usize = 1024 * 1024;

/// How long a call may take: lite is single-threaded, and one stuck component was seen to delay all others by 30 s.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

/// How long the nucleus may take to accept a connection, for the same reason.
const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(40);

/// How long half a frame, in either direction, may wait for its other half.
const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_secs(40);

/// Longest limit that is kept; more is as good as none, and a sum of times must not overflow.
const LONGEST_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Events a subscription holds for a slow consumer.
const DEFAULT_MAX_QUEUED_EVENTS: usize = 256;

/// Bytes of events a subscription holds for a slow consumer.
const DEFAULT_MAX_QUEUED_BYTES: usize = 1024 * 1024;

const TOKEN_VARIABLE: &str = "SVCUID";
const SOCKET_VARIABLE: &str = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT";

/// Options of a [`crate::Client`]. Made with [`ClientOptions::from_env`] or [`ClientOptions::new`], then changed field
/// by field.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Socket of the nucleus; may be relative to the working directory.
    pub socket: PathBuf,
    /// Token of this component (`SVCUID`). Never logged.
    pub auth_token: String,
    /// Own component name. When set and the token is refused, the client asks for a new one by name, which nucleus
    /// lite grants to a process of the component's own systemd unit.
    pub component_name: Option<String>,
    /// Limit of every call, including the wait for a connection.
    pub request_timeout: Duration,
    /// Limit of one attempt to connect and be accepted.
    pub handshake_timeout: Duration,
    /// A connection is dropped when a frame from the nucleus is not whole this long after its first byte, when the
    /// nucleus reads nothing for this long, or when calls are open and nothing at all was heard for this long.
    pub stall_timeout: Duration,
    /// Longest frame sent, in bytes. Larger requests are refused locally. When it is above [`LITE_MAX_FRAME_BYTES`] and
    /// the nucleus closes two connections in a row over such a frame, that becomes the limit.
    pub max_frame_bytes: usize,
    /// Longest frame accepted, in bytes. A larger one ends the connection before it is buffered.
    pub max_inbound_frame_bytes: usize,
    /// Events held for one slow subscription before the oldest are dropped.
    pub max_queued_events: usize,
    /// Bytes of events held for one slow subscription before the oldest are dropped. The newest is always kept.
    pub max_queued_bytes: usize,
    /// How to notice that an open connection is dead; `None` leaves it to [`crate::Client::reconnect`].
    pub liveness: Option<Liveness>,
}

/// Variables that the nucleus sets for every component are missing.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
#[error("not set: {}; a component gets these from the Greengrass nucleus", names.join(", "))]
pub struct EnvironmentError {
    /// Names of the variables that are missing or empty.
    pub names: Vec<&'static str>,
}

impl ClientOptions {
    /// Options with the defaults, which suit both nuclei, for a socket and a token from wherever.
    pub fn new(socket: impl Into<PathBuf>, auth_token: impl Into<String>) -> Self {
        Self {
            socket: socket.into(),
            auth_token: auth_token.into(),
            component_name: None,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            max_frame_bytes: LITE_MAX_FRAME_BYTES,
            max_inbound_frame_bytes: DEFAULT_MAX_INBOUND_FRAME_BYTES,
            max_queued_events: DEFAULT_MAX_QUEUED_EVENTS,
            max_queued_bytes: DEFAULT_MAX_QUEUED_BYTES,
            liveness: None,
        }
    }

    /// The same with limits of time that can be added to a time.
    pub(crate) fn bounded(mut self) -> Self {
        for limit in [
            &mut self.request_timeout,
            &mut self.handshake_timeout,
            &mut self.stall_timeout,
        ] {
            *limit = (*limit).min(LONGEST_LIMIT);
        }
        self
    }

    /// Options from the environment that the nucleus gives to every component: `SVCUID` and
    /// `AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT`, with the defaults for everything else.
    ///
    /// # Errors
    /// [`EnvironmentError`] names every variable that is missing, empty or not UTF-8.
    pub fn from_env() -> Result<Self, EnvironmentError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the caller asks for the environment; whoever reads it in another way uses the closure"
        )]
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// [`ClientOptions::from_env`] for programs that read their environment in their own way: `lookup` gets the name of
    /// a variable and gives its value.
    ///
    /// # Errors
    /// [`EnvironmentError`] names every variable that is missing or empty.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let read = |name| lookup(name).filter(|value| !value.is_empty());
        match (read(SOCKET_VARIABLE), read(TOKEN_VARIABLE)) {
            (Some(socket), Some(token)) => Ok(Self::new(socket, token)),
            (socket, token) => {
                let missing = [(TOKEN_VARIABLE, token), (SOCKET_VARIABLE, socket)];
                let names = missing
                    .into_iter()
                    .filter(|(_, value)| value.is_none())
                    .map(|(name, _)| name);
                Err(EnvironmentError {
                    names: names.collect(),
                })
            }
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ClientOptions")
            .field("socket", &self.socket)
            .field("component_name", &self.component_name)
            .field("request_timeout", &self.request_timeout)
            .field("liveness", &self.liveness)
            .field("max_frame_bytes", &self.max_frame_bytes)
            .field("max_inbound_frame_bytes", &self.max_inbound_frame_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_through_the_closure() {
        let options = ClientOptions::from_lookup(|name| match name {
            SOCKET_VARIABLE => Some("../../ipc.socket".into()),
            TOKEN_VARIABLE => Some("abcdefgh12345678".into()),
            _ => None,
        })
        .unwrap();
        assert_eq!(options.socket, PathBuf::from("../../ipc.socket"));
        assert_eq!(options.auth_token, "abcdefgh12345678");
    }

    /// Runs itself again as a process of its own: the environment of this one belongs to every test.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the test is about a process and its environment"
    )]
    fn the_environment_of_the_process_is_read() {
        const CHILD: &str = "GREENGRASS_IPC_TEST_CHILD";
        if std::env::var_os(CHILD).is_some() {
            let options = ClientOptions::from_env().unwrap();
            assert_eq!(options.socket, PathBuf::from("/run/gg.socket"));
            assert_eq!(options.auth_token, "abcdefgh12345678");
            return;
        }
        let run = |token: &str| {
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "options::tests::the_environment_of_the_process_is_read",
                ])
                .env(CHILD, "1")
                .env(SOCKET_VARIABLE, "/run/gg.socket")
                .env(TOKEN_VARIABLE, token)
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let found = run("abcdefgh12345678");
        assert!(found.contains("1 passed"), "{found}");
        let missing = run("");
        assert!(missing.contains("1 failed"), "{missing}");
    }

    #[test]
    fn everything_missing_is_named_and_empty_is_missing() {
        let error = ClientOptions::from_lookup(|_| Some(String::new())).unwrap_err();
        assert_eq!(error.names, [TOKEN_VARIABLE, SOCKET_VARIABLE]);
        let error =
            ClientOptions::from_lookup(|name| (name == SOCKET_VARIABLE).then(|| "s".into())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "not set: SVCUID; a component gets these from the Greengrass nucleus"
        );
    }

    #[test]
    fn the_token_never_shows() {
        let options = ClientOptions::new("/run/gg.socket", "secret-token");
        assert!(!format!("{options:?}").contains("secret"), "{options:?}");
    }
}
