//! `cargo xtask test`: everything that must hold before a change lands.
//!
//! In: the tree. Out: success, or the first step that failed. Cheap steps come first.

use std::num::NonZero;
use std::time::Instant;

use crate::failure::Failure;
use crate::workspace::{cargo, root, target};
use crate::{deny, run, setup, tidy};

/// Tests at once at most, on machines with many cores.
const MOST_AT_ONCE: usize = 32;

type Step = (&'static str, fn() -> Result<(), Failure>);

/// In order. The documentation's tests come before the others: readers of the log, people and CI, look at its last
/// lines for the count of the tests.
const STEPS: &[Step] = &[
    ("setup", setup::run),
    ("format", format),
    ("clippy", clippy),
    ("fuzz targets and peers of the benches", apart),
    ("documentation", documentation),
    ("licences, bans and sources", deny::check),
    ("tidy", tidy::check),
    ("documentation tests", documentation_tests),
    ("tests", tests),
];

/// Runs the steps and stops at the first that fails.
pub fn run() -> Result<(), Failure> {
    steps(STEPS)
}

fn steps(steps: &[Step]) -> Result<(), Failure> {
    let total = steps.len();
    for (number, (name, step)) in (1..).zip(steps) {
        println!("\n== {number}/{total} {name}");
        let started = Instant::now();
        step().map_err(|failure| Failure::Step {
            number,
            total,
            name,
            source: Box::new(failure),
        })?;
        println!(
            "== {number}/{total} {name}: ok after {:.1} s",
            started.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

fn format() -> Result<(), Failure> {
    component("rustfmt", &["fmt", "--version"])?;
    run::run(&mut cargo(&["fmt", "--all", "--check"]))
}

fn clippy() -> Result<(), Failure> {
    component("clippy", &["clippy", "--version"])?;
    run::run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))
}

/// The workspaces apart: they are built seldom, so they must not rot. They share the folder of what is built here, and
/// with it most dependencies.
fn apart() -> Result<(), Failure> {
    const MANIFESTS: [&str; 3] = [
        "fuzz/Cargo.toml",
        "crates/greengrass-ipc/fuzz/Cargo.toml",
        "bench/ipc/Cargo.toml",
    ];
    MANIFESTS.iter().try_for_each(|manifest| {
        let check = ["check", "--locked", "--manifest-path", manifest, "--target-dir"];
        let mut check = cargo(&check);
        // Nothing is linked, so any file will do in place of the fuzzer, which is compiled from C++ otherwise, twice.
        check
            .arg(target())
            .env("CUSTOM_LIBFUZZER_PATH", root().join(manifest));
        run::run(&mut check)
    })
}

fn documentation() -> Result<(), Failure> {
    run::run(cargo(&["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn documentation_tests() -> Result<(), Failure> {
    run::run(&mut cargo(&["test", "--doc", "--workspace", "--locked"]))
}

fn tests() -> Result<(), Failure> {
    // Tests run the programs and the examples; neither runner builds them all by itself. No test runs the benches.
    run::run(&mut cargo(&[
        "build",
        "--workspace",
        "--exclude",
        "edgewarden-bench",
        "--locked",
        "--bins",
        "--examples",
    ]))?;
    let threads = at_once().to_string();
    if run::succeeds(&mut cargo(&["nextest", "--version"])) {
        let nextest = ["nextest", "run", "--workspace", "--locked", "--test-threads"];
        return run::run(cargo(&nextest).arg(threads));
    }
    println!("cargo-nextest is not installed; cargo's own runner does the same, one program after the other");
    let test = ["test", "--workspace", "--locked", "--lib", "--bins", "--tests"];
    run::run(cargo(&test).env("RUST_TEST_THREADS", threads))
}

/// How many tests run at once: those in namespaces wait most of their time, and the kernel makes and ends namespaces one after
/// another.
fn at_once() -> usize {
    (4 * std::thread::available_parallelism().map_or(1, NonZero::get)).min(MOST_AT_ONCE)
}

/// Adds a component of the Rust toolchain when it is not there.
fn component(name: &'static str, probe: &[&str]) -> Result<(), Failure> {
    if run::succeeds(&mut cargo(probe)) {
        return Ok(());
    }
    setup::rustup(name.to_owned(), &["component", "add", name])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failing_step_is_named_and_ends_the_run() {
        fn good() -> Result<(), Failure> {
            Ok(())
        }
        fn bad() -> Result<(), Failure> {
            Err(Failure::Content {
                subject: "x".into(),
                fault: "is wrong".into(),
            })
        }
        fn unreached() -> Result<(), Failure> {
            panic!("a step after a failed one was run")
        }
        let failure = steps(&[("one", good), ("two", bad), ("three", unreached)]).unwrap_err();
        assert_eq!(failure.to_string(), "step 2 of 3, two, failed");
        steps(&[("one", good)]).unwrap();
    }
}
