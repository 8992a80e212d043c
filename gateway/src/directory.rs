//! directory: the configuration of a gateway as files, as `aldis translate --out` writes them and Kubernetes mounts them.
//!
//! ```text
//! read → settled (twice the same) → parse → in force, or rejected: then the last good one stays
//! ```
//! Changes are found by content: kubelets swap whole directories by symlinks, editors write in place.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aldis_crds::contract::files::{CONFIG_FILES, KEYS_DIR, keys_of};
use aldis_crds::contract::{CONTRACT_VERSION, GatewayConfig, Keys, Secret};
use aldis_manifest::documents;
use aws_lc_rs::digest::{Context, SHA256};
use serde::Deserialize;
use serde_json::Value;

/// Bytes of a configuration with its keys. 64 MiB: thousands of channels.
pub const MAX_BYTES: u64 = 64 << 20;
/// Key files of a configuration.
pub const MAX_KEYS: usize = 10_000;

/// Where a configuration is.
#[derive(Clone, Debug)]
pub struct Directory {
    config: PathBuf,
    keys: PathBuf,
}

/// What was there at one look.
pub struct Files {
    config: (PathBuf, Vec<u8>),
    keys: Vec<(String, Secret)>,
}

/// Tells whether two looks saw the same.
pub type Fingerprint = [u8; 32];

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It can not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nothing is there.
    #[error("there is no config.json in {}: write one with `aldis translate DIR --out {}`", .0.display(), .0.display())]
    NoConfig(PathBuf),
    /// Which one counts?
    #[error("{} has {first} and {second}: remove one of them", .dir.display())]
    Several {
        /// Where.
        dir: PathBuf,
        /// One.
        first: &'static str,
        /// Another.
        second: &'static str,
    },
    /// More than fits.
    #[error("{} and its keys are more than {MAX_BYTES} bytes or {MAX_KEYS} files", .0.display())]
    TooLarge(PathBuf),
    /// Not what it should be.
    #[error("{}: {message}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What, with its place.
        message: String,
    },
    /// Written by another generation of the operator.
    #[error("{} has version {found} of the contract, and this gateway reads version {CONTRACT_VERSION}: use the aldis that fits it", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
    },
}

impl Directory {
    /// `config`: holds `config.json`; `keys`: the key files, by default `keys` beside it.
    pub fn new(config: PathBuf, keys: Option<PathBuf>) -> Self {
        let keys = keys.unwrap_or_else(|| config.join(KEYS_DIR));
        Self { config, keys }
    }

    /// Reads all that is there now.
    ///
    /// # Errors
    /// Where that can not be done.
    pub fn read(&self) -> Result<Files, LoadError> {
        let mut room = MAX_BYTES;
        let mut found: Option<(&'static str, PathBuf, Vec<u8>)> = None;
        for name in CONFIG_FILES {
            let path = self.config.join(name);
            match (read_file(&path, &mut room), found.take()) {
                (Err(LoadError::Unreadable { source, .. }), before) if source.kind() == io::ErrorKind::NotFound => {
                    found = before
                }
                (Err(error), _) => return Err(error),
                (Ok(bytes), None) => found = Some((name, path, bytes)),
                (Ok(_), Some((first, ..))) => {
                    let dir = self.config.clone();
                    return Err(LoadError::Several {
                        dir,
                        first,
                        second: name,
                    });
                }
            }
        }
        let (_, path, bytes) = found.ok_or_else(|| LoadError::NoConfig(self.config.clone()))?;
        Ok(Files {
            config: (path, bytes),
            keys: self.read_keys(&mut room)?,
        })
    }

    /// A directory without keys may be absent.
    fn read_keys(&self, room: &mut u64) -> Result<Vec<(String, Secret)>, LoadError> {
        let entries = match fs::read_dir(&self.keys) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                let path = self.keys.clone();
                return Err(LoadError::Unreadable { path, source });
            }
        };
        let mut keys = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            // Names that kubelets and editors use for themselves.
            let Some(name) = entry
                .file_name()
                .to_str()
                .filter(|name| !name.starts_with('.'))
                .map(str::to_owned)
            else {
                continue;
            };
            if !path.is_file() {
                continue;
            }
            if keys.len() == MAX_KEYS {
                return Err(LoadError::TooLarge(self.keys.clone()));
            }
            keys.push((name, Secret::new(read_file(&path, room)?)));
        }
        keys.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(keys)
    }
}

/// A file, within what is left to read.
fn read_file(path: &Path, room: &mut u64) -> Result<Vec<u8>, LoadError> {
    let unreadable = |source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    let read = file.take(*room + 1).read_to_end(&mut bytes).map_err(unreadable)? as u64;
    *room = room
        .checked_sub(read)
        .ok_or_else(|| LoadError::TooLarge(path.to_owned()))?;
    Ok(bytes)
}

impl Files {
    /// Changes whenever a name or a content does.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut digest = Context::new(&SHA256);
        let mut add = |bytes: &[u8]| {
            digest.update(&(bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        };
        add(self.config.0.as_os_str().as_encoded_bytes());
        add(&self.config.1);
        for (name, secret) in &self.keys {
            add(name.as_bytes());
            add(secret.expose());
        }
        finish(digest)
    }

    /// The configuration in them.
    ///
    /// # Errors
    /// Where it is none, or one of another version.
    pub fn parse(self) -> Result<(GatewayConfig, Keys), LoadError> {
        let (path, bytes) = self.config;
        let value = parse(&path, &bytes)?;
        let version = value.get("version").and_then(Value::as_u64);
        if version.is_some_and(|found| found != u64::from(CONTRACT_VERSION)) {
            let found = version.unwrap_or_default();
            return Err(LoadError::Version { path, found });
        }
        let config = serde_path_to_error::deserialize(value).map_err(|error| LoadError::Malformed {
            path,
            message: format!("{}: {}", error.path(), error.inner()),
        })?;
        Ok((config, keys_of(self.keys)))
    }
}

/// A look that found nothing to read is told from others by what it says.
pub fn fingerprint_of(error: &LoadError) -> Fingerprint {
    let mut digest = Context::new(&SHA256);
    digest.update(error.to_string().as_bytes());
    finish(digest)
}

fn finish(digest: Context) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(digest.finish().as_ref());
    fingerprint
}

/// JSON or YAML, by the file's name.
fn parse(path: &Path, bytes: &[u8]) -> Result<Value, LoadError> {
    let malformed = |message: &dyn fmt::Display| LoadError::Malformed {
        path: path.to_owned(),
        message: message.to_string(),
    };
    if path.extension().is_some_and(|extension| extension == "json") {
        // Not through Value's own depth: specs are as deep as manifests, which are bounded.
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let value = Value::deserialize(&mut json).and_then(|value| json.end().map(|()| value));
        return value.map_err(|error| malformed(&error));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| malformed(&error))?;
    let mut read = documents(text);
    match (read.len(), read.pop()) {
        (1, Some(document)) => match document.mistakes.first() {
            Some(mistake) => Err(malformed(&format_args!(
                "line {}, column {}: {}",
                mistake.position.line, mistake.position.column, mistake.message
            ))),
            None => document.value.ok_or_else(|| malformed(&"it is empty")),
        },
        (count, _) => Err(malformed(&format_args!("{count} YAML documents, and one is wanted"))),
    }
}

#[cfg(test)]
mod tests;
