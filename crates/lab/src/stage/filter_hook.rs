//! A hand between the agent and the kernel's packet filter: it can hold messages back, lose them, have them refused, and do
//! something right before or after a transaction, which the kernel carries out while it is sent.
//!
//! In: which of that, as files in a folder. Out: an agent that is started with it. Linked programs only, as
//! [`preload`](super::preload).

use std::path::{Path, PathBuf};

use super::Stage;
use super::preload::library;
use crate::site::SiteError;

/// Messages wait as long as this file is there; those of one thread only, if its name is in it.
pub const HANGS: &str = "hangs";
/// Written when a message waits.
pub const HELD: &str = "held";
/// Each message takes a quarter of a second.
pub const SLOW: &str = "slow";
/// Messages are not taken as long as this file is there.
pub const FAILS: &str = "fails";
/// Layers (`netdev`, `bridge`) whose chains the kernel refuses.
pub const REFUSED: &str = "refused";
/// Expressions (`limit`, `ct`) that the kernel does not know; `sockets`: it does not tell control groups of sockets. As on older
/// kernels, `ipoption`: options of IPv4 are not read; `answerer`: nor who answers a flow; `filled`: rules fill no sets; `ending`: blocks in sets do not end; `places`: a
/// refusal does not say what of a message it is about; `empty`: an empty transaction counts.
pub const LACKS: &str = "lacks";
/// Each transaction is kept in the file [`TRANSACTION`], in place of the one before.
pub const RECORDS: &str = "records";
/// The bytes of the newest transaction.
pub const TRANSACTION: &str = "transaction";
/// A dot for each empty transaction that counted.
pub const COUNTED: &str = "counted";
/// Shell text that runs before each transaction, with `$folder`.
pub const BEFORE: &str = "before";
/// The same right after each transaction.
pub const AFTER: &str = "after";

