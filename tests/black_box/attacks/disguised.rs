//! Programs that show no path, another one, or another name: rules mean them all the same, and nobody is protected by what an
//! ordinary user can put on.
//!
//! Each test shows first that an order stops whoever does nothing about it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Ns, Running, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions, copy_program};
use serde_json::json;

use super::processes::{order_processes, release};
use crate::common::agent::joined;
use crate::common::gateway::{NOBODY, by_user};
use crate::common::programs::{build, run, sender, state_of, wait_state};
use crate::common::told::shown;
use crate::common::{LIMIT, options, ready};

/// Starts a program as an ordinary user.
pub(super) fn run_as_nobody(stage: &Stage, program: &Path, args: &[&str]) -> Running {
    // He must reach it.
    std::fs::set_permissions(stage.site.directory(), PermissionsExt::from_mode(0o711)).unwrap();
    by_user(stage, NOBODY, &["setsid"], program, args)
}

pub(super) fn wait_name(pid: u32, name: &str) {
    wait_until(LIMIT, name, || {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    })
    .unwrap();
}

/// Its first thread ends, and more than a hundred others, whom the process that traces them does not bury; one goes on.
const UNBURIED: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>
enum { MANY = 128 };
static pid_t ids[MANY];
static volatile int over;
static int told[2], traced[2];
static void *dies(void *at) { ids[(long)at] = syscall(SYS_gettid); while (!over) usleep(1000); return 0; }
static void *goes_on(void *none) { for (;;) usleep(10000); }
int main(void) {
    pipe(told); pipe(traced);
    char any = 0;
    if (fork()) {
        prctl(PR_SET_NAME, "zq-helper");
        read(told[0], ids, sizeof ids);
        for (int i = 0; i < MANY; i++) ptrace(PTRACE_SEIZE, ids[i], 0, 0);
        write(traced[1], &any, 1);
        for (;;) pause();
    }
    prctl(PR_SET_NAME, "zq-unburied");
    pthread_t thread;
    for (long i = 0; i < MANY; i++) pthread_create(&thread, 0, dies, (void *)i);
    pthread_create(&thread, 0, goes_on, 0);
    usleep(500000);
    write(told[1], ids, sizeof ids);
    read(traced[0], &any, 1);
    over = 1;
    usleep(300000);
    pthread_exit(0);
}
"#;

lab_test!(a_program_behind_threads_that_nobody_buries_is_killed, || {
    let stage = ready(options());
    let program = build(&stage, "zq-burying", UNBURIED);
    let helper = run(&stage, &program, &[]);
    let children = format!("/proc/{pid}/task/{pid}/children", pid = helper.pid());
    let child = || std::fs::read_to_string(&children).unwrap();
    let child = || child().split_ascii_whitespace().next()?.parse::<u32>().ok();
    wait_until(LIMIT, "its first thread has ended", || {
        child().and_then(state_of) == Some('Z')
    })
    .unwrap();
    let rogue = child().unwrap();
    let goes_on = || {
        let threads = std::fs::read_dir(format!("/proc/{rogue}/task"))
            .into_iter()
            .flatten();
        let mut ids = threads
            .flatten()
            .filter_map(|one| one.file_name().to_str()?.parse().ok());
        ids.any(|thread: u32| state_of(thread).is_some_and(|state| state != 'Z'))
    };
    assert!(goes_on(), "control: one thread goes on");
    order_processes(&stage, &json!({"exe": program, "name": "zq-unburied"}), "kill");
    wait_until(LIMIT, "none goes on", || !goes_on()).unwrap();
});

/// Gives itself another name, so that nothing but its file tells.
const RENAMED: &str = r#"
#include <sys/prctl.h>
#include <unistd.h>
int main(void) { prctl(PR_SET_NAME, "kworker/u8:1"); for (;;) usleep(10000); }
"#;

lab_test!(a_name_that_a_process_gave_itself_hides_no_program, || {
    let stage = ready(options());
    let program = build(&stage, "zq-short", RENAMED);
    let renamed = run(&stage, &program, &[]);
    wait_name(renamed.pid(), "kworker/u8:1");
    let plain = sender(&stage, "zq-named");
    order_processes(&stage, &json!({"name": "zq-named"}), "freeze");
    wait_state(&plain, "T");
    assert!(state_of(renamed.pid()) != Some('T'), "control: nobody named it");
    order_processes(&stage, &json!({"name": "zq-short"}), "freeze");
    wait_state(&renamed, "T");
    release(&stage);
});

/// Shows another file as its program: in a user namespace of his own anybody may do that once nothing of the old one is mapped.
const MASKED: &str = include_str!("masked.c");

lab_test!(
    nobody_is_protected_by_a_program_that_an_ordinary_user_puts_on,
    || {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let genuine = folder.path().canonicalize().unwrap().join("zq-genuine");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        copy_program(Path::new("/bin/sleep"), &genuine).unwrap();
        let stage = ready(StageOptions {
            configuration: json!({
                "development": {"reportIntervalSeconds": 2},
                "isolation": {"protected": [genuine]},
            }),
            ..options()
        });
        let log = stage.site.directory().join("programs.log");
        let roots = stage
            .site
            .spawn(Ns::Gateway, &genuine, &["600"], &[], &log)
            .unwrap();
        let worn = run_as_nobody(&stage, &genuine, &["600"]);
        let masked = run_as_nobody(
            &stage,
            &build(&stage, "zq-masked", MASKED),
            &[genuine.to_str().unwrap()],
        );
        wait_name(worn.pid(), "zq-genuine");
        let exe = || std::fs::read_link(format!("/proc/{}/exe", masked.pid())).unwrap_or_default();
        wait_until(LIMIT, "control: it shows that program", || exe() == genuine).unwrap();
        order_processes(&stage, &json!({"exe": genuine}), "freeze");
        wait_state(&masked, "T");
        wait_state(&worn, "T");
        assert!(state_of(roots.pid()) != Some('T'), "control: root's is spared");
        let status = stage.status();
        assert_eq!(shown(&status, worn.pid())["action"], "freeze", "{status}");
        let spared = joined(&status["enforcement"]["spared"]);
        assert!(
            spared.contains(&format!("({}) is not stopped", roots.pid()))
                && spared.contains(&format!("({}) is not spared, although", worn.pid())),
            "{spared}"
        );
        release(&stage);
    }
);

/// Its name would show another one to whoever reads the log.
const REVERSED: &str = r#"
#include <sys/prctl.h>
#include <unistd.h>
int main(void) { prctl(PR_SET_NAME, "zq\xe2\x80\xaereversed"); for (;;) usleep(10000); }
"#;

lab_test!(the_log_shows_names_as_they_are, || {
    let stage = ready(options());
    let _log = stage.site.directory().join("programs.log");
    let program = build(&stage, "zq-reversed", REVERSED);
    let rogue = run(&stage, &program, &[]);
    wait_name(rogue.pid(), "zq\u{202e}reversed");
    order_processes(&stage, &json!({"exe": program}), "freeze");
    wait_state(&rogue, "T");
    let told = || stage.agent_output().contains("process stopped");
    wait_until(LIMIT, "control: the log names it", told).unwrap();
    let output = stage.agent_output();
    assert!(
        output.contains("zq\\u{202e}reversed") && !output.contains('\u{202e}'),
        "{output}"
    );
    release(&stage);
});
