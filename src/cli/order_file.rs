//! Reads an order that somebody wrote into a file. In: a path, `-` for standard input. Out: JSON; what it means is the
//! agent's to say.

#![expect(
    clippy::disallowed_methods,
    reason = "the person's own file, named by the person"
)]

use std::fs::File;
use std::io::{self, Read, stdin};
use std::path::Path;

use serde_json::Value;

use super::Failure;
use crate::control::protocol::MAX_ORDER_REQUEST;
use crate::document::{read_json, without_mark};

/// The JSON that somebody gave as an order; not yet known to be one.
pub(super) fn read(path: &Path) -> Result<Value, Failure> {
    let (name, text) = if path == Path::new("-") {
        ("standard input".to_owned(), bounded(stdin().lock()))
    } else {
        let text = File::open(path).and_then(bounded);
        (path.display().to_string(), text)
    };
    let text = text.map_err(|error| format!("could not read the order from {name}: {error}"))?;
    if text.len() as u64 > MAX_ORDER_REQUEST {
        return Err(format!("{name} is longer than {MAX_ORDER_REQUEST} bytes, so it is no order").into());
    }
    let value = read_json(without_mark(text.as_bytes()));
    value.map_err(|error| {
        format!("{name} is no JSON: {error}; `edgewarden schema order` describes an order").into()
    })
}

fn bounded(file: impl Read) -> io::Result<String> {
    let mut text = String::new();
    file.take(MAX_ORDER_REQUEST + 1).read_to_string(&mut text)?;
    Ok(text)
}
