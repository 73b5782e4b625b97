//! What a process is, for accounting and for stopping alike, and which container or component it is part of.
//!
//! In: what `/proc` says, as text. Out: plain values. Nothing is read here.

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

/// A process is its pid **and** its start time: pids are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// Process number in our pid namespace.
    pub pid: u32,
    /// Clock ticks after boot, as in field 22 of `/proc/<pid>/stat`.
    pub start_ticks: u64,
}

/// From where a [`ProcessId`] names a process: in another pid or time namespace the same numbers are somebody else's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFrom {
    /// The boot, to which the numbers of namespaces belong.
    pub boot: String,
    /// The pid namespace.
    pub pids: u64,
    /// The time namespace; absent on kernels without.
    pub time: Option<u64>,
}

/// A process as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    pub identity: ProcessId,
    /// pid of its parent.
    pub parent: u32,
    /// The kernel's command name, at most 15 bytes; the process can change it.
    pub name: String,
    /// Path of the program, also of one that was deleted since; absent for kernel threads, zombies and where it
    /// cannot be read.
    pub exe: Option<String>,
    /// cgroup v2 path, or of a service of the nucleus on an older host its path in a named hierarchy; absent when there is none.
    pub cgroup: Option<String>,
    /// What it is part of; absent for a process of the system itself.
    pub workload: Option<Workload>,
}

/// Bytes shown and recorded of a path: whoever has the program put somewhere chooses how long it is, and what is recorded must be
/// read again.
const SHOWN_PATH: usize = 512;

impl Process {
    /// Path of its program, for people and records: of a long one the middle is left out.
    #[must_use]
    pub fn shown_exe(&self) -> Option<String> {
        self.exe.as_deref().map(shown_path)
    }
}

fn shown_path(path: &str) -> String {
    if path.len() <= SHOWN_PATH {
        return path.to_owned();
    }
    let half = SHOWN_PATH / 2;
    let (begin, _) = path.split_at(path.floor_char_boundary(half));
    let (_, end) = path.split_at(path.ceil_char_boundary(path.len() - half));
    format!("{begin}…{end}")
}

/// Bytes of its name that the kernel keeps of a process.
const KEPT_NAME: usize = 15;

/// A name as people write it, with `*` for any run of characters and `?` for any one. The kernel keeps 15 bytes of a name,
/// and the process may change it, so the program's file is compared too; a script, whose program is its interpreter, goes by what
/// is kept.
#[derive(Debug)]
pub struct NamePattern {
    whole: WildMatch,
    /// What the kernel would keep of any name that is meant; none where that is less than is kept, or not known.
    kept: Option<String>,
    /// Any name that is meant is longer than what the kernel keeps.
    is_long: bool,
}

impl NamePattern {
    /// Any text is a pattern.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let literal = text.split(['*', '?']).next().unwrap_or_default();
        Self {
            whole: WildMatch::new(text),
            kept: (literal.len() > KEPT_NAME).then(|| kept_name(literal).to_owned()),
            is_long: text
                .chars()
                .filter(|c| *c != '*')
                .map(char::len_utf8)
                .sum::<usize>()
                > KEPT_NAME,
        }
    }

    /// Whether a process is meant: by the name that the kernel keeps, and by the path of its program.
    #[must_use]
    pub fn matches(&self, name: &str, exe: Option<&str>) -> bool {
        self.means(name, exe, false)
    }

    /// The same where somebody else than root can change the program (`is_others`): whatever it is called, it is no interpreter by
    /// that.
    #[must_use]
    pub fn means(&self, name: &str, exe: Option<&str>, is_others: bool) -> bool {
        if self.whole.matches(name) {
            return true;
        }
        let program = exe.and_then(|exe| exe.rsplit('/').next()).unwrap_or_default();
        let runs_scripts = !is_others && is_interpreter(program);
        if program.len() <= KEPT_NAME {
            // A process may call itself anything; one that runs an interpreter may be a script, which is called by its own name.
            return self.is_kept(name) || (!runs_scripts && self.whole.matches(program));
        }
        // A name that is the beginning of the program's is what is left of it; one that the process chose is no name of it.
        let is_cut = kept_name(program) == kept_name(name);
        let is_programs = is_cut || self.is_long || !runs_scripts;
        is_programs && self.whole.matches(program) || (!is_cut && self.is_kept(name))
    }

    fn is_kept(&self, name: &str) -> bool {
        self.kept.as_deref() == Some(kept_name(name))
    }
}

/// Programs that run scripts, each of which goes by its own name; versions follow theirs.
const INTERPRETERS: [&str; 14] = [
    "ash", "awk", "bash", "busybox", "dash", "ksh", "lua", "node", "perl", "php", "python", "ruby", "sh",
    "zsh",
];

/// Whether the program of that path has the name of one.
#[must_use]
pub fn is_called_interpreter(exe: &str) -> bool {
    exe.rsplit('/').next().is_some_and(is_interpreter)
}

