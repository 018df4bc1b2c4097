//! What strace wrote down: system calls, each with when it began and when it returned.

use std::collections::HashMap;
use std::path::PathBuf;

/// One system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// As strace wrote them, split at commas that stand in nothing.
    pub(crate) args: Vec<String>,
    /// What it returned; none if it failed, or never returned.
    pub(crate) result: Option<u64>,
    /// What stands behind the equals sign.
    pub(crate) answer: String,
}

/// A moment of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A call begins: this one of [`Trace::calls`].
    Begins(usize),
    /// It has returned.
    Returned(usize),
}

/// All calls of all threads, and the order in which they began and returned.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) calls: Vec<Call>,
    pub(crate) moments: Vec<Moment>,
}

impl Trace {
    /// Reads what `strace -f -o` has written. Signals and exits are passed over.
    ///
    /// # Panics
    ///
    /// If there is a line that cannot be read.
    pub(crate) fn parse(text: &str) -> Self {
        let mut trace = Self::default();
        // Calls that have begun, by their thread.
        let mut begun: HashMap<&str, (usize, String)> = HashMap::new();
        for line in text.lines() {
            let (thread, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            let rest = rest.trim_start();
            if rest.starts_with("+++") || rest.starts_with("---") {
                continue;
            }
            if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
                let (name, args) = start.split_once('(').unwrap_or_else(|| panic!("{line}"));
                let at = trace.begin(name, args);
                begun.insert(thread, (at, start.to_owned()));
            } else if let Some(resumed) = rest.strip_prefix("<... ") {
                let (_, end) = resumed.split_once(" resumed>").unwrap_or_else(|| panic!("{line}"));
                let (at, start) = begun.remove(thread).unwrap_or_else(|| panic!("{line}"));
                trace.calls[at] = parse_call(&format!("{start}{end}"));
                trace.moments.push(Moment::Returned(at));
            } else {
                let at = trace.calls.len();
                trace.calls.push(parse_call(rest));
                trace.moments.extend([Moment::Begins(at), Moment::Returned(at)]);
            }
        }
        trace
    }

    /// A call of which only the beginning is known so far.
    fn begin(&mut self, name: &str, args: &str) -> usize {
        let (args, _) = split(args);
        let (name, answer) = (name.to_owned(), String::new());
        self.calls.push(Call { name, args, result: None, answer });
        self.moments.push(Moment::Begins(self.calls.len() - 1));
        self.calls.len() - 1
    }
}

impl Call {
    /// The file of a descriptor that strace has written with its path, such as `3</tmp/x>`.
    pub(crate) fn file(&self, arg: usize) -> Option<PathBuf> {
        path_of(self.args.get(arg)?)
    }

    /// The file of the descriptor that was returned.
    pub(crate) fn opened(&self) -> Option<PathBuf> {
        self.result?;
        path_of(&self.answer)
    }

    /// A path that was given as a text, in the directory of the argument before it if it is relative.
    pub(crate) fn path(&self, arg: usize) -> PathBuf {
        let text = self.args[arg].trim_matches('"');
        let dir = arg.checked_sub(1).and_then(|before| self.file(before));
        dir.unwrap_or_default().join(text)
    }

    /// A number in decimal or with 0x.
    pub(crate) fn number(&self, arg: usize) -> u64 {
        let text = &self.args[arg];
        let hexadecimal = text.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
        hexadecimal.unwrap_or_else(|| text.parse()).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// True if an argument names this flag.
    pub(crate) fn has_flag(&self, arg: usize, flag: &str) -> bool {
        self.args.get(arg).is_some_and(|flags| flags.split('|').any(|name| name == flag))
    }
}

/// Reads `name(args) = answer`.
fn parse_call(text: &str) -> Call {
    let (name, rest) = text.split_once('(').unwrap_or_else(|| panic!("{text}"));
    let (args, rest) = split(rest);
    let rest = rest.unwrap_or_else(|| panic!("no end: {text}")).trim_start();
    let answer = rest.strip_prefix("= ").unwrap_or_else(|| panic!("no answer: {text}"));
    let number = answer.split([' ', '<']).next().unwrap_or_default();
    let hexadecimal = number.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
    // Failed calls return -1, and those that never return a question mark.
    let result = hexadecimal.unwrap_or_else(|| number.parse()).ok();
    Call { name: name.to_owned(), args, result, answer: answer.to_owned() }
}

/// Splits arguments up to the bracket that closes them, and gives what stands behind it, if it is there.
fn split(text: &str) -> (Vec<String>, Option<&str>) {
    let (mut args, mut arg) = (Vec::new(), String::new());
    let (mut depth, mut is_quoted, mut is_path) = (0, false, false);
    let mut before = ' ';
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' if is_quoted => {
                arg.push(char);
                arg.extend(chars.next().map(|(_, escaped)| escaped));
                continue;
            }
            '"' if !is_path => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '>' if is_path => is_path = false,
            _ if is_path => {}
            // Behind a number or AT_FDCWD stands a path; elsewhere this is a shift.
            '<' if before.is_ascii_digit() || before == 'D' => is_path = !arg.is_empty(),
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => {
                args.extend((!arg.is_empty()).then(|| arg.trim().to_owned()));
                return (args, text.get(at + 1..));
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                args.push(std::mem::take(&mut arg).trim().to_owned());
                before = ' ';
                continue;
            }
            _ => {}
        }
        arg.push(char);
        before = char;
    }
    args.extend((!arg.trim().is_empty()).then(|| arg.trim().to_owned()));
    (args, None)
}

