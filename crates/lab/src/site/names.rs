//! Names in the site: who answers questions for them, and from what.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{IN_LAB, Ns, Running, Site, SiteError, SpawnSpec, lab_program, tools};

/// How long the name server may take to listen.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Puts a `resolv.conf` of the lab's own in place of the machine's, for every namespace that a [`Site`] makes afterwards.
///
/// # Errors
/// Outside a lab, or when the mount is refused.
pub fn ask_name_servers(servers: &[impl Display]) -> Result<(), SiteError> {
    if std::env::var_os(IN_LAB).is_none() {
        return Err(SiteError::OutsideLab);
    }
    let file = Path::new("/run/edgewarden-lab-resolv.conf");
    let lines = servers.iter().map(|server| format!("nameserver {server}\n"));
    write(file, lines.collect::<String>().as_bytes())?;
    let path = file.to_str().unwrap_or_default();
    tools::run("mount", &["--bind", path, "/etc/resolv.conf"], "")
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), SiteError> {
    std::fs::write(path, bytes).map_err(|source| SiteError::File {
        path: path.to_owned(),
        source,
    })
}

impl Site {
    /// What every name server of [`Site::name_server`] answers from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_names(&self, records: &Value) -> Result<(), SiteError> {
        let file = self.directory().join("names.json");
        let fresh = file.with_extension("new");
        write(&fresh, records.to_string().as_bytes())?;
        std::fs::rename(&fresh, &file).map_err(|source| SiteError::File { path: file, source })
    }

    /// A name server on port 53 of `address`, an address of `ns`.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub fn name_server(&self, ns: Ns, address: IpAddr) -> Result<Running, SiteError> {
        let file = self.directory().join("names.json");
        self.start_name_server(ns, address, &["--records", file.to_str().unwrap_or_default()])
    }

    /// A stub on port 53 of `address`, an address of `ns`, that asks `server`.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub fn name_stub(&self, ns: Ns, address: IpAddr, server: IpAddr) -> Result<Running, SiteError> {
        let server = std::net::SocketAddr::new(server, 53).to_string();
        self.start_name_server(ns, address, &["--forward", &server])
    }

    fn start_name_server(&self, ns: Ns, address: IpAddr, args: &[&str]) -> Result<Running, SiteError> {
        let listen = std::net::SocketAddr::new(address, 53).to_string();
        let log = self.directory().join(format!("names-{}.log", ns.name()));
        let mut spec = SpawnSpec::new(lab_program()?, log);
        spec.args = ["dns", "--listen", &listen].iter().map(Into::into).collect();
        spec.args.extend(args.iter().map(Into::into));
        let mut server = self.spawn_with(ns, spec)?;
        server.wait_event(START_LIMIT, |event| event["event"] == "listening")?;
        Ok(server)
    }
}
