//! Next hops of lifelines, met anew.

use super::FilterKeeper;
use crate::quarantine::lifelines::ways::Way;
use crate::quarantine::ports::PacketFilter;

impl<F: PacketFilter> FilterKeeper<F> {
    /// Has the kernel forget what it was told of who they are.
    pub(in crate::agent::enforcer) async fn meet_next_hops(&mut self, ways: &[Way]) {
        self.kernel.meet_next_hops(ways).await;
    }
}
