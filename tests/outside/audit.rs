//! Looks through the system calls of a process that uses a store for one that breaks a rule.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::ranges::Ranges;
use crate::trace::{Call, Moment, Trace};

/// What is written before the first record of a segment.
const SEGMENT_HEADER_LEN: u64 = 1024;
/// Marks by which the process says where it is: it writes them to a file of this name.
pub(crate) const MARKS: &str = "marks";
/// From here on only scrubbing may change what is durable.
pub(crate) const SCRUB_BEGINS: &str = "scrub begins";
pub(crate) const SCRUB_ENDS: &str = "scrub ends";
/// Something was acknowledged as durable.
pub(crate) const DURABLE: &str = "durable";

/// What a file holds, as far as the calls tell.
#[derive(Debug, Clone, Default)]
struct File {
    len: u64,
    written: Ranges,
    /// What a sync has covered that began after it was written.
    durable: Ranges,
    /// A sync of it has failed. Other files, such as a spare that is no log yet, are written once more then.
    is_given_up: bool,
    /// Addresses and lengths of its mappings.
    maps: BTreeMap<u64, u64>,
}

/// How much there was of what is audited.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) calls: usize,
    pub(crate) opened: usize,
    pub(crate) segment_writes: usize,
    pub(crate) scrub_writes: usize,
    pub(crate) holes: usize,
    pub(crate) syncs: usize,
    pub(crate) failed_syncs: usize,
    pub(crate) dir_syncs: usize,
    pub(crate) maps: usize,
    pub(crate) cuts: usize,
    pub(crate) unlinked: usize,
    pub(crate) parts: usize,
    pub(crate) acknowledged: usize,
}

/// Goes through a trace.
#[derive(Debug)]
pub(crate) struct Auditor<'a> {
    /// The store.
    root: &'a Path,
    files: HashMap<PathBuf, File>,
    /// Files and directories whose names are not durable.
    unsynced: HashSet<PathBuf>,
    /// Files that were unlinked, but are mapped.
    unlinked: Vec<File>,
    /// What a sync that has begun will cover, by the number of its call.
    syncs: HashMap<usize, Covered>,
    is_scrubbing: bool,
    /// Whether an acknowledgement tells of all threads.
    one_thread: bool,
    pub(crate) figures: Figures,
    pub(crate) violations: Vec<String>,
}

#[derive(Debug)]
enum Covered {
    Bytes(Ranges),
    Names(Vec<PathBuf>),
}

impl<'a> Auditor<'a> {
    /// Goes through all calls of a process that made this store. If it has one thread only, what is
    /// acknowledged is known to depend on what was done before.
    pub(crate) fn audit(root: &'a Path, trace: &Trace, one_thread: bool) -> Self {
        let mut auditor = Self {
            root,
            files: HashMap::new(),
            unsynced: HashSet::new(),
            unlinked: Vec::new(),
            syncs: HashMap::new(),
            is_scrubbing: false,
            one_thread,
            figures: Figures::default(),
            violations: Vec::new(),
        };
        for moment in &trace.moments {
            match moment {
                Moment::Begins(at) => auditor.begins(*at, &trace.calls[*at]),
                Moment::Returned(at) => auditor.returned(*at, &trace.calls[*at]),
            }
        }
        auditor
    }

    fn is_ours(&self, path: &Path) -> bool {
        path.starts_with(self.root)
    }

    fn violation(&mut self, rule: &str, call: &Call) {
        self.violations.push(format!(
            "{rule}: {}({}) = {}",
            call.name,
            call.args.join(", "),
            call.answer
        ));
    }

    // ---- before a call ----

    fn begins(&mut self, at: usize, call: &Call) {
        match call.name.as_str() {
            "pwrite64" | "pwritev" | "pwritev2" => self.write_begins(call),
            "fdatasync" | "fsync" => self.sync_begins(at, call),
            "ftruncate" => self.cut_begins(call),
            "truncate" | "sync_file_range" | "link" | "linkat" | "symlink" | "symlinkat"
                if call.args.iter().any(|arg| arg.contains(&*self.root.to_string_lossy())) =>
            {
                self.violation("a call that is not made", call);
            }
            "fallocate" => self.hole_begins(call),
            "unlink" | "unlinkat" => self.unlink_begins(call),
            _ => {}
        }
    }

