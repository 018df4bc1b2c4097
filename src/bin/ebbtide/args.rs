//! The arguments of the command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser, Subcommand};

use crate::help;
use crate::moment::{Moment, parse_span};

/// Looks into a store of the storage engine ebbtide, and works on it.
#[derive(Debug, Parser)]
#[command(name = "ebbtide", version, after_help = help::GENERAL, disable_help_subcommand = true)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long, global = true, display_order = 100)]
    pub(crate) json: bool,
    /// Print results only: no progress, no words about what was done
    #[arg(short, long, global = true, display_order = 101)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what a store holds and how it is
    #[command(after_help = help::INFO)]
    Info(StoreArg),
    /// List the buckets of all keyspaces and logs, with their deadlines
    #[command(after_help = help::BUCKETS)]
    Buckets(BucketsArgs),
    /// List keyspaces and logs, or the keys of a keyspace
    #[command(after_help = help::LS)]
    Ls(LsArgs),
    /// Write a value to standard output or a file
    #[command(after_help = help::GET)]
    Get(GetArgs),
    /// Store a value from a file or standard input
    #[command(after_help = help::PUT)]
    Put(PutArgs),
    /// Show what is known of a key
    #[command(after_help = help::STAT)]
    Stat(KeyArgs),
    /// Say why a key can be read, or why not
    #[command(after_help = help::EXPLAIN)]
    Explain(KeyArgs),
    /// Hide a key, all that carries a tag, or everything, durably
    #[command(after_help = help::INVALIDATE)]
    Invalidate(InvalidateArgs),
    /// Erase a key, or all that carries a tag, and refuse it for some time
    #[command(after_help = help::ERASE)]
    Erase(EraseArgs),
    /// Show the last rows of a log
    #[command(after_help = help::TAIL)]
    Tail(TailArgs),
    /// Show the rows of a log in a range of time, in its order
    #[command(after_help = help::SCAN)]
    Scan(ScanArgs),
    /// List every file on the disk: why it is there, and until when
    #[command(after_help = help::RESIDUE)]
    Residue(StoreArg),
    /// Read everything, compare all checksums, and name what is wrong
    #[command(after_help = help::VERIFY)]
    Verify(StoreArg),
    /// Show or check the ledger: what was forgotten, and when
    #[command(after_help = help::LEDGER)]
    Ledger(LedgerArgs),
    /// Show one segment file, record by record
    #[command(after_help = help::DUMP)]
    Dump(DumpArgs),
    /// Drop the buckets that are past their deadline, and give their space back
    #[command(after_help = help::DROP_EXPIRED)]
    DropExpired(DropExpiredArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) path: PathBuf,
    /// Open it on a file system that other machines may change too
    #[arg(long, display_order = 102)]
    pub(crate) allow_network_file_system: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StoreArg {
    #[command(flatten)]
    pub(crate) store: Place,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BucketsArgs {
    #[command(flatten)]
    pub(crate) store: Place,
    /// Only the buckets of the keyspace or log of this name
    pub(crate) name: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) store: Place,
    /// The keyspace whose keys to list
    pub(crate) keyspace: Option<String>,
    /// Only keys that begin with this
    #[arg(long, value_name = "TEXT", requires = "keyspace")]
    pub(crate) prefix: Option<OsString>,
    /// At most so many keys
    #[arg(long, value_name = "N", requires = "keyspace")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    pub(crate) store: Place,
    /// The keyspace
    pub(crate) keyspace: String,
    /// The key
    pub(crate) key: OsString,
    /// The key is given in hexadecimal
    #[arg(long)]
    pub(crate) hex_key: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// The file to write, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// The file that has the value; standard input without one, or with -
    pub(crate) file: Option<PathBuf>,
    /// A tag by which the value can be invalidated; may be given up to 16 times
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<OsString>,
    /// Metadata to keep beside the value
    #[arg(long, value_name = "TEXT")]
    pub(crate) metadata: Option<OsString>,
    /// When to hide the value, if its bucket does not go earlier: 2026-11-21T09:30:00Z or +2d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "expires_in")]
    pub(crate) expires_at: Option<Moment>,
    /// After how long to hide the value, if its bucket does not go earlier: 90s, 1h30m, 2d
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) expires_in: Option<Duration>,
    /// Create the keyspace, and the store, if missing, to keep values for so many days at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) window_days: Option<u32>,
}

// What is to be hidden, in the words of `invalidate`.
#[derive(Debug, clap::Args)]
pub(crate) struct TargetArgs {
    #[command(flatten)]
    pub(crate) store: Place,
    /// The keyspace; with --tag, all keyspaces without one
    pub(crate) keyspace: Option<String>,
    /// The key to hide
    pub(crate) key: Option<OsString>,
    /// The key is given in hexadecimal
    #[arg(long, requires = "key")]
    pub(crate) hex_key: bool,
    /// Hide all values that carry this tag
    #[arg(long)]
    pub(crate) tag: Option<OsString>,
    /// With --tag and without a keyspace: hide the rows of all logs that carry it too
    #[arg(long, requires = "tag", conflicts_with = "keyspace")]
    pub(crate) rows: bool,
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("scope").required(true).args(["key", "tag", "all"]))]
pub(crate) struct InvalidateArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Hide everything in the keyspace
    #[arg(long, requires = "keyspace")]
    pub(crate) all: bool,
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("target").required(true).args(["key", "tag"]))]
#[command(mut_arg("key", |arg| arg.help("The key to erase")))]
#[command(mut_arg("tag", |arg| arg.help("Erase all values that carry this tag")))]
#[command(mut_arg("rows", |arg| arg.help(help::ERASE_ROWS)))]
pub(crate) struct EraseArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Refuse to store it before this time: 2026-11-21T09:30:00Z or +2d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) deny_until: Option<Moment>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    pub(crate) store: Place,
    /// The log
    pub(crate) log: String,
    /// How many rows
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub(crate) rows: usize,
    /// Look for new rows every second until interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    pub(crate) store: Place,
    /// The log
    pub(crate) log: String,
    /// The first moment of the range; the oldest row's without it
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: Option<Moment>,
    /// The first moment after the range; without it, the range has no end
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: Option<Moment>,
    /// At most so many rows
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LedgerArgs {
    #[command(subcommand)]
    pub(crate) command: LedgerCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Check that the chain of entries is whole
    #[command(after_help = help::LEDGER_VERIFY)]
    Verify(StoreArg),
    /// Show the entries
    #[command(after_help = help::LEDGER_SHOW)]
    Show(StoreArg),
    /// Show whether buckets left in time
    #[command(after_help = help::LEDGER_PROVE)]
    Prove(ProveArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ProveArgs {
    #[command(flatten)]
    pub(crate) store: Place,
    /// The first deadline to look at; the oldest without it
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: Option<Moment>,
    /// The first deadline not to look at; without it, all up to now
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: Option<Moment>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DumpArgs {
    /// The segment file
    pub(crate) file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DropExpiredArgs {
    #[command(flatten)]
    pub(crate) store: Place,
    /// Believe a step of the wall clock that is still suspect first
    #[arg(long)]
    pub(crate) confirm_clock: bool,
}
