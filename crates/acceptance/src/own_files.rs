//! The lab's own copies of a few files in /etc: names, users and name servers that exist nowhere else.
//!
//! In: the machine's files. Out: copies below the run's folder, mounted over them in the lab's private mount namespace;
//! a scenario changes them by writing. The machine's own stay as they are.

use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use edgewarden_lab::site::INTERNET_V4;

use crate::error::{Trouble, io};

/// The endpoint's name, which the broker's certificate carries.
pub(crate) const ENDPOINT: &str = "iot.lab";
/// The name of the endpoint for credentials.
pub(crate) const CREDENTIALS: &str = "cred.lab";
/// The default user of the usual installation.
pub(crate) const COMPONENT_USER: &str = "ggc_user";
/// Its group.
pub(crate) const COMPONENT_GROUP: &str = "ggc_group";
/// Its number: one that no distribution gives out by itself.
pub(crate) const COMPONENT_UID: u32 = 64_901;

/// Makes and mounts them. Namespaces that are made later see them, too.
pub(crate) fn mount_over(folder: &Path) -> Result<(), Trouble> {
    OwnFiles::mount(folder)
}

/// The copies, while they are made.
struct OwnFiles {
    folder: PathBuf,
}

impl OwnFiles {
    /// Makes and mounts them.
    fn mount(folder: &Path) -> Result<(), Trouble> {
        let own = Self {
            folder: folder.to_owned(),
        };
        std::fs::create_dir_all(folder).map_err(io(format!("make {}", folder.display())))?;
        let user = format!(
            "{COMPONENT_USER}:x:{COMPONENT_UID}:{COMPONENT_UID}::{}:/bin/sh\n",
            folder.display()
        );
        own.put("hosts", &format!("127.0.0.1 localhost\n{}", endpoint_line()))?;
        own.put(
            "resolv.conf",
            "nameserver 203.0.113.1\noptions timeout:5 attempts:2\n",
        )?;
        own.put("passwd", &(machine("passwd")? + &user))?;
        own.put(
            "group",
            &(machine("group")? + &format!("{COMPONENT_GROUP}:x:{COMPONENT_UID}:\n")),
        )?;
        for name in ["hosts", "resolv.conf", "passwd", "group"] {
            let (from, to) = (folder.join(name), Path::new("/etc").join(name));
            mount(Some(&from), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(|errno| io(format!("mount over {}", to.display()))(errno.into()))?;
        }
        Ok(())
    }

    /// Writes into the file that is there: a new one would not be the mounted one.
    fn put(&self, name: &str, text: &str) -> Result<(), Trouble> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).map_err(io(format!("write {}", path.display())))
    }
}

/// Whether the endpoint's name is known without asking anybody: writes into the mounted file.
pub(crate) fn know_endpoint(known: bool) -> Result<(), Trouble> {
    let line = if known { endpoint_line() } else { String::new() };
    std::fs::write("/etc/hosts", format!("127.0.0.1 localhost\n{line}"))
        .map_err(io("write the lab's own /etc/hosts"))
}

fn endpoint_line() -> String {
    format!("{INTERNET_V4} {ENDPOINT} {CREDENTIALS}\n")
}

fn machine(name: &str) -> Result<String, Trouble> {
    let path = Path::new("/etc").join(name);
    let mut text = std::fs::read_to_string(&path).map_err(io(format!("read {}", path.display())))?;
    // Another run's lines, when this one was started from within its lab.
    text = text
        .lines()
        .filter(|line| !line.starts_with("ggc_"))
        .map(|line| format!("{line}\n"))
        .collect();
    Ok(text)
}
