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
use std::path::PathBuf;

use aldis_manifest::Problem;
use aldis_operator::validate::Reason;
use serde_json::{Value, json};

use crate::declared::{Declared, Elsewhere, Finding, printable};
use crate::report::{Explain, Style};

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
    /// The same as YAML
    Yaml,
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
    let printed = match args.output {
        Format::Text => report.text(Style::of(stdout.is_terminal())),
        Format::Json => format!("{:#}\n", report.json()),
        Format::Yaml => aldis_crds::crd::yaml_of(&report.json()),
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
    warnings: Vec<Problem>,
    counts: Counts,
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
    let elsewhere = Elsewhere {
        gateways: args.no_gateway,
        secrets: args.no_secrets,
    };
    let declared =
        Declared::read(&args.dir, elsewhere).map_err(|source| ValidateError::Unreadable { path: path(), source })?;
    if declared.is_empty() {
        return Err(ValidateError::Nothing { path: path() });
    }
    let specs = || declared.manifests.channels.iter().map(|located| &located.value.spec);
    let counts = Counts {
        gateways: declared.manifests.gateways.len(),
        channels: declared.manifests.channels.len(),
        rooms: specs().map(|spec| spec.rooms.len()).sum(),
        routes: specs().map(|spec| spec.routes.len()).sum(),
    };
    Ok(Report {
        findings: declared.findings,
        warnings: declared.warnings,
        counts,
    })
}

impl Report {
    /// A line for each problem and warning; where there are no problems, one that says what there is.
    fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let mut line = |problem: &Problem, kind: &str| {
            let place = format!("{}:{}:{}:", problem.file.display(), problem.line, problem.column);
            out.push_str(&style.bold(&printable(&place)));
            out.push_str(kind);
            if !problem.object.is_empty() {
                let _ = write!(out, " {}:", printable(&problem.object));
            }
            if !problem.field.is_empty() {
                let _ = write!(out, " {}:", style.cyan(&printable(&problem.field)));
            }
            let _ = writeln!(out, " {}", printable(&problem.message));
        };
        for Finding { problem, .. } in &self.findings {
            line(problem, "");
        }
        for warning in &self.warnings {
            line(warning, " warning:");
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
            let _ = writeln!(out, "{}: {counts}", style.green("ok"));
        }
        out
    }

    fn json(&self) -> Value {
        let shown = |problem: &Problem| {
            json!({
                "file": problem.file.to_string_lossy(),
                "line": problem.line,
                "column": problem.column,
                "object": problem.object,
                "field": problem.field,
                "message": problem.message,
            })
        };
        let problems: Vec<_> = self
            .findings
            .iter()
            .map(|Finding { problem, reason }| {
                let mut problem = shown(problem);
                problem["reason"] = json!(reason.unwrap_or(Reason::Invalid).as_str());
                problem
            })
            .collect();
        let warnings: Vec<_> = self.warnings.iter().map(shown).collect();
        let Counts {
            gateways,
            channels,
            rooms,
            routes,
        } = self.counts;
        json!({
            "ok": problems.is_empty(),
            "problems": problems,
            "warnings": warnings,
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
                .any(|finding| finding.reason == Some(wanted) && finding.problem.field.ends_with(end))
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

#[cfg(test)]
mod tests;
