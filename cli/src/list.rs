//! `aldis list DIR`: the channels that a directory declares, where clients reach them, and whether they are good.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use crate::declared::{Declared, Elsewhere, printable};
use crate::report::{Explain, Output, Style};

/// List the channels of a directory
///
/// Reads every .yaml, .yml and .json file in DIR and below it, and prints a line for each channel: where clients connect,
/// which topics it reads, and how many problems `aldis validate` finds in it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ListArgs {
    /// Directory of manifests, or a single file
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// How channels are printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

const EXAMPLES: &str = "Examples:
  aldis list examples/bistro
  aldis list manifests/ --output json | jq -r '.[] | select(.problems > 0).name'";

/// Why nothing was listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error("cannot read {}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl Explain for ListError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => Some("DIR is a directory of manifests, or one of them".to_owned()),
            Self::Output(_) => None,
        }
    }
}

/// A channel.
#[derive(Debug, Serialize)]
struct Row {
    /// `namespace/name`
    name: String,
    /// Gateways that it wants to be attached to.
    gateways: Vec<String>,
    /// Socket.IO namespaces.
    paths: Vec<String>,
    topics: Vec<String>,
    rooms: usize,
    routes: usize,
    problems: usize,
}

/// Lists.
///
/// # Errors
/// Where DIR can not be read. A channel with problems is listed like any other.
pub fn run(args: ListArgs) -> Result<(), ListError> {
    let declared = Declared::read(&args.dir, Elsewhere::default()).map_err(|source| ListError::Unreadable {
        path: args.dir.clone(),
        source,
    })?;
    let rows = rows(&declared);
    let mut stdout = io::stdout().lock();
    let printed = match args.output {
        Output::Table => table(&rows, Style::of(stdout.is_terminal())),
        Output::Json => format!("{:#}\n", json!(rows)),
        Output::Yaml => aldis_crds::crd::yaml_of(&json!(rows)),
    };
    stdout
        .write_all(printed.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(ListError::Output)
}

fn rows(declared: &Declared) -> Vec<Row> {
    let channels = declared.manifests.channels.iter().map(|located| {
        let (metadata, spec) = (&located.value.metadata, &located.value.spec);
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let name = format!("{}/{}", part(&metadata.namespace), part(&metadata.name));
        let object = format!("NotificationChannel {name}");
        let gateways = spec.parent_refs.iter().map(|parent| {
            let namespace = parent.namespace.clone().or_else(|| metadata.namespace.clone());
            format!("{}/{}", part(&namespace), parent.name)
        });
        let mut topics: Vec<_> = spec
            .sources
            .iter()
            .flat_map(|source| source.kafka.topics.clone())
            .collect();
        topics.sort_unstable();
        topics.dedup();
        Row {
            gateways: gateways.collect(),
            paths: spec.paths.clone().unwrap_or_else(|| vec![format!("/{name}")]),
            topics,
            rooms: spec.rooms.len(),
            routes: spec.routes.len(),
            problems: declared
                .findings
                .iter()
                .filter(|finding| finding.problem.object == object)
                .count(),
            name,
        }
    });
    let mut rows: Vec<_> = channels.collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// Columns as wide as what is in them; a line for each channel.
fn table(rows: &[Row], style: Style) -> String {
    if rows.is_empty() {
        return "no channels\n".to_owned();
    }
    let head = ["CHANNEL", "GATEWAY", "PATHS", "TOPICS", "ROOMS", "ROUTES", "PROBLEMS"].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        let list = |items: &[String]| printable(&items.join(","));
        [
            printable(&row.name),
            list(&row.gateways),
            list(&row.paths),
            list(&row.topics),
            row.rooms.to_string(),
            row.routes.to_string(),
            row.problems.to_string(),
        ]
    });
    let lines: Vec<_> = std::iter::once(head).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
    let mut out = String::new();
    for (number, line) in lines.iter().enumerate() {
        let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let text = padded.collect::<Vec<_>>().join("  ");
        let is_bad = number > 0 && rows[number - 1].problems > 0;
        out.push_str(&match (number, is_bad) {
            (0, _) => style.bold(text.trim_end()),
            (_, true) => style.red(text.trim_end()),
            (_, false) => text.trim_end().to_owned(),
        });
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, problems: usize) -> Row {
        Row {
            name: name.to_owned(),
            gateways: vec!["g/shared".to_owned()],
            paths: vec!["/a".to_owned(), "/b".to_owned()],
            topics: vec!["orders".to_owned()],
            rooms: 2,
            routes: 1,
            problems,
        }
    }

    #[test]
    fn a_table_has_columns_and_colours_only_where_they_are_wanted() {
        let rows = [row("a/long-name", 0), row("b/c", 3)];
        assert_eq!(
            table(&rows, Style::of(false)),
            "CHANNEL      GATEWAY   PATHS  TOPICS  ROOMS  ROUTES  PROBLEMS\n\
             a/long-name  g/shared  /a,/b  orders  2      1       0\n\
             b/c          g/shared  /a,/b  orders  2      1       3\n"
        );
        let coloured = table(&rows, Style::Colours);
        assert!(coloured.starts_with("\x1b[1mCHANNEL"), "{coloured:?}");
        assert!(coloured.contains("\x1b[31mb/c"), "{coloured:?}");
        assert_eq!(table(&[], Style::Plain), "no channels\n");
    }
}
