//! Where paths lead, and who could have them lead elsewhere.
//!
//! In: paths as people write them. Out: for each, the path that the kernel tells of a program there, its file, and whose
//! [`Hands`] are on the way. A link is followed only where everybody who could put another one there is known: a folder
//! of an ordinary user's leads his own processes elsewhere and nobody else's. From there on where that cannot be told, the path
//! is what it says. Bounded: in steps and links; each path in time, on threads of their own, of which a few may hang. A path
//! that hangs keeps what it led to before, and keeps no other path waiting twice; what lies below what does not answer is not asked.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, openat, readlinkat};

use super::files::{File, Hands, NotKnown, open_known, root_of};
use crate::host::priority::Priority;
use crate::lock;

/// Folders, links and files on the way of one path: people's have some ten, and each costs some microseconds.
const MAX_STEPS: usize = 128;
/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;
/// A path that takes longer is gone on without: one on a disk takes some milliseconds, also on a busy machine.
const PATIENCE: Duration = Duration::from_millis(200);
/// Threads that may hang at once, each with one path.
const MAX_HUNG: usize = 8;
/// Answers remembered: twice those that are asked for.
const MAX_REMEMBERED: usize = 2_048;
/// `FUSE_SUPER_MAGIC` of `linux/magic.h`: its daemon says whose anything is.
const FUSE: i64 = 0x6573_5546;

/// Where a path leads.
#[derive(Debug, Clone)]
pub(super) struct Led {
    /// As the kernel tells it of a program there.
    pub(super) real: String,
    /// Who put the links there that were followed.
    pub(super) hands: Hands,
    /// What is there, and who could put something else there; none where it could not be looked at, or that is anybody.
    pub(super) file: Option<(File, Hands)>,
}

/// Whose `/` a path begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum From {
    /// Ours.
    Here,
    /// That of a process with other mounts.
    Process(u32),
}

type Asked = (From, String);

struct Job {
    paths: Vec<Asked>,
    answers: Sender<Option<Led>>,
    under_way: Arc<UnderWay>,
}

/// Where a thread is; gone when it is through.
#[derive(Debug, Default)]
struct UnderWay(Mutex<String>);

#[derive(Default)]
struct LookUps {
    /// Whoever asks has a turn: nobody's path waits behind another's and is taken for one that hangs.
    turn: Mutex<()>,
    known: Mutex<Known>,
}

struct Hang {
    job: Weak<UnderWay>,
    /// What does not answer: nothing below it does.
    at: String,
}

#[derive(Default)]
struct Known {
    /// The thread that does not hang.
    thread: Option<SyncSender<Job>>,
    /// What threads hang at.
    hung: BTreeMap<Asked, Hang>,
    /// What paths led to last.
    last: BTreeMap<Asked, Led>,
}

static HERE: LazyLock<LookUps> = LazyLock::new(LookUps::default);
/// Of processes with other mounts, which may mount what hangs: none of ours waits for them.
static INSIDE: LazyLock<LookUps> = LazyLock::new(LookUps::default);

/// Makes the threads, while there is room for them.
pub(super) fn make_ready() {
    for look_ups in [&HERE, &INSIDE] {
        let _made_later = lock(&look_ups.known).thread();
    }
}

/// Where these paths lead; none for one of which nothing is known.
pub(super) fn here(paths: &[&str]) -> Vec<Option<Led>> {
    let asked = paths.iter().map(|path| (From::Here, (*path).to_owned()));
    HERE.look_up(&asked.collect::<Vec<_>>())
}

/// Where a path leads for a process.
pub(super) fn inside(pid: u32, path: &str) -> Option<Led> {
    let asked = [(From::Process(pid), path.to_owned())];
    INSIDE.look_up(&asked).pop().flatten()
}

impl LookUps {
    fn look_up(&self, asked: &[Asked]) -> Vec<Option<Led>> {
        let _turn = lock(&self.turn);
        let mut left: Vec<Asked> = {
            let mut known = lock(&self.known);
            known.hung.retain(|_, hang| hang.job.strong_count() > 0);
            let answers = asked.iter().rev().filter(|path| !known.is_hung(path));
            answers.cloned().collect()
        };
        let mut found = BTreeMap::new();
        while !left.is_empty() {
            let (answers, received) = channel();
            let under_way = Arc::<UnderWay>::default();
            let job = Job {
                paths: left.iter().rev().cloned().collect(),
                answers,
                under_way: Arc::clone(&under_way),
            };
            if !lock(&self.known).send(job) {
                break;
            }
            take_answers(&received, &mut left, &mut found);
            if let Some(path) = left.pop() {
                let mut known = lock(&self.known);
                known.give_up(path, &under_way);
                left.retain(|path| !known.is_hung(path));
            }
        }
        let mut known = lock(&self.known);
        known.remember(&found);
        let of = |path: &Asked| found.get(path).cloned().or_else(|| known.last.get(path).cloned());
        asked.iter().map(of).collect()
    }
}

