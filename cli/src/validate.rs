//! `aldis validate`: says everything that is wrong with the manifests of a directory, and where.
//!
//! ```text
//! files → manifest   YAML, schemas and rules, as kubectl and an API server have them
//!       → operator   the very same step that decides in a cluster what is served
//!       → problems by file and line, or what there is
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use aldis_manifest::{Located, Manifests, Origin, Problem, read_dir};
use aldis_operator::validate::{Object, ObjectName, Objects, Others, Reason, validate};
use serde_json::{Value, json};

use crate::report::Explain;

/// Check manifests without a cluster
///
/// Reads every .yaml, .yml and .json file in DIR and below it, and prints each problem as
/// file:line:column: object: field: message. Checks what a cluster would: schemas and rules, references to
/// gateways, listeners and Secrets, who has which path, and that every expression compiles.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ValidateArgs {
    /// Directory of manifests, or a single file
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// How problems are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,

    /// Take gateways that are not in DIR for present
    #[arg(long)]
    no_gateway: bool,

    /// Take Secrets that are not in DIR for present, with the keys that are asked for
    #[arg(long)]
    no_secrets: bool,
}

const EXAMPLES: &str = "Examples:
  aldis validate manifests/
  aldis validate channel.yaml --no-gateway --no-secrets
  aldis validate manifests/ --output json | jq '.problems[].message'";

/// How problems are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A line each
    Text,
    /// One JSON object with everything
    Json,
}

/// Why the command fails. Problems are printed before it ends with [`ValidateError::Problems`].
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    #[error("cannot read {}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("no gateway, channel or Secret in {}", .path.display())]
    Nothing { path: PathBuf },
    #[error("{} in {}", counted(*.problems, "problem"), counted(*.files, "file"))]
    Problems {
        problems: usize,
        files: usize,
        hint: Option<&'static str>,
    },
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl Explain for ValidateError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Problems { hint, .. } => hint.map(str::to_owned),
            Self::Nothing { .. } => Some("manifests are files that end in .yaml, .yml or .json".to_owned()),
            Self::Unreadable { .. } | Self::Output(_) => None,
        }
    }
}

