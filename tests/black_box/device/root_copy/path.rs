//! The nucleus' own PATH finds nothing for root.

use super::*;

/// As `PATH=$UNSET:…` makes it: the empty entry is the folder a step runs in.
const PATH_WITH_AN_EMPTY_ENTRY: &str = ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What the steps call.
const CALLED: &[&str] = &[
    "chmod",
    "cp",
    "find",
    "id",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "sha256sum",
    "wc",
];

lab_test!(
    no_program_in_the_component_users_folder_runs_as_root_whatever_the_path,
    || {
        if !is_root() {
            return;
        }
        let variable = format!("PATH={PATH_WITH_AN_EMPTY_ENTRY}");
        let mut stage = shipped(Personality::Classic, &["--set-env", &variable]);
        stage.nucleus.terminate().unwrap();
        stage.nucleus.wait_exit(LIMIT).unwrap();
        let work = stage.site.directory().join("greengrass/work/io.edgewarden.Agent");
        for name in CALLED {
            let program = work.join(name);
            let text = format!(
                "#!/bin/sh\n/usr/bin/id -u >>{}\nPATH=/usr/bin:/bin\nexec {name} \"$@\"\n",
                place(&stage).display()
            );
            fs::write(&program, text).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            chown(&program, Some(USER), Some(USER)).unwrap();
        }
        chown(&work, Some(USER), Some(USER)).unwrap();
        let script = format!("cd \"$1\"; PATH={PATH_WITH_AN_EMPTY_ENTRY}; id; ls");
        assert!(as_user(&script, &[&work]).status.success(), "control");
        let ran = || fs::read_to_string(place(&stage)).unwrap();
        assert_eq!(ran().lines().count(), 2, "control: that PATH finds them");
        // Install and run steps, as at each start of the classic nucleus.
        let started = events(&stage, "started").len();
        stage.nucleus.restart().unwrap();
        wait_until(LIMIT, "started again", || {
            events(&stage, "started").len() > started
        })
        .unwrap();
        works(&stage);
        not_as_root(&stage, "found by the nucleus' PATH");
    }
);