/// What comes in time, the last of `left` first; those of whom nothing came stay there.
fn take_answers(received: &Receiver<Option<Led>>, left: &mut Vec<Asked>, found: &mut BTreeMap<Asked, Led>) {
    while !left.is_empty() {
        let Ok(led) = received.recv_timeout(PATIENCE) else {
            return;
        };
        found.extend(left.pop().zip(led));
    }
}

impl Known {
    fn thread(&mut self) -> Option<&SyncSender<Job>> {
        if self.thread.is_none() {
            let (jobs, received) = sync_channel(1);
            let work = move || {
                // An order waits for it.
                Priority::Serving.take();
                received.into_iter().for_each(work);
            };
            let made = std::thread::Builder::new()
                .name("look-ups".to_owned())
                .spawn(work);
            self.thread = made.is_ok().then_some(jobs);
        }
        self.thread.as_ref()
    }

    fn send(&mut self, job: Job) -> bool {
        if self.hung.len() >= MAX_HUNG {
            return false;
        }
        let sent = self.thread().is_some_and(|thread| thread.try_send(job).is_ok());
        if !sent {
            self.thread = None;
        }
        sent
    }

    /// The thread hangs at that path, and ends when it is through with it.
    fn give_up(&mut self, path: Asked, under_way: &Arc<UnderWay>) {
        tracing::warn!(
            path = path.1,
            "a path that an order or isolation.protected names is not looked up in time: it means what it says, or led to last"
        );
        self.thread = None;
        let at = lock(&under_way.0).clone();
        let job = Arc::downgrade(under_way);
        self.hung.insert(path, Hang { job, at });
    }

    fn is_hung(&self, path: &Asked) -> bool {
        let (from, text) = path;
        let is_below = |at: &str| {
            let rest = text.strip_prefix(at).filter(|_| !at.is_empty());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut others = self.hung.iter().filter(|((of, _), _)| of == from);
        self.hung.contains_key(path) || others.any(|(_, hang)| is_below(&hang.at))
    }

    fn remember(&mut self, found: &BTreeMap<Asked, Led>) {
        if self.last.len() + found.len() > MAX_REMEMBERED {
            self.last.clear();
        }
        let here = found.iter().filter(|((from, _), _)| *from == From::Here);
        self.last
            .extend(here.map(|(path, led)| (path.clone(), led.clone())));
    }
}

fn work(job: Job) {
    for path in job.paths {
        let led = match path.0 {
            From::Here => walk(Way::here(), &path.1, &job.under_way),
            From::Process(pid) => {
                root_of(pid).and_then(|root| walk(Way::inside(root), &path.1, &job.under_way))
            }
        };
        if job.answers.send(led).is_err() {
            // It was given up.
            break;
        }
    }
    drop(job.under_way);
}

/// How a path is gone.
struct Way {
    root: Option<OwnedFd>,
    /// Nothing is asked that is not in memory.
    in_memory: bool,
}

impl Way {
    fn here() -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self {
            root: rustix::fs::open("/", flags, Mode::empty()).ok(),
            in_memory: false,
        }
    }

    const fn inside(root: OwnedFd) -> Self {
        Self {
            root: Some(root),
            in_memory: true,
        }
    }

    fn root(&self) -> Option<OwnedFd> {
        self.root.as_ref()?.try_clone().ok()
    }

    /// What is called so in a folder, also a link itself.
    fn open(&self, folder: &OwnedFd, name: &str) -> Result<OwnedFd, NotKnown> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        if self.in_memory {
            return open_known(folder, name, flags, ResolveFlags::CACHED);
        }
        openat(folder, name, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|_| NotKnown::Absent)
    }
}

