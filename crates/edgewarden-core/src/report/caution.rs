//! Whether custom metrics may go into the next report.
//!
//! In: what the service said to reports with and without them. Out: yes or no. A report that is refused as
//! `InvalidPayload` would be refused again: the standard blocks are the same on every device, so custom metrics are
//! suspected, left out for a while, and tried again after twice as long each time.

/// Longest pause in reports: a day of five-minute ones.
const LONGEST: u32 = 288;

/// How long custom metrics stay away after a refused report.
#[derive(Debug, Clone, Copy, Default)]
pub struct CustomMetricPause {
    /// Reports still to be accepted without custom metrics.
    left: u32,
    /// How many the last pause began with.
    pause: u32,
}

impl CustomMetricPause {
    /// Whether the next report may carry them.
    #[must_use]
    pub const fn allows(&self) -> bool {
        self.left == 0
    }

    /// A report was refused as invalid.
    pub fn invalid(&mut self, with_custom: bool) {
        if with_custom {
            self.pause = (self.pause * 2).clamp(1, LONGEST);
            self.left = self.pause;
        }
    }

    /// A report was accepted.
    pub fn accepted(&mut self, with_custom: bool) {
        if with_custom {
            *self = Self::default();
        } else {
            self.left = self.left.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspects_pause_twice_as_long_each_time_until_accepted() {
        let mut caution = CustomMetricPause::default();
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 288, 288] {
            assert!(caution.allows());
            caution.invalid(true);
            for _ in 0..pause {
                assert!(!caution.allows());
                caution.accepted(false);
            }
        }
        caution.invalid(true);
        caution.invalid(false);
        assert!(
            !caution.allows(),
            "the service refuses everything: nothing is learned"
        );
        caution.accepted(true);
        assert!(caution.allows());
        caution.accepted(false);
        caution.invalid(false);
        assert!(caution.allows());
    }
}
