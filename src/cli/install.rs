//! `edgewarden install`: the state directory, the operator's copy of this program, and isolation that is restored before the
//! network. The recipe's install step runs it from its own copy: on classic at every start of the nucleus, on lite at
//! deployments.

use super::{Failure, out, place};
use crate::host::boot::boot_service::{BootServicePaths, InstallOutcome};
use crate::host::boot::systemctl;
use crate::host::boot::unit;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    installation: place::Installation,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let places = arguments.installation.places();
    let forgets = places.forgets();
    let installed = places.install().map_err(|error| Failure::new(&error))?;
    let told = match installed {
        InstallOutcome::Ready { changed: true } => tell(&places)?,
        _ => None,
    };
    let line = match installed {
        InstallOutcome::NoSystemd => {
            "systemd does not run here (no /run/systemd/system): isolation is restored when Greengrass starts"
                .into()
        }
        InstallOutcome::Masked => format!(
            "{} is masked: isolation is restored when Greengrass starts",
            unit::NAME
        ),
        InstallOutcome::Ready { changed } => format!(
            "{} restores isolation before the network ({})",
            unit::NAME,
            if changed { "written" } else { "nothing to change" }
        ),
    };
    out(&format!("{line}\n"))?;
    if let Some(why) = forgets {
        out(&format!("{why}\n"))?;
    }
    told.map_or(Ok(()), |untold| {
        out(&format!("{untold}; the next boot reads it anyway\n"))
    })
}

/// Tells the running systemd; gives why it does not know.
fn tell(places: &BootServicePaths) -> Result<Option<String>, Failure> {
    if !places.is_live() {
        return Ok(None);
    }
    let told = systemctl::daemon_reload();
    Ok(told.err().map(|error| crate::error_text(&error)))
}
