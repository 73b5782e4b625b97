//! What this kernel has at the egress of interfaces, tried out in a network namespace that ends with the look.
//!
//! In: nothing. Out: whether the packet filter's hook takes rules there, and where it does not whether filters of `tc` do; none where no
//! namespace can be made to try it out in. Nothing is left behind, and nobody's interface is touched. Absent: restrictions of certain
//! interfaces.

use std::collections::BTreeSet;
use std::thread;

use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sched::{CloneFlags, unshare};
use nix::sys::utsname::uname;

use super::kernel;
use crate::error_text;
use crate::host::net::frame_filters;
use crate::host::net::netlink::Netlink;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::ruleset::{BarredDevice, Barrier, EgressMeans, egress_trials};

/// The thread asks and answers.
const STACK: usize = 256 * 1024;

/// Whether the kernel's number says that it has no such hook.
pub(super) fn is_old() -> bool {
    let number = |release: &str| {
        let mut parts = release.split(|c: char| !c.is_ascii_digit());
        let mut next = || parts.next()?.parse::<u32>().ok();
        Some((next()?, next()?))
    };
    let told = uname().ok();
    let release = told.and_then(|told| number(&told.release().to_string_lossy()));
    release.is_some_and(|release| release < (5, 16))
}

/// Tries it out, in a thread that has a namespace of its own.
pub(super) fn egress() -> Option<EgressMeans> {
    let tried = thread::Builder::new()
        .name("egress-trial".into())
        .stack_size(STACK)
        .spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .inspect_err(|why| tracing::debug!("the egress of interfaces is not tried out: {why}"))
                .ok()?;
            tried_here()
        });
    tried.ok()?.join().ok()?
}

fn tried_here() -> Option<EgressMeans> {
    let mut kernel = kernel::open().ok()?;
    let [mut hook, mut marks] = egress_trials();
    let refusal = match kernel::commit(&mut kernel, &mut hook) {
        Ok(()) => None,
        Err(obstacle @ Obstacle::Refused { .. }) => Some(obstacle.to_string()),
        // Nobody knows.
        Err(_) => return None,
    };
    let Some(refusal) = refusal else {
        return Some(EgressMeans::default());
    };
    let barrier = match kernel::commit(&mut kernel, &mut marks) {
        Ok(()) => filters(),
        Err(obstacle) => Err(obstacle.to_string()),
    };
    Some(EgressMeans {
        refusal: Some(refusal),
        barrier,
    })
}

/// Whether `tc` takes our filters, and then whether it can bound what has no mark.
///
/// # Errors
/// Why it does not, for people.
fn filters() -> Result<bool, String> {
    let mut netlink = Netlink::open(NETLINK_ROUTE).map_err(|error| error_text(&error))?;
    let mut fails = None;
    for bounds in [true, false] {
        let barrier = Barrier {
            mark: 1,
            devices: vec![BarredDevice {
                name: "lo".to_owned(),
                index: 1,
                ethernet: true,
                passes_on: false,
                hardware: Vec::new(),
            }],
            bounds,
            leases: true,
            sessions: false,
        };
        match frame_filters::bar(&mut netlink, Some(&barrier), &mut BTreeSet::new()) {
            Ok(barred) if barred.refused.is_empty() && barred.differs.is_empty() => return Ok(bounds),
            Ok(barred) => {
                let refused = barred.refused.into_iter().next().map(|(_, why)| why);
                fails = refused.or_else(|| Some("it lists other filters than it was given".to_owned()));
            }
            Err(error) => fails = Some(error_text(&error)),
        }
    }
    Err(fails.unwrap_or_default())
}
