//! The measuring loop that both Rust clients share; the Python client has the same in `python/client.py`.
//!
//! In: `<get|publish> <in flight> <most calls> <most seconds>` as arguments, a client, lines on standard input. Out:
//! `ready` after the warm-up, then, once told to go, the calls, then `done` with the numbers; then it waits for the
//! end of its input, so that it can be measured while it rests. CPU and memory are read from outside.
//!
//! One runtime of one thread for both clients: what the agent uses, and what a small gateway can spare.

mod arguments;
mod latencies;
mod window;

use std::future::Future;
use std::io::{BufRead, Write};
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

pub use arguments::{Arguments, Case};
use window::Window;

/// Calls before the measurement: connections are made, buffers and allocators have found their size.
const WARM_UP_CALLS: u64 = 500;
/// And their limit, for a nucleus that answers slowly.
const WARM_UP_TIME: Duration = Duration::from_secs(2);

/// Topic of the publishes; the bench's recipe allows it.
pub const TOPIC: &str = "bench/ipc";
/// The leaf that is read; the bench's recipe has it.
pub const LEAF: &str = "interval";
/// Bytes of each published payload.
pub const PAYLOAD_BYTES: usize = 200;

/// Name of the variable with the socket.
pub const SOCKET_VARIABLE: &str = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT";
/// Name of the variable with the token.
pub const TOKEN_VARIABLE: &str = "SVCUID";

/// A client under measurement. Every error is a text: it is only shown.
pub trait Caller: 'static {
    /// Reads [`LEAF`] and checks that it is there.
    fn get(&self) -> impl Future<Output = Result<(), String>>;
    /// Publishes `payload` to [`TOPIC`] with QoS 0.
    fn publish(&self, payload: &[u8; PAYLOAD_BYTES]) -> impl Future<Output = Result<(), String>>;
}

/// The whole program: connects with `connect`, warms up, measures, reports.
///
/// # Errors
/// Bad arguments, no connection, or standard streams that are closed.
pub fn main<C, F>(connect: impl FnOnce() -> F) -> Result<(), String>
where
    C: Caller,
    F: Future<Output = Result<C, String>>,
{
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("could not make a runtime: {error}"))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let caller = Rc::new(connect().await?);
        let warm_up = Arguments {
            calls: WARM_UP_CALLS,
            time: WARM_UP_TIME,
            ..arguments
        };
        Window::measure(&caller, warm_up).await;
        say(&json!({ "event": "ready" }))?;
        wait_for_line()?;
        say(&Window::measure(&caller, arguments).await)?;
        wait_for_line()
    })
}

fn say(event: &serde_json::Value) -> Result<(), String> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{event}")
        .and_then(|()| output.flush())
        .map_err(|error| format!("could not write an event: {error}"))
}

/// Blocks the only thread on purpose: a client that rests must cost nothing.
fn wait_for_line() -> Result<(), String> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map(drop)
        .map_err(|error| format!("could not wait for a line: {error}"))
}
