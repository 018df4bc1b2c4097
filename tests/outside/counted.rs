//! The system calls that a process makes on a store, counted as strace counts them to let one of them fail.

use std::collections::HashMap;
use std::path::Path;

/// Calls by which memory of a mapped store is advised on: they name no file.
const ADVICE: [&str; 3] = ["MADV_RANDOM", "MADV_WILLNEED", "MADV_WIPEONFORK"];
/// How strace marks a call that it has let fail.
const MARK: &str = "(INJECTED)";

/// A call that can be made to fail: the n-th of its name that its thread makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: String,
    /// What it is about: an extension, the name of a file that there is once, or a directory.
    pub(crate) about: String,
    pub(crate) number: u64,
}

/// All calls on this store, as `strace -f -y` has written them down.
///
/// # Panics
///
/// If the first thread has made so many of a kind that a call of the store has no number of its own.
pub(crate) fn places(trace: &str, data: &Path) -> Vec<Place> {
    let mut counts: HashMap<(&str, &str), u64> = HashMap::new();
    let mut places = Vec::new();
    let first = trace.split_once(' ').map_or("", |(thread, _)| thread);
    for line in trace.lines() {
        let Some((thread, call)) = begun(line) else { continue };
        let Some((name, args)) = call.split_once('(') else { continue };
        let count = counts.entry((thread, name)).or_default();
        *count += 1;
        let number = *count;
        if let Some(about) = about(args, data) {
            assert_ne!(thread, first, "the store is used by the first thread: {line}");
            places.push((Place { name: name.to_owned(), about, number }, line));
        }
    }
    for (place, line) in &places {
        let others = counts.get(&(first, &*place.name)).copied().unwrap_or_default();
        assert!(place.number > others, "{others} of these are made before the work: {line}");
    }
    places.into_iter().map(|(place, _)| place).collect()
}

/// How many calls on the store were made to fail.
pub(crate) fn count_failed(trace: &str, data: &Path) -> u64 {
    let marked = trace.lines().filter(|line| line.ends_with(MARK));
    // Of one that another thread has interrupted, only the beginning says what it is about.
    let is_ours = |line: &&str| line.contains(" resumed>") || about(line, data).is_some();
    marked.filter(is_ours).count() as u64
}

/// The thread and the call, if one begins with this line.
fn begun(line: &str) -> Option<(&str, &str)> {
    let (thread, call) = line.split_once(' ')?;
    let call = call.trim_start();
    let is_call = !["+++", "---", "<..."].iter().any(|start| call.starts_with(start));
    is_call.then_some((thread, call))
}

/// What of a store a call is about.
fn about(args: &str, data: &Path) -> Option<String> {
    if ADVICE.iter().any(|advice| args.contains(advice)) {
        return Some("memory".to_owned());
    }
    let (_, rest) = args.split_once(data.to_str()?)?;
    let path = Path::new(rest.split(['"', '>']).next()?);
    let name = path.file_name().map(|name| name.to_string_lossy());
    let is_one = |name: &str| name.chars().all(|char| char.is_ascii_uppercase());
    Some(match (path.extension(), name) {
        (Some(extension), _) => extension.to_string_lossy().into_owned(),
        (None, Some(name)) if is_one(&name) => name.into_owned(),
        _ => "directory".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "\
        1 openat(AT_FDCWD</>, \"/lib/x\", O_RDONLY|O_CLOEXEC) = 3</lib/x>\n\
        2 openat(AT_FDCWD</>, \"/dev/null\", O_RDONLY|O_CLOEXEC) = 4</dev/null>\n\
        2 openat(AT_FDCWD</>, \"/store/b/1.seg\", O_RDWR|O_CREAT, 0600 <unfinished ...>\n\
        1 write(1</dev/null>, \"x\", 1)    = 1\n\
        2 <... openat resumed>)             = -1 EIO (Input/output error) (INJECTED)\n\
        2 fsync(4</store>)                      = -1 EIO (Input/output error) (INJECTED)\n\
        2 fsync(4</e>)                      = -1 EIO (Input/output error) (INJECTED)\n\
        2 madvise(0x7000, 8192, MADV_RANDOM) = 0\n\
        2 pread64(5</store/STATE>, \"\", 9, 0)  = 9\n\
        2 +++ exited with 0 +++\n";

    #[test]
    fn calls_are_counted_as_strace_counts_them() {
        let place = |name: &str, about: &str, number| Place {
            name: name.to_owned(),
            about: about.to_owned(),
            number,
        };
        let expected = [
            place("openat", "seg", 2),
            place("fsync", "directory", 1),
            place("madvise", "memory", 1),
            place("pread64", "STATE", 1),
        ];
        assert_eq!(places(TRACE, Path::new("/store")), expected);
        assert_eq!(count_failed(TRACE, Path::new("/store")), 2);
    }

    #[test]
    #[should_panic(expected = "1 of these are made before the work")]
    fn a_number_that_the_first_thread_reaches_is_refused() {
        let dev_null = "2 openat(AT_FDCWD</>, \"/dev/null\", O_RDONLY|O_CLOEXEC) = 4</dev/null>\n";
        assert!(TRACE.contains(dev_null));
        places(&TRACE.replace(dev_null, ""), Path::new("/store"));
    }
}
