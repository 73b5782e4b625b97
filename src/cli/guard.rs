//! `edgewarden guard`: stands by, and starts an agent where no nucleus does.

use std::path::Path;

use super::{Failure, place};
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
        guard::stand(&places)
    };
    done.map_err(|error| Failure::new(&error))
}
