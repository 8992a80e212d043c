//! YAML as `kubectl` reads it: go-yaml v2 with its YAML 1.1 words (`on` is true, `010` is eight), merge keys and
//! documents between lines of `---`, turned into JSON. Every field keeps its line and column.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScanError};
use serde_json::Value;

use crate::field::{self, Step};
use strict::Strict;

mod json;
mod mapping;
mod scalar;
mod strict;
mod tree;

/// Nesting of a document, in lists and mappings. Deeper ones are refused, so that nothing that walks a document can
/// run out of stack; below the 128 that `serde_json` reads.
pub const MAX_DEPTH: usize = 100;
/// Nodes of a document, with those that aliases repeat. Keeps the memory for one near 50 MB.
pub const MAX_NODES: usize = 200_000;
/// Bytes that the anchors of a document may copy: once to keep a value, once for each alias. This is what
/// makes an "alias bomb" an error.
pub const MAX_COPIED_BYTES: usize = 4 << 20;
/// Bytes of a key, as YAML itself bounds keys without a question mark. Field paths are made of keys.
pub const MAX_KEY_BYTES: usize = 1024;
/// Bytes of one document: what etcd takes in one request, and so what an API server can store. The parser may need a
/// hundred times as much memory for a document in one line.
pub const MAX_DOCUMENT_BYTES: usize = 3 << 19;
/// Documents of one file, empty ones too.
pub const MAX_DOCUMENTS: usize = 2000;
/// Mistakes that are reported of one document.
pub const MAX_MISTAKES: usize = 100;

/// A line that begins with a tab.
const TAB: &str = "a tab cannot be used for indentation; use spaces";

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Position {
    /// The place at a line and column, both from 1, of a text that begins here.
    fn then(self, line: usize, column: usize) -> Self {
        let line = line.max(1);
        let before = if line == 1 { self.column - 1 } else { 0 };
        Self {
            line: self.line - 1 + line,
            column: before + column,
        }
    }
}

/// Something that makes a document unreadable, or `kubectl` read something else than is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// Where.
    pub position: Position,
    /// The field, or empty.
    pub field: String,
    /// What, and how to mend it. Never holds a scalar's text.
    pub message: String,
}

/// One document.
pub struct Document {
    /// As JSON; `None` where it could not be read to its end.
    pub value: Option<Value>,
    /// Where its fields are.
    pub positions: Positions,
    /// What is wrong with it as YAML, in no order; at most [`MAX_MISTAKES`] and a last one that says there are more.
    pub mistakes: Vec<Mistake>,
}

/// Where the fields of a document are. Holds names, and no values.
#[derive(Clone)]
pub struct Positions(Arc<Place>);

/// A node's place, and those of what is in it.
struct Place {
    position: Position,
    inside: Arc<Inside>,
}

enum Inside {
    Nothing,
    Items(Vec<Arc<Place>>),
    /// A field's own position is its key's: that is where one looks for it.
    Fields(BTreeMap<String, (Position, Arc<Place>)>),
}

impl Positions {
    /// The place of a field; of its nearest known parent where there is no such field.
    pub fn position(&self, field_path: &str) -> Position {
        let mut place = &self.0;
        let mut position = place.position;
        for step in field::steps(field_path) {
            let next = match (&*place.inside, step) {
                (Inside::Fields(fields), Step::Key(key)) => {
                    fields.get(&key).map(|(position, place)| (*position, place))
                }
                (Inside::Items(items), Step::Index(index)) => items.get(index).map(|place| (place.position, place)),
                _ => None,
            };
            match next {
                Some((at, inner)) => (position, place) = (at, inner),
                None => break,
            }
        }
        position
    }

    fn nothing(position: Position) -> Self {
        Self(Arc::new(Place {
            position,
            inside: Arc::new(Inside::Nothing),
        }))
    }
}

impl fmt::Debug for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Positions(from line {})", self.0.position.line)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("positions", &self.positions)
            .field("mistakes", &self.mistakes)
            .finish_non_exhaustive()
    }
}

/// The documents of a file, without empty ones. A mistake in one does not hide the others.
pub fn documents(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = json::chunks(text).unwrap_or_else(|| chunks(text));
    let beyond = (chunks.len() > MAX_DOCUMENTS).then(|| chunks.swap_remove(MAX_DOCUMENTS).start);
    chunks.truncate(MAX_DOCUMENTS);
    let mut documents: Vec<_> = chunks.into_iter().filter_map(document).collect();
    documents.extend(beyond.map(|start| {
        unreadable(
            start,
            format!("more than {MAX_DOCUMENTS} documents in one file; the rest is not read"),
        )
    }));
    documents
}

/// The text of one document.
struct Chunk<'text> {
    text: Cow<'text, str>,
    /// Where it begins in its file.
    start: Position,
    /// What is wrong with the separator before it.
    mistake: Option<Mistake>,
}