    fn write_begins(&mut self, call: &Call) {
        let Some(path) = call.file(0).filter(|path| self.is_ours(path)) else { return };
        let (start, end) = (call.number(call.args.len() - 1), written_to(call));
        if !is_segment(&path) {
            return;
        }
        self.figures.segment_writes += 1;
        let file = self.files.entry(path.clone()).or_default();
        if file.durable.meets(start, end) {
            if !self.is_scrubbing {
                self.violation("a durable byte of a segment is overwritten", call);
            } else if end - start != 4 && !shows_only_zeros(call) {
                self.violation("scrubbing writes something else than zeros and state words", call);
            }
            self.figures.scrub_writes += 1;
        }
        let holds_records = end > SEGMENT_HEADER_LEN && has_extension(&path, "seg");
        if holds_records && let Some(name) = self.unsynced_name(&path) {
            self.violation(
                &format!("a record is written before {} is durable", name.display()),
                call,
            );
        }
    }

    fn hole_begins(&mut self, call: &Call) {
        let Some(path) = call.file(0).filter(|path| self.is_ours(path)) else { return };
        if !call.has_flag(1, "FALLOC_FL_KEEP_SIZE") {
            self.violation("a file grows without being written", call);
        }
        if !call.has_flag(1, "FALLOC_FL_PUNCH_HOLE") || !is_segment(&path) {
            return;
        }
        let (start, len) = (call.number(2), call.number(3));
        let file = self.files.entry(path).or_default();
        if file.durable.meets(start, start + len) && !self.is_scrubbing {
            self.violation("a durable byte of a segment becomes a hole", call);
        }
        self.figures.holes += 1;
    }

    fn sync_begins(&mut self, at: usize, call: &Call) {
        // The name of the store itself is made durable by its parent.
        let may_matter = |path: &PathBuf| self.is_ours(path) || self.root.parent() == Some(path);
        let Some(path) = call.file(0).filter(may_matter) else { return };
        let covered = match self.files.get(&path) {
            Some(file) => Covered::Bytes(file.written.clone()),
            None => {
                let names = self.unsynced.iter().filter(|name| name.parent() == Some(&*path));
                Covered::Names(names.cloned().collect())
            }
        };
        if self.files.get(&path).is_some_and(|file| file.is_given_up) {
            self.violation("a sync is tried again", call);
        }
        self.syncs.insert(at, covered);
    }

    fn cut_begins(&mut self, call: &Call) {
        let Some(path) = call.file(0).filter(|path| self.is_ours(path)) else { return };
        self.figures.cuts += 1;
        let len = call.number(1);
        let file = self.files.entry(path.clone()).or_default();
        if !file.maps.is_empty() && len < file.len {
            self.violation("a file is cut while it is mapped", call);
        }
        self.not_before_it_is_trash(&path, call);
    }

    fn unlink_begins(&mut self, call: &Call) {
        let path = call.path(usize::from(call.name == "unlinkat"));
        if self.is_ours(&path) {
            self.figures.unlinked += 1;
            self.not_before_it_is_trash(&path, call);
        }
    }

    /// What lies in the trash is changed once it is there durably, and no more at its old place.
    fn not_before_it_is_trash(&mut self, path: &Path, call: &Call) {
        let trash = self.root.join("trash");
        let Ok(inner) = path.strip_prefix(&trash) else { return };
        let item = trash.join(inner.iter().next().unwrap_or_default());
        if self.unsynced.contains(&item) {
            self.violation("what was dropped is changed before that is durable", call);
        }
    }

    // ---- after a call ----