fn path_of(descriptor: &str) -> Option<PathBuf> {
    let (_, path) = descriptor.split_once('<')?;
    // What has been unlinked is followed by a word that says so.
    let (path, _) = path.rsplit_once('>')?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn calls_are_read_as_strace_writes_them() {
        let text = "\
            7  openat(AT_FDCWD</tmp>, \"/d/a, (b)\", O_RDWR|O_CREAT|O_EXCL, 0600) = 3</d/a, (b)>\n\
            7  pwrite64(3</d/x>(deleted), \"a\\\"),\"..., 40, 3) = 40\n\
            7  pwritev(3</d/x>, [{iov_base=\"a,b\", iov_len=3}, {iov_base=\"\", iov_len=0}], 2, 1024) = 3\n\
            7  mmap(NULL, 65536, PROT_READ, MAP_SHARED, 3</d/x>, 0) = 0x7f0a5c000000\n\
            7  rename(\"/d/x\", \"/d/y\")    = 0\n\
            7  fsync(3</d/y>)              = -1 EIO (Input/output error) (INJECTED)\n\
            7  exit_group(0)               = ?\n\
            7  --- SIGURG {si_signo=SIGURG} ---\n\
            7  +++ exited with 0 +++\n";
        let trace = Trace::parse(text);
        let results: Vec<_> = trace.calls.iter().map(|call| call.result).collect();
        let mapped = Some(0x7f0a_5c00_0000);
        assert_eq!(results, [Some(3), Some(40), Some(3), mapped, Some(0), None, None]);
        let [opened, deleted, written, map, renamed, failed, _] = &trace.calls[..] else {
            panic!()
        };
        assert_eq!(opened.path(1), Path::new("/d/a, (b)"));
        assert_eq!(opened.opened().unwrap(), Path::new("/d/a, (b)"));
        assert!(opened.has_flag(2, "O_EXCL") && !opened.has_flag(2, "O_EX"));
        assert_eq!(deleted.file(0).unwrap(), Path::new("/d/x"));
        assert_eq!((deleted.number(2), deleted.number(3)), (40, 3));
        assert_eq!((written.args.len(), written.number(3)), (4, 1024));
        assert_eq!((map.file(4).unwrap(), map.number(1)), (PathBuf::from("/d/x"), 65536));
        assert_eq!((renamed.path(0), renamed.path(1)), ("/d/x".into(), "/d/y".into()));
        assert!(failed.answer.contains("EIO"));
    }

    #[test]
    fn calls_that_were_interrupted_by_other_threads_are_joined() {
        let text = "\
            1 fdatasync(4</d/x> <unfinished ...>\n\
            2 pwrite64(4</d/x>, \"a\", 1, 9 <unfinished ...>\n\
            1 <... fdatasync resumed>)        = 0\n\
            2 <... pwrite64 resumed>)         = 1\n";
        let trace = Trace::parse(text);
        use Moment::{Begins, Returned};
        assert_eq!(trace.moments, [Begins(0), Begins(1), Returned(0), Returned(1)]);
        assert_eq!((trace.calls[0].result, trace.calls[1].result), (Some(0), Some(1)));
        assert_eq!(trace.calls[1].number(3), 9);
    }
}
