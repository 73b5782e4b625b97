//! What a real nucleus, classic or lite, finds in the internet: the endpoint with TLS, a way to it that can be changed, the cloud.
//!
//! ```text
//! nucleus ── TLS ──► way (delay, hole, cut) ──► stunnel ──► policy (reads, denies) ──► mosquitto ◄── cloud
//!            iot.lab:8883                        :18883      :1884                     :1883
//! ```
//!
//! In: keys and a folder. Out: running programs. TLS ends before the second relay, which has to read topics.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use edgewarden_lab::front::Front;
use edgewarden_lab::site::{BROKER_PORT, INTERNET_V4, Ns, Running, Site, SpawnSpec, lab_program};
use xtask::workspace;

use super::{PATIENCE, clear, connected, wait_for_cloud};
use crate::error::Trouble;
use crate::keys::Keys;

/// The device's name in the cloud.
pub(crate) const THING: &str = "gateway";
/// Where mosquitto listens, without TLS, for the cloud and the relay.
pub(crate) const PLAIN_PORT: u16 = 1_883;
const POLICY_PORT: u16 = 1_884;
/// Where the proxy listens.
pub(crate) const PROXY_PORT: u16 = 3_128;
/// Credentials, and what lite asks about its groups.
const HTTPS_PORTS: [u16; 2] = [443, 8_443];
const TLS_PORT: u16 = 18_883;

/// The running services; they end when dropped, the nearest to the nucleus first.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) way: Front,
    _tls: Running,
    pub(crate) policy: Front,
    pub(crate) cloud: Running,
    pub(crate) broker: Running,
    _proxy: Option<Running>,
}

impl Services {
    pub(crate) fn start(site: &Site, folder: &Path, keys: &Keys, with_proxy: bool) -> Result<Self, Trouble> {
        let broker = broker(site, folder)?;
        let lab = lab_program()?;
        let inside = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let policy = Front::start(
            site,
            Ns::Internet,
            &lab,
            "policy",
            (inside(POLICY_PORT), inside(PLAIN_PORT)),
        )?;
        let tls = tls(site, folder, keys)?;
        let way = Front::start(
            site,
            Ns::Internet,
            &lab,
            "way",
            (SocketAddr::new(INTERNET_V4, BROKER_PORT), inside(TLS_PORT)),
        )?;
        let mut spec = SpawnSpec::new(&lab, folder.join("cloud.log"));
        spec.args = ["cloud", "--min-interval-seconds", "1", "--broker"]
            .iter()
            .map(Into::into)
            .collect();
        spec.args.push(inside(PLAIN_PORT).to_string().into());
        let mut cloud = site.spawn_with(Ns::Internet, spec)?;
        cloud.wait_event(PATIENCE, |event| event["event"] == "connected")?;
        Ok(Self {
            way,
            _tls: tls,
            policy,
            cloud,
            broker,
            _proxy: with_proxy.then(|| proxy(site, folder)).transpose()?,
        })
    }

    /// The broker ends without a word.
    pub(crate) fn kill_broker(&mut self) -> Result<(), Trouble> {
        self.broker.kill9()?;
        Ok(())
    }

    /// It comes back, and the cloud's services with it; `folder` is that of [`Services::start`].
    pub(crate) fn start_broker(&mut self, folder: &Path, forget: bool) -> Result<(), Trouble> {
        if forget {
            let memory = memory(folder);
            clear(&memory)?;
            workspace::make_folder(&memory)?;
        }
        let before = connected(&self.cloud);
        self.broker.restart()?;
        wait_for_cloud(&self.cloud, before)
    }
}

/// Sessions outlive a connection and, by persistence, the broker, as they do in AWS IoT.
fn broker(site: &Site, folder: &Path) -> Result<Running, Trouble> {
    let memory = memory(folder);
    workspace::make_folder(&memory)?;
    let text = format!(
        "listener {PLAIN_PORT} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location {}/\n\
         autosave_interval 1\nautosave_on_changes true\nmax_queued_messages 10000\n",
        memory.display()
    );
    let file = folder.join("mosquitto.conf");
    workspace::write(&file, &text)?;
    let mut spec = SpawnSpec::new("/usr/sbin/mosquitto", folder.join("mosquitto.log"));
    spec.args = vec!["-v".into(), "-c".into(), file.into()];
    spec.ready_port = Some(PLAIN_PORT);
    Ok(site.spawn_with(Ns::Internet, spec)?)
}

/// Where the broker remembers sessions.
fn memory(folder: &Path) -> std::path::PathBuf {
    folder.join("broker")
}

/// Ends TLS and asks for the client's certificate, as AWS IoT does.
fn tls(site: &Site, folder: &Path, keys: &Keys) -> Result<Running, Trouble> {
    let text = format!(
        "foreground = yes\npid =\nsyslog = no\ndebug = 4\n[mqtt]\naccept = 127.0.0.1:{TLS_PORT}\n\
         connect = 127.0.0.1:{POLICY_PORT}\ncert = {}\nkey = {}\nCAfile = {}\nverifyChain = yes\nrequireCert = yes\n\
         TIMEOUTclose = 0\n",
        keys.certificate("endpoint").display(),
        keys.key("endpoint").display(),
        keys.authority().display(),
    );
    let file = folder.join("stunnel.conf");
    workspace::write(&file, &text)?;
    let mut spec = SpawnSpec::new("/usr/bin/stunnel4", folder.join("stunnel.log"));
    spec.args = vec![file.into()];
    spec.ready_port = Some(TLS_PORT);
    Ok(site.spawn_with(Ns::Internet, spec)?)
}

/// Answers every request of HTTPS at the two ports of lite's deployments with 404, as for a role and groups that are not
/// there: of a port that is closed, lite asks again and again, half a minute long in each deployment.
pub(crate) fn https_without_content(site: &Site, folder: &Path, keys: &Keys) -> Result<Running, Trouble> {
    let answer = "read line; printf 'HTTP/1.1 404 Not Found\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n'";
    let script = folder.join("https.sh");
    workspace::write(&script, answer)?;
    let mut text = "foreground = yes\npid =\nsyslog = no\ndebug = 4\n".to_owned();
    for port in HTTPS_PORTS {
        text += &format!(
            "[https{port}]\naccept = {INTERNET_V4}:{port}\ncert = {}\nkey = {}\nexec = /bin/sh\nexecArgs = sh {}\n\
             TIMEOUTclose = 0\n",
            keys.certificate("endpoint").display(),
            keys.key("endpoint").display(),
            script.display(),
        );
    }
    let file = folder.join("https.conf");
    workspace::write(&file, &text)?;
    let mut spec = SpawnSpec::new("/usr/bin/stunnel4", folder.join("https.log"));
    spec.args = vec![file.into()];
    Ok(site.spawn_with(Ns::Internet, spec)?)
}

/// An HTTP proxy that takes CONNECT to the endpoint.
fn proxy(site: &Site, folder: &Path) -> Result<Running, Trouble> {
    let text = format!(
        "Port {PROXY_PORT}\nListen {INTERNET_V4}\nTimeout 3600\nMaxClients 50\nConnectPort {BROKER_PORT}\nLogLevel Info\n"
    );
    let file = folder.join("tinyproxy.conf");
    workspace::write(&file, &text)?;
    let mut spec = SpawnSpec::new("/usr/bin/tinyproxy", folder.join("tinyproxy.log"));
    spec.args = vec!["-d".into(), "-c".into(), file.into()];
    Ok(site.spawn_with(Ns::Internet, spec)?)
}