    fn returned(&mut self, at: usize, call: &Call) {
        self.figures.calls += 1;
        match (call.name.as_str(), call.result) {
            ("fdatasync" | "fsync", result) => self.sync_returned(at, call, result.is_some()),
            (_, None) => {}
            ("open" | "openat" | "openat2" | "creat", Some(_)) => self.opened(call),
            ("mkdir" | "mkdirat", Some(_)) => {
                let path = call.path(usize::from(call.name == "mkdirat"));
                self.unsynced.extend(self.is_ours(&path).then_some(path));
            }
            ("pwrite64" | "pwritev" | "pwritev2", Some(count)) => self.written(call, count),
            ("write", Some(_)) => self.marked(call),
            ("ftruncate", Some(_)) => {
                if let Some(file) = call.file(0).and_then(|path| self.files.get_mut(&path)) {
                    file.len = call.number(1);
                }
            }
            ("rename" | "renameat" | "renameat2", Some(_)) => self.renamed(call),
            ("unlink" | "unlinkat" | "rmdir", Some(_)) => self.removed(call),
            ("mmap", Some(address)) => self.mapped(call, address),
            ("munmap", Some(_)) => self.unmapped(call),
            _ => {}
        }
    }

    fn opened(&mut self, call: &Call) {
        let (path_at, flags_at) = if call.name == "openat" { (1, 2) } else { (0, 1) };
        let path = call.path(path_at);
        if !call.has_flag(flags_at, "O_CLOEXEC") {
            self.violation("a descriptor would be passed on", call);
        }
        if !self.is_ours(&path) {
            return;
        }
        self.figures.opened += 1;
        let has = |flag| call.has_flag(flags_at, flag);
        let is_directory = has("O_DIRECTORY") || has("O_TMPFILE");
        if !is_directory && !has("O_NOFOLLOW") {
            self.violation("a link would be followed", call);
        }
        if has("O_TRUNC") {
            self.violation("a file is cut as it is opened", call);
        }
        if has("O_CREAT") && !self.files.contains_key(&path) && !has("O_TMPFILE") {
            self.figures.parts += usize::from(has_extension(&path, "part"));
            self.files.insert(path.clone(), File::default());
            self.unsynced.insert(path);
        }
    }

    fn written(&mut self, call: &Call, count: u64) {
        let Some(path) = call.file(0).filter(|path| self.is_ours(path)) else { return };
        let start = call.number(call.args.len() - 1);
        let file = self.files.entry(path).or_default();
        file.written.add(start, start + count);
        file.len = file.len.max(start + count);
    }

    fn sync_returned(&mut self, at: usize, call: &Call, is_done: bool) {
        let Some(covered) = self.syncs.remove(&at) else { return };
        let Some(path) = call.file(0) else { return };
        let goes_on = is_done || !(is_segment(&path) || has_extension(&path, "log"));
        match covered {
            Covered::Bytes(bytes) => {
                self.figures.syncs += 1;
                self.figures.failed_syncs += usize::from(!is_done);
                let file = self.files.entry(path).or_default();
                file.is_given_up |= !goes_on;
                if is_done {
                    file.durable.add_all(&bytes);
                }
            }
            Covered::Names(names) => {
                self.figures.dir_syncs += 1;
                if is_done {
                    names.iter().for_each(|name| {
                        self.unsynced.remove(name);
                    });
                }
            }
        }
    }

    fn renamed(&mut self, call: &Call) {
        let [from, to] = match call.name.as_str() {
            "rename" => [call.path(0), call.path(1)],
            _ => [call.path(1), call.path(3)],
        };
        if !self.is_ours(&from) {
            return;
        }
        let moved = |path: &Path| path.strip_prefix(&from).ok().map(|rest| join(&to, rest));
        if let Some(replaced) = self.files.remove(&to) {
            self.unlinked.push(replaced);
        }
        let files = std::mem::take(&mut self.files).into_iter();
        self.files = files.map(|(path, file)| (moved(&path).unwrap_or(path), file)).collect();
        let names = std::mem::take(&mut self.unsynced).into_iter();
        self.unsynced = names.map(|path| moved(&path).unwrap_or(path)).collect();
        self.unsynced.insert(to);
    }

    fn removed(&mut self, call: &Call) {
        let path = call.path(usize::from(call.name == "unlinkat"));
        self.unsynced.remove(&path);
        self.unlinked.extend(self.files.remove(&path));
    }

    fn mapped(&mut self, call: &Call, address: u64) {
        let Some(path) = call.file(4).filter(|path| self.is_ours(path)) else { return };
        self.figures.maps += 1;
        let len = call.number(1).next_multiple_of(4096);
        if call.has_flag(2, "PROT_WRITE") {
            self.violation("a file is mapped to be written", call);
        }
        self.files.entry(path).or_default().maps.insert(address, len);
    }

