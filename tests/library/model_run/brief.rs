//! An order of the operator that ends by itself.

use edgewarden::agent::enforcer::EnforcerCommand;
use edgewarden::quarantine::orders;
use jiff::SignedDuration;
use serde_json::json;

use super::super::reference::{AUTHORITIES, Said};
use super::{OPERATOR, Run};

impl Run<'_> {
    /// The operator isolates the device, and his order ends by itself.
    pub(super) async fn isolate_briefly(&mut self, seconds: u8) {
        self.model.says(OPERATOR, &Said::Isolate);
        let now = self.world.lock().unwrap().time;
        let end = now + SignedDuration::from_secs(i64::from(seconds));
        self.ends = Some(end);
        let document = json!({"posture": "isolate", "expires": end});
        let authority = AUTHORITIES[OPERATOR];
        let wish = orders::document::read(Some(&document), authority, now);
        self.obey(vec![EnforcerCommand::Wish { authority, wish }]).await;
    }

    /// The reference hears that the operator's order has ended; a clock that was set may be why it did before its time.
    pub(super) fn note_end(&mut self) {
        let Some(end) = self.ends else { return };
        let world = self.world.lock().unwrap();
        let may_have_ended = world.time >= end || !world.ahead.is_zero();
        let mut orders = self.enforcer.state().orders.iter();
        if may_have_ended && !orders.any(|order| order.authority == AUTHORITIES[OPERATOR]) {
            self.model.live.remove(&OPERATOR);
            self.ends = None;
        }
    }
}