/// None where it is no path, or longer than people's are.
fn walk(way: Way, path: &str, under_way: &UnderWay) -> Option<Led> {
    lock(&under_way.0).clear();
    let mut walk = Walk::begin(way, path)?;
    let mut links = 0;
    for _ in 0..MAX_STEPS {
        let Some(name) = walk.left.pop() else {
            return Some(walk.arrived());
        };
        if name == ".." {
            walk.up()?;
            continue;
        }
        *lock(&under_way.0) = walk.path_of(&name);
        let there = walk.way.open(&walk.folder, &name).ok();
        let Some((there, file)) = there.and_then(|there| File::opened(&there).map(|file| (there, file)))
        else {
            return walk.end_unseen(name);
        };
        if file.is_link() {
            links += 1;
            // Somebody could have any link there.
            let hands = walk.hands.and(walk.links_hands).and(hands_of_link(&file));
            if hands == Hands::Anybodys || links > MAX_LINKS {
                return walk.end_unseen(name);
            }
            let target = readlinkat(&there, "", Vec::new()).ok();
            let Some(target) = target.and_then(|target| target.into_string().ok()) else {
                return walk.end_unseen(name);
            };
            (walk.hands, walk.led_by) = (hands, hands);
            walk.follow(&target)?;
        } else if file.is_folder() {
            walk.enter(name, there, &file);
        } else {
            let is_last = walk.left.is_empty();
            walk.file = Some(file).filter(|_| is_last);
            walk.hands = walk.hands.and(walk.links_hands);
            walk.real.push(name);
            if !is_last {
                return walk.end_unseen(String::new());
            }
        }
        if walk.hands == Hands::Anybodys {
            return walk.end_unseen(String::new());
        }
    }
    None
}

const fn hands_of_link(link: &File) -> Hands {
    if link.user == 0 {
        Hands::Roots
    } else {
        Hands::One(link.user)
    }
}

/// A path under way.
struct Walk {
    way: Way,
    folder: OwnedFd,
    device: Option<(u32, u32)>,
    real: Vec<String>,
    /// The next one last.
    left: Vec<String>,
    file: Option<File>,
    /// Who can change the way so far.
    hands: Hands,
    /// The same where the last link was.
    led_by: Hands,
    /// Who can put a link into this folder.
    links_hands: Hands,
}

impl Walk {
    fn begin(way: Way, path: &str) -> Option<Self> {
        let folder = way.root()?;
        let root = File::opened(&folder)?;
        let mut walk = Self {
            way,
            folder,
            device: None,
            real: Vec::new(),
            left: Vec::new(),
            file: None,
            hands: Hands::Roots,
            led_by: Hands::Roots,
            links_hands: Hands::Roots,
        };
        walk.note(&root);
        path.starts_with('/').then(|| walk.put_before(path))?;
        Some(walk)
    }

    fn note(&mut self, folder: &File) {
        self.hands = self.hands.and(folder.hands());
        self.links_hands = folder.hands_of_links();
        if self.device != Some(folder.device) && is_fuse(&self.folder) {
            self.hands = Hands::Anybodys;
        }
        self.device = Some(folder.device);
        self.file = Some(*folder);
    }

    fn put_before(&mut self, path: &str) {
        let parts = path.rsplit('/').filter(|part| !["", "."].contains(part));
        self.left.extend(parts.map(str::to_owned));
    }

    fn enter(&mut self, name: String, there: OwnedFd, folder: &File) {
        self.folder = there;
        self.real.push(name);
        self.note(folder);
    }

    /// Begins at the root again, with the folders that led to where this is.
    fn up(&mut self) -> Option<()> {
        let before = std::mem::take(&mut self.real);
        let before = before.split_last().map(|(_, before)| before.join("/"));
        self.again(&format!("/{}", before.unwrap_or_default()))
    }

    fn follow(&mut self, target: &str) -> Option<()> {
        if target.starts_with('/') {
            self.real.clear();
            return self.again(target);
        }
        self.put_before(target);
        Some(())
    }

    fn again(&mut self, path: &str) -> Option<()> {
        self.folder = self.way.root()?;
        let root = File::opened(&self.folder)?;
        self.device = Some(root.device);
        self.note(&root);
        self.put_before(path);
        Some(())
    }

    fn path_of(&self, name: &str) -> String {
        let before = self.real.iter().map(String::as_str);
        before
            .chain([name])
            .fold(String::new(), |path, part| path + "/" + part)
    }

    fn path(&self) -> String {
        format!("/{}", self.real.join("/"))
    }

    fn arrived(self) -> Led {
        Led {
            real: self.path(),
            hands: self.led_by,
            file: self.file.map(|file| (file, self.hands)),
        }
    }

    /// What is not looked at any more is taken as it is written.
    fn end_unseen(mut self, name: String) -> Option<Led> {
        let rest = Some(name).filter(|name| !name.is_empty());
        self.real.extend(rest);
        self.real.extend(self.left.drain(..).rev());
        let is_detour = self.real.iter().any(|part| part == "..");
        self.file = None;
        (!is_detour).then(|| self.arrived())
    }
}

/// What says of itself whose its folders are.
fn is_fuse(folder: &OwnedFd) -> bool {
    #[expect(
        clippy::useless_conversion,
        reason = "the number has another width on other machines"
    )]
    fstatfs(folder).is_ok_and(|found| i64::from(found.f_type) & 0xffff_ffff == FUSE)
}