/// Cuts a text at lines that begin with `---`, as `kubectl` does before it reads any YAML; and so a broken document ends
/// there.
fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let mut chunk = 0..0;
    let mut start = Position { line: 1, column: 1 };
    let mut mistake = None;
    for (line, content) in (1..).zip(text.split_inclusive('\n')) {
        let end = chunk.end + content.len();
        if let Some(behind) = content.strip_prefix("---") {
            chunks.push(Chunk {
                text: text[chunk.clone()].into(),
                start,
                mistake: mistake.take(),
            });
            mistake = separator(behind, line);
            start.line = line + 1;
            chunk = end..end;
        } else {
            chunk.end = end;
        }
    }
    chunks.push(Chunk {
        text: text[chunk].into(),
        start,
        mistake,
    });
    chunks
}

/// What is wrong with what stands behind `---`.
fn separator(behind: &str, line: usize) -> Option<Mistake> {
    let behind = behind.trim();
    let good = behind.is_empty() || behind.starts_with('#');
    (!good).then(|| Mistake {
        position: Position { line, column: 4 },
        field: String::new(),
        message: "kubectl takes nothing but a comment behind ---; begin the document on the next line".to_owned(),
    })
}

/// A document of which nothing is known but a mistake.
fn unreadable(position: Position, message: String) -> Document {
    let mistakes = vec![Mistake {
        position,
        field: String::new(),
        message,
    }];
    Document {
        value: None,
        positions: Positions::nothing(position),
        mistakes,
    }
}

/// Reads one document; `None` if it is empty.
fn document(Chunk { text, start, mistake }: Chunk<'_>) -> Option<Document> {
    if text.len() > MAX_DOCUMENT_BYTES {
        return Some(unreadable(
            start,
            format!("the document is larger than {MAX_DOCUMENT_BYTES} bytes"),
        ));
    }
    let mut builder = tree::Builder::new(start);
    let unreadable = read(&text, start, &mut builder).err();
    let ended = unreadable.is_none() && mistake.is_none();
    let (node, mut mistakes) = builder.finish();
    mistakes.extend(mistake);
    mistakes.extend(unreadable);
    let (value, positions) = match node {
        Some((value, place)) => (Some(value), Positions(place)),
        None => (None, Positions::nothing(start)),
    };
    let empty = value.as_ref().is_none_or(Value::is_null) && ended && mistakes.is_empty();
    (!empty).then_some(Document {
        value: value.filter(|_| ended),
        positions,
        mistakes,
    })
}

/// Feeds the events of one document to the builder.
fn read(text: &str, start: Position, builder: &mut tree::Builder) -> Result<(), Mistake> {
    let mut in_document = false;
    let mut document_seen = false;
    let mut strict = Strict::new(text);
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => return Err(syntax(&error, strict, start)),
        };
        if let Some((line, column, message)) = strict.event(&event, span) {
            builder.report(line, column, message);
        }
        match event {
            Event::DocumentStart(_) if document_seen => {
                let message =
                    "kubectl does not read what follows the end of a document; begin the next one with a line of ---";
                return Err(builder.mistake(span.start.line(), span.start.col() + 1, message));
            }
            Event::DocumentStart(_) => (in_document, document_seen) = (true, true),
            Event::DocumentEnd => in_document = false,
            event if in_document => builder.event(event, span.start)?,
            _ => {}
        }
    }
    for (line, column) in strict.tabs() {
        builder.report(line, column, TAB);
    }
    Ok(())
}

/// A syntax error; for one that comes of a tab, the tab. Which field it is in, the parser does not know by then.
fn syntax(error: &ScanError, strict: Strict<'_>, start: Position) -> Mistake {
    let line = error.marker().line().max(1);
    let (line, column, message) = match strict
        .tabs()
        .into_iter()
        .find(|(tab, _)| (line..=line + 1).contains(tab))
    {
        Some((line, column)) => (line, column, TAB.to_owned()),
        None => (
            line,
            error.marker().col() + 1,
            format!("this is no YAML: {}", in_our_words(error.info())),
        ),
    };
    Mistake {
        position: start.then(line, column),
        field: String::new(),
        message,
    }
}

/// The parser's message, or a better one.
fn in_our_words(info: &str) -> &str {
    match info {
        "':' must be followed by a valid YAML whitespace" => "a tab behind ':'; use a space",
        "mapping values are not allowed in this context" => {
            "a second ': ' in one line; put the text that holds it in quotes"
        }
        "while parsing node, found unknown anchor" => "there is no anchor of this name above",
        "while parsing a block mapping, did not find expected key" => "the indentation of this line fits none above",
        _ => info,
    }
}

#[cfg(test)]
mod tests;
