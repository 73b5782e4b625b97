//! Which C library a program asks the device for.
//!
//! In: a program. Out: success when it asks for no newer one than [`OLDEST_GLIBC`]. The linker was told so; this looks at what
//! it did. Deliberately absent: reading ELF. Versions stand in a program as names, and nothing else there is spelled so.

use std::fs;
use std::path::Path;

use crate::cross::OLDEST_GLIBC;
use crate::failure::Failure;
use crate::workspace::file;

/// How the name of a version of glibc begins.
const NAME: &[u8] = b"GLIBC_";

/// Looks for names of versions of glibc in it, and fails without any: then it would not be what it seems.
pub fn expect_old(program: &Path) -> Result<(), Failure> {
    let bytes = fs::read(program).map_err(file("read", program))?;
    let newest = newest(&bytes);
    if newest.is_some_and(|newest| Some(newest) <= version(OLDEST_GLIBC)) {
        return Ok(());
    }
    let found = newest.map_or("none".to_owned(), |(major, minor)| format!("{major}.{minor}"));
    Err(Failure::Content {
        subject: program.display().to_string(),
        fault: format!("the newest glibc it asks for is {found}, expected {OLDEST_GLIBC} at most"),
    })
}

fn newest(program: &[u8]) -> Option<(u32, u32)> {
    let names = program
        .windows(NAME.len())
        .enumerate()
        .filter(|(_, name)| *name == NAME);
    let versions = names.filter_map(|(at, _)| {
        let rest = &program[at + NAME.len()..];
        let end = rest
            .iter()
            .position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
        version(std::str::from_utf8(&rest[..end]).ok()?)
    });
    versions.max()
}

/// The first two numbers of a version.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_counts_as_numbers() {
        assert_eq!(
            newest(b"\0GLIBC_2.4\0x\0GLIBC_2.17\0GLIBC_PRIVATE\0GLIBC_2.3.4\0"),
            Some((2, 17))
        );
        assert_eq!(newest(b"nothing"), None);
    }

    #[test]
    fn a_program_for_a_newer_library_is_refused_with_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("edgewarden-arm");
        fs::write(&program, b"\0GLIBC_2.28\0").unwrap();
        expect_old(&program).unwrap();
        fs::write(&program, b"\0GLIBC_2.28\0GLIBC_2.34\0").unwrap();
        let failure = expect_old(&program).unwrap_err().to_string();
        assert!(failure.contains("is 2.34, expected 2.28 at most"), "{failure}");
        fs::write(&program, b"").unwrap();
        assert!(expect_old(&program).is_err());
    }
}
