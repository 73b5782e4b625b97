//! Keys and certificates of one run: an authority, the endpoint, the gateway.
//!
//! In: a folder. Out: PEM files made by openssl; valid for a day, for nobody else.

use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::workspace;

use crate::error::{Trouble, io};
use crate::own_files::{CREDENTIALS, ENDPOINT};

/// Longer than any run, and useless soon after.
const DAYS: &str = "1";

/// The files.
#[derive(Debug)]
pub(crate) struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Makes them all.
    pub(crate) fn make(folder: &Path) -> Result<Self, Trouble> {
        workspace::make_folder(folder)?;
        let keys = Self {
            folder: folder.to_owned(),
        };
        keys.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            DAYS,
            "-subj",
            "/CN=acceptance",
            "-keyout",
            "authority.key",
            "-out",
            "authority.pem",
        ])?;
        keys.sign("endpoint", ENDPOINT)?;
        keys.sign("gateway", "gateway")?;
        Ok(keys)
    }

    fn sign(&self, name: &str, host: &str) -> Result<(), Trouble> {
        let (key, request) = (format!("{name}.key"), format!("{name}.csr"));
        let extensions = format!("{name}.ext");
        workspace::write(
            &self.folder.join(&extensions),
            &format!("subjectAltName=DNS:{host},DNS:{CREDENTIALS}\n"),
        )?;
        self.openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            &format!("/CN={host}"),
            "-keyout",
            &key,
            "-out",
            &request,
        ])?;
        self.openssl(&[
            "x509",
            "-req",
            "-days",
            DAYS,
            "-in",
            &request,
            "-CA",
            "authority.pem",
            "-CAkey",
            "authority.key",
            "-CAcreateserial",
            "-extfile",
            &extensions,
            "-out",
            &format!("{name}.pem"),
        ])
    }

    fn openssl(&self, arguments: &[&str]) -> Result<(), Trouble> {
        let mut command = Command::new("openssl");
        let command = command.args(arguments).current_dir(&self.folder);
        let output = command.output().map_err(io("start openssl"))?;
        if output.status.success() {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(io(format!("run openssl {}", arguments.join(" ")))(
            std::io::Error::other(errors),
        ))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }
}