    fn unmapped(&mut self, call: &Call) {
        let (start, len) = (call.number(0), call.number(1));
        for file in self.files.values_mut().chain(&mut self.unlinked) {
            file.maps.retain(|address, _| !(start..start + len).contains(address));
        }
    }

    fn marked(&mut self, call: &Call) {
        if !call.file(0).is_some_and(|path| path.ends_with(MARKS)) {
            return;
        }
        match call.args[1].trim_matches('"').trim_end_matches("\\n") {
            SCRUB_BEGINS => self.is_scrubbing = true,
            SCRUB_ENDS => self.is_scrubbing = false,
            DURABLE => self.acknowledged(call),
            _ => {}
        }
    }

    /// Whatever a later opening needs to find what is durable has a durable name by now.
    fn acknowledged(&mut self, call: &Call) {
        self.figures.acknowledged += 1;
        if !self.one_thread {
            return;
        }
        let needed = self.files.iter().filter(|(path, _)| is_needed(path));
        let synced = needed.filter(|(_, file)| !file.durable.is_empty());
        let names: Vec<_> = synced.filter_map(|(path, _)| self.unsynced_name(path)).collect();
        for name in names {
            self.violation(&format!("acknowledged before {} is durable", name.display()), call);
        }
    }

    /// The first name on the way to a file, from the root of the store on, that is not durable.
    fn unsynced_name(&self, path: &Path) -> Option<PathBuf> {
        let way = path.ancestors().take_while(|name| self.is_ours(name));
        way.filter(|name| self.unsynced.contains(*name)).last().map(Path::to_owned)
    }
}

