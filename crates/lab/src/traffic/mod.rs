//! Traffic generators: sensor and rogue.
