//! Running this program under callgrind, and what its counts depend on.

use std::path::Path;
use std::process::Command;

/// The argument, before an operation's name, that makes this program run that operation alone.
pub(crate) const COUNT: &str = "--count";
/// Matches the symbol of [`counted_by_callgrind`], however it is mangled.
const TOGGLE: &str = "--toggle-collect=*counted_by_callgrind*";

/// Does some work so many times, handing it the number of each turn. Callgrind counts what happens
/// between the entry of this function and its end, and nothing else.
#[inline(never)]
pub(crate) fn counted_by_callgrind(times: u64, work: &mut dyn FnMut(usize)) {
    for turn in 0..times as usize {
        work(turn);
    }
}

/// What the counts depend on beside the code: compiler, target, and the library that allocates and
/// copies. An error says why nothing can be counted.
pub(crate) fn setting() -> Result<String, String> {
    if cfg!(debug_assertions) {
        return Err("this was not built with the bench profile".to_owned());
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("the counts are of Linux on x86_64".to_owned());
    }
    let valgrind = first_line("valgrind", &["--version"]).ok_or("there is no valgrind")?;
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let rustc = first_line(&rustc, &["--version"]).ok_or("rustc does not answer")?;
    let libc = first_line("getconf", &["GNU_LIBC_VERSION"]).unwrap_or("unknown libc".to_owned());
    Ok(format!("{rustc}, x86_64, bench profile, {libc}, {valgrind}"))
}

fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().filter(|_| output.status.success()).map(str::to_owned)
}

/// The instructions of all turns of an operation, counted in a process of its own. What
/// `callgrind_annotate` reads stays in `target/instructions`.
pub(crate) fn count(name: &str) -> u64 {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join("instructions");
    std::fs::create_dir_all(&dir).unwrap();
    let out = dir.join(format!("{name}.out"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", TOGGLE])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .args([COUNT, name])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed under valgrind:\n{said}");
    let text = std::fs::read_to_string(&out).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.and_then(|total| total.trim().parse().ok()).filter(|total| *total > 0);
    total.unwrap_or_else(|| panic!("{name}: nothing was counted:\n{said}"))
}
