//! `cargo xtask bench traffic`: what counting a packet costs, what is lost, whose bytes are told right, what idling costs.
//!
//! In: nothing; it builds what it measures and enters namespaces of its own. Out: the report. The floor, the agent,
//! nethogs and bandwhich get the same work one after another, never the host's traffic.
//!
//! ```text
//! subject  the programs compared    load   datagrams and TCP at several paces     share  whose bytes were told right
//! agent    what `top --json` says   site   namespaces, links, the kernel's count  idle   cost of doing nothing
//! ```

mod agent;
mod idle;
mod load;
mod share;
mod site;
mod subject;

use crate::Bench;
use crate::error::BenchError;
use crate::machine;
use crate::report::Report;
use site::Testbed;
use subject::Programs;

/// The bench, as it is asked for.
#[derive(clap::Args)]
pub(crate) struct Traffic {
    /// Only the programs of this project: no nethogs, no bandwhich
    #[arg(long)]
    no_peers: bool,
}

impl Bench for Traffic {
    const NAME: &'static str = "traffic";
    const IN_NAMESPACES: bool = true;

    fn prepare(&self) -> Result<(), BenchError> {
        machine::build(&["--package", "edgewarden", "--package", "edgewarden-lab"])?;
        machine::build(&["--package", "packet-ring", "--example", "floor"])?;
        Programs::new(!self.no_peers).map(drop)
    }

    fn measure(&self, report: &mut Report) -> Result<(), BenchError> {
        let testbed = Testbed::new(Programs::new(!self.no_peers)?)?;
        let subjects = subject::all(!self.no_peers);
        load::measure(&testbed, subjects, report)?;
        share::measure(&testbed, report)?;
        idle::measure(&testbed, subjects, report)
    }
}