/// Lets everything leave under the comment of our first rule, right after each load; only after the first one where a file
/// `once` is in the folder. Each edit is a line of the file `edits`.
pub const EDIT_AFTER_LOAD: &str = r#"
/usr/sbin/nft -a list chain inet edgewarden output 2>/dev/null | while read -r line; do
  case "$line" in
    *'comment "ew:loopback'*)
      handle=${line##*handle }
      comment=${line##*comment \"}
      comment=${comment%%\"*}
      /usr/sbin/nft replace rule inet edgewarden output handle "$handle" accept comment "\"$comment\"" && echo edited >> "$folder/edits"
      ;;
  esac
done
if [ -e "$folder/once" ]; then rm "$folder/after"; fi
"#;

/// A transaction begins with message 16 and is longer than the empty one that only waits for its turn. Chains (message 3 of
/// subsystem 10) of a refused layer are sent for a hook that no layer has (attribute 4, in it 1), as a kernel without that
/// layer sees all of its hooks. Expressions (attribute 1 is their name) that are lacking are sent under a name that no kernel has,
/// and what is asked of sockets (attribute 2 of `meta`) under such a number.
const SEND: &str = r#"
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
static void place(char *path, size_t length, const char *name) {
    const char *folder = getenv("FILTER_HOOK");
    snprintf(path, length, "%s/%s", folder ? folder : "/nonexistent", name);
}
static int there(const char *name) {
    char path[512];
    place(path, sizeof path, name);
    return access(path, F_OK) == 0;
}
static void write_file(const char *name, const void *bytes, size_t length) {
    char path[512];
    place(path, sizeof path, name);
    FILE *file = fopen(path, "w");
    if (!file) return;
    fwrite(bytes, 1, length, file);
    fclose(file);
}
static int says(const char *name, const char *word) {
    char path[512], text[256] = {0};
    place(path, sizeof path, name);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    return length > 0 && strstr(text, word) != NULL;
}
static void run(const char *name) {
    char path[512], command[1400];
    if (!there(name)) return;
    place(path, sizeof path, name);
    snprintf(command, sizeof command, "unset LD_PRELOAD; folder=%s; export folder; . %s", getenv("FILTER_HOOK"), path);
    if (system(command) < 0) perror(name);
}
static int is_filter(int fd) {
    int domain = 0, protocol = 0;
    socklen_t one = sizeof domain, two = sizeof protocol;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &one) == 0 && domain == AF_NETLINK
        && getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &two) == 0 && protocol == 12;
}
static char *attribute(char *bytes, char *end, int number) {
    while (bytes + 4 <= end) {
        uint16_t size, type;
        memcpy(&size, bytes, 2);
        memcpy(&type, bytes + 2, 2);
        if ((type & 0x3fff) == number) return bytes;
        if (size < 4) return NULL;
        bytes += (size + 3) & ~3u;
    }
    return NULL;
}
static void refuse(char *bytes, size_t length) {
    int netdev = says("refused", "netdev"), bridge = says("refused", "bridge");
    for (size_t at = 0; at + 20 <= length;) {
        uint32_t size;
        uint16_t type;
        memcpy(&size, bytes + at, 4);
        memcpy(&type, bytes + at + 4, 2);
        char family = bytes[at + 16], *end = bytes + at + size;
        if (size < 16 || at + size > length) return;
        char *flags = type == (10 << 8 | 9) && says("lacks", "ending") ? attribute(bytes + at + 20, end, 3) : NULL;
        if (flags && flags[7] == 0x14) flags[7] = 99;
        if (type == (10 << 8 | 3) && ((netdev && family == 5) || (bridge && family == 7))) {
            char *hook = attribute(bytes + at + 20, end, 4), *number = hook ? attribute(hook + 4, end, 1) : NULL;
            if (number) number[7] = 7;
        }
        at += (size + 3) & ~3u;
    }
}
static void forget(char *bytes, size_t length) {
    static const char *const known[] = {"limit", "ct", "quota", "exthdr", "rt"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char name[12] = {0};
        size_t size = strlen(known[i]) + 1;
        if (!says("lacks", known[i])) continue;
        name[0] = (char)(4 + size);
        name[2] = 1;
        memcpy(name + 4, known[i], size);
        for (size_t at = 0; at + 4 + size <= length; at++) {
            if (memcmp(bytes + at, name, 4 + size) == 0) bytes[at + 4] = 'x';
        }
    }
}
static void forget_sockets(char *bytes, size_t length) {
    static const char cgroup[] = {8, 0, 2, 0, 0, 0, 0, 23};
    if (!says("lacks", "sockets")) return;
    for (size_t at = 0; at + sizeof cgroup <= length; at++) {
        if (memcmp(bytes + at, cgroup, sizeof cgroup) == 0) bytes[at + 7] = 99;
    }
}
/* In each expression of that name the attribute of that number, if it has that value, gets one that no kernel knows. */
static void spoil(char *bytes, size_t length, const char *expression, char number, char value) {
    char name[12] = {0}, known[8] = {8, 0, number, 0, 0, 0, 0, value};
    size_t size = strlen(expression) + 1;
    name[0] = (char)(4 + size);
    name[2] = 1;
    memcpy(name + 4, expression, size);
    for (size_t at = 0; at + 4 + size <= length; at++) {
        if (memcmp(bytes + at, name, 4 + size) != 0) continue;
        for (size_t in = at + 8; in + 8 <= at + 64 && in + 8 <= length; in += 4) {
            if (memcmp(bytes + in, known, 8) != 0) continue;
            bytes[in + 7] = 99;
            break;
        }
    }
}
static void age(char *bytes, size_t length) {
    if (says("lacks", "ipoption")) spoil(bytes, length, "exthdr", 6, 2);
    for (char operation = 0; operation < 3; operation++) {
        if (says("lacks", "filled")) spoil(bytes, length, "dynset", 3, operation);
    }
    if (says("lacks", "answerer")) {
        spoil(bytes, length, "ct", 2, 19);
        spoil(bytes, length, "ct", 2, 21);
    }
}
/* In the place of an empty transaction one that makes a table and removes it: it counts. */
static ssize_t count(int fd, const char *empty, int flags) {
    ssize_t (*real)(int, const void *, size_t, int) = dlsym(RTLD_NEXT, "send");
    static const char table[20] = {16, 0, 1, 0, 'o', 'l', 'd', '-', 'k', 'e', 'r', 'n', 'e', 'l', 0};
    char all[112] = {0};
    memcpy(all, empty, 20);
    for (int i = 0; i < 2; i++) {
        char *message = all + 20 + i * 36;
        uint32_t size = 36;
        uint16_t type = 10 << 8 | (i == 0 ? 0 : 2), how = 1 | (i == 0 ? 0x400 : 0);
        memcpy(message, &size, 4);
        memcpy(message + 4, &type, 2);
        memcpy(message + 6, &how, 2);
        memcpy(message + 8, empty + 8, 4);
        message[16] = 1;
        memcpy(message + 20, table, 16);
    }
    memcpy(all + 92, empty + 20, 20);
    char path[512];
    place(path, sizeof path, "counted");
    FILE *counted = fopen(path, "a");
    if (counted) {
        fputc('.', counted);
        fclose(counted);
    }
    return real(fd, all, sizeof all, flags) == (ssize_t)sizeof all ? 40 : -1;
}
int setsockopt(int fd, int level, int option, const void *value, socklen_t length) {
    int (*real)(int, int, int, const void *, socklen_t) = dlsym(RTLD_NEXT, "setsockopt");
    if (level == 270 && option == 11 && says("lacks", "places")) return 0;
    return real(fd, level, option, value, length);
}
static int waits(void) {
    char path[512], thread[17] = {0};
    struct stat file;
    place(path, sizeof path, "hangs");
    if (stat(path, &file) != 0) return 0;
    return file.st_size == 0 || (prctl(PR_GET_NAME, thread) == 0 && says("hangs", thread));
}
ssize_t send(int fd, const void *bytes, size_t length, int flags) {
    ssize_t (*real)(int, const void *, size_t, int) = dlsym(RTLD_NEXT, "send");
    if (!is_filter(fd)) return real(fd, bytes, length, flags);
    if (there("slow")) usleep(250000);
    for (int i = 0; i < 2400 && waits(); i++) {
        if (i == 0) write_file("held", "", 0);
        usleep(50000);
    }
    if (there("fails")) {
        errno = ENOBUFS;
        return -1;
    }
    uint16_t type = 0;
    if (length >= 40) memcpy(&type, (const char *)bytes + 4, 2);
    if (type == 16 && length == 40 && says("lacks", "empty")) return count(fd, bytes, flags);
    if (type != 16 || length <= 64) return real(fd, bytes, length, flags);
    if (there("records")) write_file("transaction", bytes, length);
    run("before");
    char *copy = malloc(length);
    memcpy(copy, bytes, length);
    refuse(copy, length);
    if (there("lacks")) {
        forget(copy, length);
        forget_sockets(copy, length);
        age(copy, length);
    }
    ssize_t sent = real(fd, copy, length, flags);
    free(copy);
    if (sent >= 0) run("after");
    return sent;
}
"#;

/// The hand, and the folder that tells it what to do.
#[derive(Debug)]
pub struct FilterHook {
    folder: PathBuf,
    library: PathBuf,
}

impl FilterHook {
    /// Builds it; it does nothing yet.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn prepare(stage: &Stage) -> Result<Self, SiteError> {
        let folder = stage.site.directory().join("filter-hook");
        super::make_directory(&folder)?;
        Ok(Self {
            library: library(&folder, SEND)?,
            folder,
        })
    }

    /// The library that the agent is to be started with.
    #[must_use]
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Where it finds what to do, as `env` takes it.
    #[must_use]
    pub fn place(&self) -> String {
        format!("FILTER_HOOK={}", self.folder.display())
    }

    /// What an agent that uses it has in its environment, as `env` takes it.
    #[must_use]
    pub fn environment(&self) -> [String; 2] {
        [format!("LD_PRELOAD={}", self.library.display()), self.place()]
    }

    /// Starts the agent with it, in place of a running one.
    ///
    /// # Errors
    /// When it cannot be built or the agent not be started.
    pub fn start(stage: &mut Stage) -> Result<Self, SiteError> {
        let hook = Self::prepare(stage)?;
        let [preload, place] = hook.environment();
        stage.agent = None;
        stage.start_agent_as(Path::new("env"), &[&preload, &place])?;
        Ok(hook)
    }

    /// From now on it does that ([`HANGS`], …).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin(&self, what: &str, text: &str) -> Result<(), SiteError> {
        // Whole from the beginning: it may be read at this moment.
        let (path, part) = (self.folder.join(what), self.folder.join("part"));
        super::write(&part, text.as_bytes())?;
        std::fs::rename(&part, &path).map_err(|source| SiteError::File { path, source })
    }

    /// It does that no more.
    ///
    /// # Errors
    /// When it did not do it.
    pub fn end(&self, what: &str) -> Result<(), SiteError> {
        let path = self.folder.join(what);
        std::fs::remove_file(&path).map_err(|source| SiteError::File { path, source })
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file that the shell text wrote.
    #[must_use]
    pub fn written(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.join(name)).ok()
    }
}
