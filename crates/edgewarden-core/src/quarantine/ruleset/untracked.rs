//! What connection tracking is not to see: whatever stays inside of the device, while its table is crowded.
//!
//! Out: the chains that keep it from there. Absent: when it is crowded, which whoever writes the rules is told.

use super::conditions::{Conditions, End};
use super::{Chain, Layer};

/// The names of the chains.
pub(super) const UNTRACKED_OUT: &str = "untracked_out";
pub(super) const UNTRACKED_IN: &str = "untracked_in";
/// The priority that nft calls raw: before connection tracking.
const BEFORE_TRACKING: i32 = -300;

/// What the device sends to itself keeps the mark on its way in, and frames that somebody has put on loopback by hand get it there.
pub(super) fn untracked() -> [Chain; 2] {
    let sides = [
        (UNTRACKED_OUT, "output", End::Destination),
        (UNTRACKED_IN, "prerouting", End::Source),
    ];
    sides.map(|(name, hook, end)| Chain {
        name,
        hook,
        priority: BEFORE_TRACKING,
        devices: Vec::new(),
        policy: "accept",
        rules: vec![Conditions::of(Layer::Inet).loopback(end).notrack("inside")],
    })
}
