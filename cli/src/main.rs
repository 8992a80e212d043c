//! The binary `aldis`: parses the arguments, runs the command, prints its error once.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use aldis_cli::args::{Cli, Command};
use aldis_cli::report::{Failure, Style};
use aldis_cli::{dev, list, manual, publish, status, tail, token, translate, validate, why};
use clap::Parser;

fn main() -> ExitCode {
    // Usage errors end here with exit code 2.
    let command = Cli::parse().command;
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprint!("{}", failure.text(Style::of(std::io::stderr().is_terminal())));
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::new(error, Some("is a system limit reached?".into())))?;
    runtime.block_on(async {
        match command {
            Command::Dev(args) => dev::run(args).await?,
            Command::Validate(args) => validate::run(args)?,
            Command::List(args) => list::run(args)?,
            Command::Translate(args) => translate::run(args)?,
            Command::Publish(args) => publish::run(args).await?,
            Command::Tail(args) => tail::run(args).await?,
            Command::Token(args) => token::run(args)?,
            Command::Status(args) => status::run(args).await?,
            Command::Why(args) => why::run(args).await?,
            Command::Completions(args) => manual::completions(&args),
            Command::Man(args) => manual::man(args)?,
        }
        Ok(())
    })
}
