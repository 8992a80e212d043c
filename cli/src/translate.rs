//! `aldis translate DIR`: what a gateway reads, from manifests: what the operator would write.
//!
//! ```text
//! DIR → declared (as aldis validate) → operator's translate → config.json and keys/, for aldis-gateway --config
//! ```

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aldis_crds::contract::files::{KEYS_DIR, key_files};
use aldis_operator::translate;

use crate::declared::{Declared, Elsewhere};
use crate::dev::{DevError, choose};
use crate::report::Explain;

/// Name of the configuration's file.
const CONFIG: &str = "config.json";

/// Write what a gateway reads
///
/// Checks the manifests of DIR as `aldis validate` does, and writes the configuration of their gateway: config.json, and the
/// keys that it needs beside it in keys/. Each file is replaced in one step, so that a running gateway may follow the
/// directory. Without --out the configuration is printed, without any key.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct TranslateArgs {
    /// Directory of manifests: one NotificationGateway, its channels, and their Secrets
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Directory to write into; made where it is not there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Which gateway, where DIR has several
    #[arg(long, value_name = "NAMESPACE/NAME")]
    gateway: Option<String>,
}

const EXAMPLES: &str = "Examples:
  aldis translate manifests/
  aldis translate manifests/ --out gateway/ && aldis-gateway --config gateway/";

/// Why nothing, or not all, was written.
#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    #[error(transparent)]
    Declared(#[from] DevError),
    #[error("cannot write {}", .path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("the configuration cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl Explain for TranslateError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Declared(error) => error.hint(),
            _ => None,
        }
    }
}

/// Translates, and writes or prints.
///
/// # Errors
/// Where the manifests have problems, or a file can not be written: then those that were there stay.
pub fn run(args: TranslateArgs) -> Result<(), TranslateError> {
    let declared = Declared::read(&args.dir, Elsewhere::default()).map_err(|source| DevError::Unreadable {
        path: args.dir.clone(),
        source,
    })?;
    if !declared.findings.is_empty() {
        for finding in &declared.findings {
            eprintln!("{finding}");
        }
        return Err(DevError::Problems.into());
    }
    let validated = choose(&declared.outcome.gateways, args.gateway.as_deref())?;
    let mut config = serde_json::to_string_pretty(&translate(validated))?;
    config.push('\n');
    let keys = key_files(&validated.keys);
    let Some(out) = args.out else {
        print!("{config}");
        for (name, _) in keys {
            eprintln!("# {KEYS_DIR}/{name}: a key, not shown");
        }
        return Ok(());
    };
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |source| TranslateError::Unwritable { path, source }
    };
    let keys_dir = out.join(KEYS_DIR);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).create(&out).map_err(unwritable(&out))?;
    builder.mode(0o700).create(&keys_dir).map_err(unwritable(&keys_dir))?;
    // First what the configuration refers to, then the configuration, then what nothing refers to any more.
    for (name, secret) in &keys {
        write(&keys_dir, name, secret.expose()).map_err(unwritable(&keys_dir.join(name)))?;
    }
    write(&out, CONFIG, config.as_bytes()).map_err(unwritable(&out.join(CONFIG)))?;
    let wanted: HashSet<_> = keys.iter().map(|(name, _)| name.as_str()).collect();
    for entry in fs::read_dir(&keys_dir).map_err(unwritable(&keys_dir))?.flatten() {
        if entry.file_name().to_str().is_some_and(|name| !wanted.contains(name)) {
            fs::remove_file(entry.path()).map_err(unwritable(&entry.path()))?;
        }
    }
    println!(
        "wrote {}: channels {}, keys {}",
        out.display(),
        validated.channels.len(),
        keys.len()
    );
    Ok(())
}

/// Replaces a file in one step; nobody else on this machine may read it.
fn write(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let new = dir.join(".new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(new, dir.join(name))
}

#[cfg(test)]
mod tests;