fn is_interpreter(program: &str) -> bool {
    let kind = program.trim_end_matches(|c: char| c.is_ascii_digit() || ".-".contains(c));
    INTERPRETERS.contains(&kind)
}

/// What of a name the kernel keeps, without a letter that it cuts in two.
#[must_use]
pub fn kept_name(name: &str) -> &str {
    let end = (0..=KEPT_NAME).rev().find(|end| name.is_char_boundary(*end));
    let kept = end.and_then(|end| name.get(..end)).unwrap_or(name);
    kept.trim_end_matches(char::REPLACEMENT_CHARACTER)
}

/// What a process is part of, as its cgroup tells: a label for people. Only root can make a component's; a user with a
/// cgroup tree of its own can make one there that looks like a container's, so nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Workload {
    /// A container, by the first 12 digits of its id, as the tools of every container engine show it.
    Container(String),
    /// A Greengrass component, by its name: on lite every component; on classic those with limits of their own.
    Component(String),
}

impl std::fmt::Display for Workload {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Container(id) => write!(out, "container {id}"),
            Self::Component(name) => write!(out, "component {name}"),
        }
    }
}

/// Levels of a cgroup path looked at, from the innermost; nested engines and pods need five.
const MAX_LEVELS: usize = 16;
/// Lines of `/proc/<pid>/cgroup` looked at; cgroup v1 has one a controller, of which there are 14.
const MAX_HIERARCHIES: usize = 32;
/// Longest component name in bytes; Greengrass allows 128.
const MAX_COMPONENT: usize = 128;
/// Digits in a container's id.
const ID_DIGITS: usize = 64;
/// As many of them name it.
const SHORT_DIGITS: usize = 12;

impl Workload {
    /// From the whole text of `/proc/<pid>/cgroup`: the v2 line where there is one, else any of v1.
    #[must_use]
    pub fn of_cgroups(text: &str) -> Option<Self> {
        let lines = || text.lines().take(MAX_HIERARCHIES);
        let unified = lines().find_map(|line| line.strip_prefix("0::"));
        // `number:controllers:path`; a path may hold colons.
        let others = lines().filter_map(|line| line.splitn(3, ':').nth(2));
        unified.into_iter().chain(others).find_map(Self::of_path)
    }

    /// From one path. A container's innermost level counts; a component's place is at the top, where only root can make
    /// cgroups.
    fn of_path(path: &str) -> Option<Self> {
        let levels = || path.rsplit('/').take(MAX_LEVELS);
        levels()
            .zip(levels().skip(1).chain([""]))
            .find_map(|(level, above)| container(level, above))
            .or_else(|| component(path))
    }
}

/// `<engine>-<id>.scope` as systemd has it (docker, libpod, cri-containerd, crio), or `<id>` below a level of an engine
/// or of a pod as those do that make cgroups themselves.
fn container(level: &str, above: &str) -> Option<Workload> {
    let id = match level.strip_suffix(".scope") {
        Some(scope) => scope.rsplit_once('-')?.1,
        None => {
            let engine = ["docker", "libpod_parent"].contains(&above) || above.starts_with("pod");
            level
                .strip_prefix("libpod-")
                .or_else(|| engine.then_some(level))?
        }
    };
    let hexadecimal = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if id.len() != ID_DIGITS || !id.bytes().all(hexadecimal) {
        return None;
    }
    Some(Workload::Container(id.get(..SHORT_DIGITS)?.to_owned()))
}

