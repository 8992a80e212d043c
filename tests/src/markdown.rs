//! README.md, the pages in docs, and those of the examples: what they show, block by block.
//!
//! The operator's tests take this file too, by its path: they apply what it finds to an API server.

use std::fmt;
use std::path::{Path, PathBuf};

/// The clone's root.
fn repository() -> &'static Path {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let root = folders.find(|folder| folder.join("Cargo.lock").exists());
    root.expect("the workspace has a lock file")
}

/// Begins a comment in the line before a block that no test can execute, and says why: `<!-- not run: needs a cluster -->`
const NOT_RUN: &str = "<!-- not run: ";

/// A fenced block of a Markdown file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    /// `docs/http.md`
    pub(crate) page: String,
    line: usize,
    pub(crate) language: String,
    pub(crate) text: String,
    /// Why no test executes it.
    pub(crate) not_run: Option<String>,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.page, self.line)
    }
}

/// The pages, from the root of the repository.
pub(crate) fn pages() -> Vec<PathBuf> {
    let in_folder = |folder: &str| {
        let entries = std::fs::read_dir(repository().join(folder)).unwrap();
        let folder = PathBuf::from(folder);
        entries.map(move |entry| folder.join(entry.unwrap().file_name()))
    };
    let examples = in_folder("examples").map(|example| example.join("README.md"));
    let mut pages: Vec<_> = in_folder("docs").chain(examples).collect();
    pages
        .retain(|page| page.extension().is_some_and(|extension| extension == "md") && repository().join(page).exists());
    pages.push("README.md".into());
    pages.sort();
    pages
}

/// The blocks of all pages.
pub(crate) fn blocks() -> Vec<Block> {
    pages().iter().flat_map(|page| blocks_of(page)).collect()
}

/// The blocks of one page.
pub(crate) fn blocks_of(page: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(repository().join(page));
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    fenced(&page.display().to_string(), &text)
}

fn fenced(page: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    let mut before = "";
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                let marker = before.trim().strip_prefix(NOT_RUN);
                let reason = marker.and_then(|marker| marker.strip_suffix(" -->"));
                open = Some((
                    indent,
                    Block {
                        page: page.to_owned(),
                        line: number + 1,
                        language: language.split_whitespace().next().unwrap_or_default().to_owned(),
                        text: String::new(),
                        not_run: reason.map(str::to_owned),
                    },
                ));
            }
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(_, block)| block)),
            (None, Some((indent, block))) => {
                block.text.push_str(line.get(*indent..).unwrap_or(line.trim_start()));
                block.text.push('\n');
            }
            (None, None) => {}
        }
        before = line;
    }
    assert!(open.is_none(), "{page}: a block is not closed");
    blocks
}

#[test]
fn fenced_blocks_are_found_with_their_places_and_marks() {
    let text = "a\n```yaml\nx: 1\n  y: 2\n```\n- b\n  <!-- not run: needs a cluster -->\n  ```js title\n  z()\n  ```\n";
    let block = |line, language: &str, text: &str, not_run: Option<&str>| Block {
        page: "p.md".to_owned(),
        line,
        language: language.to_owned(),
        text: text.to_owned(),
        not_run: not_run.map(str::to_owned),
    };
    assert_eq!(
        fenced("p.md", text),
        [
            block(2, "yaml", "x: 1\n  y: 2\n", None),
            block(8, "js", "z()\n", Some("needs a cluster"))
        ]
    );
}