/// Prints every problem, or what there is.
///
/// # Errors
/// Where something is wrong with the manifests, or they cannot be read.
pub fn run(args: ValidateArgs) -> Result<(), ValidateError> {
    let report = check(&args)?;
    let mut stdout = io::stdout().lock();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let printed = match args.output {
        Format::Text => report.text(stdout.is_terminal() && !no_color),
        Format::Json => format!("{:#}\n", report.json()),
    };
    stdout
        .write_all(printed.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(ValidateError::Output)?;
    report.verdict(&args)
}

/// Everything that was found.
struct Report {
    /// By file, line and column; each once.
    findings: Vec<Finding>,
    counts: Counts,
}

/// A problem, and the reason that a condition in a cluster would give.
#[derive(Clone, PartialEq, Eq)]
struct Finding {
    problem: Problem,
    reason: Reason,
}

/// What there is, problems aside.
struct Counts {
    gateways: usize,
    channels: usize,
    rooms: usize,
    routes: usize,
}

fn check(args: &ValidateArgs) -> Result<Report, ValidateError> {
    let path = || args.dir.clone();
    let manifests = read_dir(&args.dir).map_err(|source| ValidateError::Unreadable { path: path(), source })?;
    let Manifests {
        gateways,
        channels,
        secrets,
        problems,
    } = &manifests;
    if gateways.is_empty() && channels.is_empty() && secrets.is_empty() && problems.is_empty() {
        return Err(ValidateError::Nothing { path: path() });
    }
    let outcome = validate(&Objects {
        gateways: gateways.iter().map(|located| &located.value).collect(),
        channels: channels.iter().map(|located| &located.value).collect(),
        secrets: secrets.iter().map(|located| &located.value).collect(),
        other_gateways: others(args.no_gateway, "NotificationGateway", problems),
        other_secrets: others(args.no_secrets, "Secret", problems),
    });
    let in_files = problems.iter().map(|problem| Finding {
        problem: problem.clone(),
        reason: Reason::Invalid,
    });
    let between_objects = outcome.problems.iter().map(|problem| {
        let (object, origin) = locate(&manifests, problem.object);
        let mut message = problem.message.clone();
        if let Some(other) = problem.other {
            let (_, origin) = locate(&manifests, other);
            let line = origin.position("metadata.name").0;
            let _ = write!(message, " (see {}:{line})", origin.file.display());
        }
        Finding {
            problem: origin.problem(&object, &problem.field, message),
            reason: problem.reason,
        }
    });
    let mut findings: Vec<_> = in_files.chain(between_objects).collect();
    findings.sort_by(|a, b| order(&a.problem).cmp(&order(&b.problem)));
    // What is wrong at two gateways is still one line to mend.
    findings.dedup();
    let specs = || channels.iter().map(|located| &located.value.spec);
    let counts = Counts {
        gateways: gateways.len(),
        channels: channels.len(),
        rooms: specs().map(|spec| spec.rooms.len()).sum(),
        routes: specs().map(|spec| spec.routes.len()).sum(),
    };
    Ok(Report { findings, counts })
}

fn order(problem: &Problem) -> (&Path, usize, usize, &str, &str) {
    (
        &problem.file,
        problem.line,
        problem.column,
        &problem.field,
        &problem.message,
    )
}

/// Objects that are there, but not to be read: any, if so asked; else those with a problem of their own, about which
/// nobody who refers to them needs to hear.
fn others(any: bool, kind: &str, problems: &[Problem]) -> Others {
    if any {
        return Others::Any;
    }
    let name = |problem: &Problem| {
        let (namespace, name) = problem.object.strip_prefix(kind)?.strip_prefix(' ')?.split_once('/')?;
        Some(ObjectName::new(namespace, name))
    };
    Others::Named(problems.iter().filter_map(name).collect::<BTreeSet<_>>())
}

/// An object as problems name it, and where it stands.
fn locate(manifests: &Manifests, object: Object) -> (String, &Origin) {
    let (kind, metadata, origin) = match object {
        Object::Gateway(index) => {
            let Located { value, origin } = &manifests.gateways[index];
            ("NotificationGateway", &value.metadata, origin)
        }
        Object::Channel(index) => {
            let Located { value, origin } = &manifests.channels[index];
            ("NotificationChannel", &value.metadata, origin)
        }
        Object::Secret(index) => {
            let Located { value, origin } = &manifests.secrets[index];
            ("Secret", &value.metadata, origin)
        }
    };
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    (
        format!("{kind} {}/{}", part(&metadata.namespace), part(&metadata.name)),
        origin,
    )
}

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

impl Report {
    /// A line for each problem; where there are none, one that says what there is.
    fn text(&self, colour: bool) -> String {
        let paint = |style: &str, text: &str| {
            let text = printable(text);
            if colour { format!("{style}{text}{RESET}") } else { text }
        };
        let mut out = String::new();
        for Finding { problem, .. } in &self.findings {
            let place = format!("{}:{}:{}:", problem.file.display(), problem.line, problem.column);
            out.push_str(&paint(BOLD, &place));
            if !problem.object.is_empty() {
                let _ = write!(out, " {}:", printable(&problem.object));
            }
            if !problem.field.is_empty() {
                let _ = write!(out, " {}:", paint(CYAN, &problem.field));
            }
            let _ = writeln!(out, " {}", printable(&problem.message));
        }
        if self.findings.is_empty() {
            let Counts {
                gateways,
                channels,
                rooms,
                routes,
            } = self.counts;
            let counts = [
                (gateways, "gateway"),
                (channels, "channel"),
                (rooms, "room"),
                (routes, "route"),
            ];
            let counts = counts.map(|(count, what)| counted(count, what)).join(", ");
            let _ = writeln!(out, "{}: {counts}", paint(GREEN, "ok"));
        }
        out
    }

    fn json(&self) -> Value {
        let problems: Vec<_> = self
            .findings
            .iter()
            .map(|Finding { problem, reason }| {
                json!({
                    "file": problem.file.to_string_lossy(),
                    "line": problem.line,
                    "column": problem.column,
                    "object": problem.object,
                    "field": problem.field,
                    "reason": reason.as_str(),
                    "message": problem.message,
                })
            })
            .collect();
        let Counts {
            gateways,
            channels,
            rooms,
            routes,
        } = self.counts;
        json!({
            "ok": problems.is_empty(),
            "problems": problems,
            "read": { "gateways": gateways, "channels": channels, "rooms": rooms, "routes": routes },
        })
    }

    /// What the command ends with.
    fn verdict(&self, args: &ValidateArgs) -> Result<(), ValidateError> {
        if self.findings.is_empty() {
            return Ok(());
        }
        let files: BTreeSet<_> = self.findings.iter().map(|finding| &finding.problem.file).collect();
        let field_of = |wanted: Reason, end: &str| {
            self.findings
                .iter()
                .any(|finding| finding.reason == wanted && finding.problem.field.ends_with(end))
        };
        let gateway = !args.no_gateway && field_of(Reason::GatewayNotFound, ".name");
        let secret = !args.no_secrets && field_of(Reason::SecretNotFound, ".name");
        let hint = match (gateway, secret) {
            (true, true) => Some("--no-gateway and --no-secrets leave out what is kept somewhere else"),
            (true, false) => Some("--no-gateway checks channels whose gateway is kept somewhere else"),
            (false, true) => Some("--no-secrets checks channels whose Secrets are kept somewhere else"),
            (false, false) => None,
        };
        Err(ValidateError::Problems {
            problems: self.findings.len(),
            files: files.len(),
            hint,
        })
    }
}

/// `1 room`, `2 rooms`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The text without what would steer a terminal or begin another line.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests;
