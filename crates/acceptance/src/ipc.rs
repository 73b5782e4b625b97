//! The nucleus' local interface, as its command line uses it: deployments, restarts of a component.
//!
//! In: the nucleus' root folder, with the token that the Cli plugin writes there. Out: the answers. One connection a call:
//! a nucleus that was away between two calls makes no difference.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use greengrass_ipc::{Client, ClientOptions};
use serde_json::{Value, json};

use crate::error::{Trouble, io};

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// How long a deployment may take: the nucleus downloads nothing here, but may wait for a component that fails.
const DEPLOYMENT_LIMIT: Duration = Duration::from_secs(90);
/// Between two looks at a deployment.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Whether the nucleus takes connections.
pub(crate) fn is_up(root: &Path) -> bool {
    UnixStream::connect(root.join("ipc.socket")).is_ok()
}

/// Whether it answers the command line, whose token is written anew at each start.
pub(crate) fn answers(root: &Path) -> bool {
    is_up(root) && call(root, "ListComponents", json!({})).is_ok()
}

/// One call of the command line.
pub(crate) fn call(root: &Path, operation: &str, request: Value) -> Result<Value, Trouble> {
    let access = Access {
        socket: root.join("ipc.socket"),
        token: token(root)?,
    };
    ask(&access, operation, request)
}

/// How somebody speaks with the nucleus.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) socket: PathBuf,
    /// What proves who it is.
    pub(crate) token: String,
}

impl Access {
    /// Whether the nucleus takes connections.
    pub(crate) fn is_up(&self) -> bool {
        UnixStream::connect(&self.socket).is_ok()
    }
}

/// One call.
pub(crate) fn ask(access: &Access, operation: &str, request: Value) -> Result<Value, Trouble> {
    let failed = |answer: String| Trouble::Nucleus {
        operation: operation.to_owned(),
        answer,
    };
    let mut options = ClientOptions::new(access.socket.clone(), access.token.clone());
    options.request_timeout = CALL_LIMIT;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("start a runtime for the nucleus' interface"))?;
    let answer = runtime.block_on(async { Client::start(options).request_json(operation, request).await });
    answer.map_err(|error| failed(edgewarden_lab::error_text(&error)))
}

/// What proves to the nucleus that root's command line calls.
fn token(root: &Path) -> Result<String, Trouble> {
    let path = root.join("cli_ipc_info/user-0");
    let text = std::fs::read_to_string(&path).map_err(io(format!("read {}", path.display())))?;
    let info: Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(info["cli_auth_token"].as_str().unwrap_or_default().to_owned())
}

/// Deploys and waits for the end; gives the nucleus' word on it, SUCCEEDED or FAILED.
pub(crate) fn deploy(root: &Path, request: Value) -> Result<String, Trouble> {
    let answer = call(root, "CreateLocalDeployment", request)?;
    let ask = json!({"deploymentId": answer["deploymentId"]});
    let began = Instant::now();
    while began.elapsed() < DEPLOYMENT_LIMIT {
        std::thread::sleep(LOOK_EVERY);
        // A deployment that restarts the nucleus takes its interface away for a while.
        let Ok(status) = call(root, "GetLocalDeploymentStatus", ask.clone()) else {
            continue;
        };
        let word = status["deployment"]["status"].as_str().unwrap_or_default();
        if ["SUCCEEDED", "FAILED", "CANCELED"].contains(&word) {
            return Ok(word.to_owned());
        }
    }
    Err(Trouble::Late {
        what: "the end of a deployment".to_owned(),
        seconds: DEPLOYMENT_LIMIT.as_secs(),
    })
}
