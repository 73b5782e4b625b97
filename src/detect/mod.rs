//! Local detection.
