//! The command `ebbtide`: looking into a store and working on it.

mod args;
mod buckets;
mod drop_expired;
mod dump;
mod erase;
mod escape;
mod explain;
mod failure;
mod get;
mod help;
mod info;
mod invalidate;
mod json;
mod key;
mod ledger;
mod ls;
mod moment;
mod output;
mod progress;
mod put;
mod residue;
mod scan;
mod stat;
mod store;
mod table;
mod tail;
mod units;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{Error as ClapError, ErrorKind};

use args::{Args, Command};
use failure::Failure;
use output::Output;

/// How a command that did its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As asked.
    Fine,
    /// It looked for problems and found some.
    Problems,
}

fn main() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().collect();
    let args = match Args::try_parse_from(&given) {
        Ok(args) => args,
        Err(error) => return refuse(&error, given.iter().any(|arg| arg == "--json")),
    };
    let mut output = Output::new(args.json, args.quiet);
    let done = run(args.command, &mut output).and_then(|verdict| {
        output.flush()?;
        Ok(verdict)
    });
    match done {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Problems) => ExitCode::from(failure::NOTHING),
        Err(failure) => {
            // What was found before it failed is still worth having.
            let _ = output.flush();
            failure.tell(output.is_json());
            ExitCode::from(failure.code())
        }
    }
}

fn run(command: Command, output: &mut Output) -> Result<Verdict, Failure> {
    match command {
        Command::Info(args) => info::run(&args, output),
        Command::Buckets(args) => buckets::run(&args, output),
        Command::Ls(args) => ls::run(&args, output),
        Command::Get(args) => get::run(&args, output),
        Command::Put(args) => put::run(&args, output),
        Command::Stat(args) => stat::run(&args, output),
        Command::Explain(args) => explain::run(&args, output),
        Command::Erase(args) => erase::run(&args, output),
        Command::Invalidate(args) => invalidate::run(&args, output),
        Command::Tail(args) => tail::run(&args, output),
        Command::Scan(args) => scan::run(&args, output),
        Command::Residue(args) => residue::run(&args, output),
        Command::Verify(args) => verify::run(&args, output),
        Command::Ledger(args) => ledger::run(&args, output),
        Command::Dump(args) => dump::run(&args, output),
        Command::DropExpired(args) => drop_expired::run(&args, output),
    }
}

/// Answers arguments that make no command: with the help that was asked for, or with what is wrong.
fn refuse(error: &ClapError, json: bool) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is all that can go wrong here, and its reader wants no more.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !json => {
            let _ = error.print();
            ExitCode::from(failure::USAGE)
        }
        _ => {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            let failure = Failure::usage(text);
            failure.tell(json);
            ExitCode::from(failure.code())
        }
    }
}
