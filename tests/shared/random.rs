//! Random choices that can be had again: the seed is printed, and `EDGEWARDEN_HOLDS_SEED` repeats it.

/// A generator of its own for one test.
pub(crate) fn random() -> fastrand::Rng {
    let name = "EDGEWARDEN_HOLDS_SEED";
    let seed = match std::env::var(name) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => fastrand::u64(..),
    };
    println!("{name}={seed}");
    fastrand::Rng::with_seed(seed)
}
