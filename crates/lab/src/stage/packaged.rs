//! A recipe that names its program by digest, as a package has it.
//!
//! In: the recipe as it is in the source tree, with `SHA256_OF_<file>` where the digest of that file belongs; the file. Out:
//! the recipe that a nucleus is given. `cargo xtask package` and a stage write it by this one piece of code.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// What stands in the source tree before the name of the file whose digest is meant.
pub const PLACEHOLDER: &str = "SHA256_OF_";

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// The recipe with this digest wherever the file's is meant.
#[must_use]
pub fn with_digest(recipe: &str, file: &str, digest: &str) -> String {
    recipe.replace(&format!("{PLACEHOLDER}{file}"), digest)
}

/// SHA-256 of a file, as `sha256sum` writes it.
///
/// # Errors
/// When the file cannot be read.
pub fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut sum = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            length => sum.update(&chunk[..length]),
        }
    }
    Ok(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_file_and_stands_for_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        std::fs::write(&file, "abc").unwrap();
        let digest = digest(&file).unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            digest,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            with_digest("h=SHA256_OF_program i=SHA256_OF_other", "program", &digest),
            format!("h={digest} i=SHA256_OF_other")
        );
    }
}
