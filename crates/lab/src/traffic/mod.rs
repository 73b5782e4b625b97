//! Traffic generators: sensor and rogue. Placeholder until the session that owns this module merges.

pub mod rogue;
pub mod sensor;