fn join(dir: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { dir.to_owned() } else { dir.join(rest) }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// A segment, or what becomes one.
fn is_segment(path: &Path) -> bool {
    has_extension(path, "seg") || has_extension(path, "part")
}

/// A file without which something durable would be missing; caches and what waits are not.
fn is_needed(path: &Path) -> bool {
    const NAMES: [&str; 5] = ["STORE", "STATE", "KEYSPACE", "LOG", "pseudonym.keys"];
    let is_trash = path.iter().any(|part| part == "trash");
    let is_named = path.file_name().is_some_and(|name| NAMES.iter().any(|known| name == *known));
    !is_trash && (is_named || has_extension(path, "seg") || has_extension(path, "log"))
}

/// Where a write would end.
fn written_to(call: &Call) -> u64 {
    let start = call.number(call.args.len() - 1);
    let lens = call.args[1].split("iov_len=").skip(1);
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    match call.name.as_str() {
        "pwrite64" => start + call.number(2),
        _ => start + lens.map(|len| digits(len).parse::<u64>().unwrap()).sum::<u64>(),
    }
}

/// True if what strace shows of what is written is all zeros.
fn shows_only_zeros(call: &Call) -> bool {
    let texts = call.args[1].split('"').skip(1).step_by(2);
    texts.into_iter().all(|text| text.replace("\\0", "").is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a segment is born and written, and its bucket dropped.
    const SOUND: &str = "\
        1 mkdir(\"/d\", 0700) = 0\n\
        1 mkdir(\"/d/trash\", 0700) = 0\n\
        1 mkdir(\"/d/b\", 0700) = 0\n\
        1 openat(AT_FDCWD</>, \"/d/b/1.seg\", O_RDWR|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600) = 3</d/b/1.seg>\n\
        1 pwritev(3</d/b/1.seg>, [{iov_base=\"ebb\", iov_len=1024}], 1, 0) = 1024\n\
        1 fdatasync(3</d/b/1.seg>) = 0\n\
        1 mmap(NULL, 8192, PROT_READ, MAP_SHARED, 3</d/b/1.seg>, 0) = 0x7000\n\
        1 fsync(4</d/b>) = 0\n\
        1 fsync(4</d>) = 0\n\
        1 fsync(4</>) = 0\n\
        1 pwritev(3</d/b/1.seg>, [{iov_base=\"a\", iov_len=8}, {iov_base=\"\", iov_len=0}], 2, 1024) = 8\n\
        1 fdatasync(3</d/b/1.seg>) = 0\n\
        1 write(5</marks>, \"durable\\n\", 8) = 8\n\
        1 write(5</marks>, \"scrub begins\\n\", 13) = 13\n\
        1 pwritev(3</d/b/1.seg>, [{iov_base=\"\\0\\0\"..., iov_len=8}], 1, 1024) = 8\n\
        1 fallocate(3</d/b/1.seg>, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 1024, 8) = 0\n\
        1 write(5</marks>, \"scrub ends\\n\", 11) = 11\n\
        1 rename(\"/d/b\", \"/d/trash/x\") = 0\n\
        1 fsync(4</d>) = 0\n\
        1 fsync(4</d/trash>) = 0\n\
        1 munmap(0x7000, 8192) = 0\n\
        1 ftruncate(3</d/trash/x/1.seg>, 0) = 0\n\
        1 unlink(\"/d/trash/x/1.seg\") = 0\n";

    fn violations(text: &str) -> Vec<String> {
        let trace = Trace::parse(text);
        let root = Path::new("/d");
        Auditor::audit(root, &trace, true).violations
    }

    #[test]
    fn what_is_sound_is_not_reported() {
        assert_eq!(violations(SOUND), [""; 0]);
    }

    #[test]
    fn each_rule_is_checked() {
        let without = |line: &str| {
            assert!(SOUND.contains(line), "{line}");
            SOUND.lines().filter(|found| !found.contains(line)).map(|l| format!("{l}\n")).collect()
        };
        let instead = |line: &str, other: &str| {
            assert!(SOUND.contains(line), "{line}");
            SOUND.replace(line, other)
        };
        let and_then = |line: &str| format!("{SOUND}{line}\n");
        let cases: [(String, &str); 15] = [
            (without("scrub begins"), "becomes a hole"),
            (instead("FALLOC_FL_KEEP_SIZE|", ""), "a file grows"),
            (without("scrub begins"), "a durable byte"),
            (instead("\\0\\0", "\\0x"), "zeros and state words"),
            (without("fsync(4</d/b>)"), "a record is written before /d/b/1.seg"),
            (without("fsync(4</>)"), "a record is written before /d is"),
            (
                instead("fsync(4</d/b>) = 0", "fsync(4</d/b>) = -1 EIO (x)"),
                "a record is written before",
            ),
            (without("munmap"), "a file is cut while it is mapped"),
            (without("fsync(4</d/trash>)"), "what was dropped is changed"),
            (instead("|O_NOFOLLOW", ""), "a link would be followed"),
            (instead("|O_CLOEXEC", ""), "passed on"),
            (instead("|O_EXCL", "|O_TRUNC"), "cut as it is opened"),
            (instead("PROT_READ", "PROT_READ|PROT_WRITE"), "mapped to be written"),
            (and_then("1 link(\"/d/b\", \"/e\") = 0"), "a call that is not made"),
            (
                instead("fdatasync(3</d/b/1.seg>) = 0", "fdatasync(3</d/b/1.seg>) = -1 EIO (x)"),
                "a sync is tried again",
            ),
        ];
        for (text, expected) in cases {
            let found = violations(&text);
            assert!(found.iter().any(|found| found.contains(expected)), "{expected}: {found:?}");
        }
    }

    #[test]
    fn what_is_acknowledged_has_a_durable_name() {
        let text = "\
            1 openat(AT_FDCWD</>, \"/d/STATE.tmp\", O_RDWR|O_CREAT|O_NOFOLLOW|O_CLOEXEC, 0600) = 3</d/STATE.tmp>\n\
            1 pwritev(3</d/STATE.tmp>, [{iov_base=\"ebb\", iov_len=4096}], 1, 0) = 4096\n\
            1 fdatasync(3</d/STATE.tmp>) = 0\n\
            1 fsync(4</d>) = 0\n\
            1 rename(\"/d/STATE.tmp\", \"/d/STATE\") = 0\n\
            1 write(5</marks>, \"durable\\n\", 8) = 8\n";
        assert!(violations(text)[0].starts_with("acknowledged before /d/STATE is durable"));
    }
}