/// `ggl.<component>.service` of lite, or `<component>` below `/greengrass` of classic.
fn component(path: &str) -> Option<Workload> {
    let (top, rest) = path.strip_prefix('/')?.split_once('/')?;
    let level = rest.split('/').next()?;
    let name = match top {
        "system.slice" => level.strip_prefix("ggl.")?.strip_suffix(".service")?,
        "greengrass" => level,
        _ => return None,
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let well_formed = !name.is_empty() && name.len() <= MAX_COMPONENT && name.bytes().all(allowed);
    well_formed.then(|| Workload::Component(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn of(text: &str) -> Option<Workload> {
        Workload::of_cgroups(&text.replace("ID", ID))
    }

    #[test]
    fn the_middle_of_a_long_path_is_left_out() {
        assert_eq!(shown_path("/opt/rogue"), "/opt/rogue");
        let exact = "x".repeat(SHOWN_PATH);
        assert_eq!(shown_path(&exact), exact);
        let long = format!("/begin{}end", "ä".repeat(2_000));
        let shown = shown_path(&long);
        assert!(shown.starts_with("/beginä") && shown.ends_with("äend"), "{shown}");
        assert!(shown.contains('…') && shown.len() <= SHOWN_PATH + 3, "{shown}");
    }

    #[test]
    fn containers_of_all_engines_are_known_by_their_id() {
        let known = Some(Workload::Container("0123456789ab".into()));
        for path in [
            "/system.slice/docker-ID.scope",
            "/docker/ID",
            "/docker/ID/system.slice/ssh.service",
            "/machine.slice/libpod-ID.scope/container",
            "/libpod_parent/libpod-ID",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-pod1_2.slice/crio-ID.scope",
            "/kubepods/besteffort/pod6b1f3c1e-1c7b-4c52-9a3c-0d0b0e7d2c11/ID",
            "/system.slice/ggl.com.example.Engine.service/docker/ID",
        ] {
            assert_eq!(of(&format!("0::{path}\n")), known, "{path}");
        }
        let v1 = "12:pids:/docker/ID\n1:name=systemd:/docker/ID\n0::/\n";
        assert_eq!(of(v1), known, "the controllers of cgroup v1 tell");
    }

    #[test]
    fn components_of_lite_and_classic_are_known_by_their_name() {
        let known = Some(Workload::Component("com.example.Hello_1-a".into()));
        for text in [
            "0::/system.slice/ggl.com.example.Hello_1-a.service\n",
            "0::/system.slice/ggl.com.example.Hello_1-a.service/inner\n",
            "0::/greengrass/com.example.Hello_1-a\n",
            "4:memory:/greengrass/com.example.Hello_1-a\n3:cpu,cpuacct:/greengrass/com.example.Hello_1-a\n",
        ] {
            assert_eq!(of(text), known, "{text}");
        }
    }

    #[test]
    fn nothing_is_made_up_for_other_paths() {
        let long = format!("0::/greengrass/{}\n", "a".repeat(MAX_COMPONENT + 1));
        let deep = format!("0::/docker/ID{}\n", "/a".repeat(MAX_LEVELS));
        for text in [
            "",
            "0::/\n",
            "garbage",
            "0::/user.slice/user-0.slice/session-1.scope\n",
            "0::/system.slice/docker.service\n",
            "0::/docker/0123\n",
            "0::/docker/\u{e9}123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\n",
            "0::/home/ID\n",
            "0::/system.slice/greengrass.service\n",
            "0::/greengrass\n",
            "0::/greengrass/a b\n",
            "0::/user.slice/user-1000.slice/user@1000.service/greengrass/com.example.Fake\n",
            "0::/user.slice/user-1000.slice/user@1000.service/ggl.com.example.Fake.service\n",
            "0::/system.slice/ggl..service\n",
            &long,
            &deep,
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn a_workload_is_written_as_kind_and_name() {
        let text = |workload| serde_json::to_string(&workload).unwrap();
        assert_eq!(
            text(Workload::Container("0123456789ab".into())),
            r#"{"container":"0123456789ab"}"#
        );
        assert_eq!(text(Workload::Component("a.B".into())), r#"{"component":"a.B"}"#);
    }

    #[test]
    fn a_name_of_more_than_fifteen_letters_is_what_people_mean() {
        let is = |pattern: &str, name: &str, exe: &str| NamePattern::new(pattern).matches(name, Some(exe));
        let (cut, exe) = ("telemetry-uploa", "/opt/telemetry-uploader");
        for pattern in [
            "telemetry-uploader",
            "telemetry-uploa",
            "telemetry-*",
            "*-uploader",
            "telemetry-upload??",
            "telemetry-uplo*r",
        ] {
            assert!(is(pattern, cut, exe), "{pattern}");
        }
        for pattern in [
            "telemetry-uploads",
            "telemetry-upload",
            "uploader",
            "telemetry-uploader2",
        ] {
            assert!(!is(pattern, cut, exe), "{pattern}");
        }
        // A script goes by what the kernel keeps; a name that the process chose hides no program.
        assert!(is("telemetry-uploader.py", cut, "/usr/bin/python3"));
        assert!(is("telemetry-uploader", "kworker", exe));
        assert!(!is("telemetry-up", "kworker", exe));
        // Short names are as they were.
        assert!(is("bash", "bash", "/bin/bash") && !is("bash", "x.sh", "/bin/bash"));
        // A short name that the process chose hides no program either, but an interpreter's file says nothing of a script.
        assert!(is("rogue", "kworker", "/opt/rogue") && is("ro*e", "x", "/opt/rogue-of-sixteen-e"));
        assert!(!is("python*", "x.py", "/usr/bin/python3.11"));
        // What others can change is no interpreter, whatever it is called.
        for exe in ["/home/u/sh.1", "/home/u/node-2", "/home/u/python3.9"] {
            let (_, program) = exe.rsplit_once('/').unwrap();
            let pattern = NamePattern::new(program);
            assert!(pattern.means("harmless", Some(exe), true), "{exe}");
            assert!(!pattern.means("harmless", Some(exe), false), "{exe}: control");
        }
        // A letter that is cut in two.
        assert!(is("zwölf-zähleröße", "zwölf-zähler\u{fffd}", "/usr/bin/python3"));
        assert!(!NamePattern::new("telemetry-uploader").matches("", None));
    }
}
