//! `edgewarden guard`: stands by, and starts an agent where no nucleus does.

use std::io::Write as _;
use std::path::Path;

use super::{Failure, place, safe};
use crate::host::guard::{self, GuardPlaces};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    state: place::StateDirectory,
    /// Start it as nobody's child, and end.
    #[arg(long, hide = true)]
    detach: bool,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let places = GuardPlaces::new(&arguments.state.path, socket);
    let done = if arguments.detach {
        guard::detach(&places)
    } else {
        // Whoever listens: the unit's log, or nobody.
        guard::stand(&places, |error| {
            let text = crate::error_text(error);
            let _unheard = writeln!(std::io::stderr(), "edgewarden: {}", safe::safe(&text));
        })
    };
    done.map_err(|error| Failure::new(&error))
}
