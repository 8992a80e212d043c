//! `aldis completions SHELL` and `aldis man DIR`: what a package installs beside the program, from its own command line.

use std::io;
use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::report::Explain;

/// Print completions for a shell
///
/// Prints a script that completes commands, options and values.
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

const COMPLETIONS: &str = "Examples:
  source <(aldis completions bash)
  aldis completions zsh > ~/.zfunc/_aldis
  aldis completions fish > ~/.config/fish/completions/aldis.fish";

/// Write man pages
///
/// Writes aldis.1 and a page for each command into DIR, which is made where it is not there.
#[derive(Debug, clap::Args)]
#[command(after_help = MAN)]
pub struct ManArgs {
    /// Directory to write into
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

const MAN: &str = "Examples:
  aldis man ~/.local/share/man/man1 && man aldis-dev";

/// Why not all was written.
#[derive(Debug, thiserror::Error)]
pub enum ManualError {
    #[error("cannot write man pages into {}", .path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

impl Explain for ManualError {
    fn hint(&self) -> Option<String> {
        let Self::Unwritable { path, .. } = self;
        Some(format!(
            "may you write there? Else choose another directory than {}",
            path.display()
        ))
    }
}

/// Prints the script.
pub fn completions(args: &CompletionsArgs) {
    clap_complete::generate(args.shell, &mut Cli::command(), "aldis", &mut io::stdout().lock());
}

/// Writes the pages.
///
/// # Errors
/// Where DIR can not be written.
pub fn man(args: ManArgs) -> Result<(), ManualError> {
    let ManArgs { dir: path } = args;
    let written = std::fs::create_dir_all(&path).and_then(|()| clap_mangen::generate_to(Cli::command(), &path));
    written.map_err(|source| ManualError::Unwritable {
        path: path.clone(),
        source,
    })?;
    println!("wrote {}", path.join("aldis.1").display());
    Ok(())
}
