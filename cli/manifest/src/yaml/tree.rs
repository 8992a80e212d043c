//! Builds the value of one document, and the places of its fields, from the parser's events.
//!
//! Nothing here recurses: what is open is kept in a list of frames, whose length is bounded.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, ScalarStyle, Tag};
use serde_json::Value;

use super::mapping::{Key, Mapping};
use super::scalar::{self, Scalar};
use super::{Inside, MAX_COPIED_BYTES, MAX_DEPTH, MAX_KEY_BYTES, MAX_MISTAKES, MAX_NODES, Mistake, Place, Position};
use crate::field;

/// What a value costs beside its text, in bytes: roughly a `Value`, its key and its share of a map.
const NODE_BYTES: usize = 64;

/// A finished value.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Arc<Place>,
    /// Memory, in bytes.
    bytes: usize,
    /// Nodes, with itself.
    nodes: usize,
    /// Nesting: 0 for a scalar.
    height: usize,
}

/// A list or mapping whose end has not come yet.
struct Frame {
    position: Position,
    anchor: usize,
    bytes: usize,
    nodes: usize,
    height: usize,
    open: Open,
}

enum Open {
    List { items: Vec<Value>, places: Vec<Arc<Place>> },
    Mapping(Mapping),
}

pub(super) struct Builder {
    start: Position,
    frames: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    copied_bytes: usize,
    mistakes: Vec<Mistake>,
}

impl Builder {
    /// A builder for a document that begins at `start`.
    pub(super) fn new(start: Position) -> Self {
        Self {
            start,
            frames: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            nodes: 0,
            copied_bytes: 0,
            mistakes: Vec::new(),
        }
    }

    /// The value, unless its end never came, with the mistakes found in it.
    pub(super) fn finish(self) -> (Option<(Value, Arc<Place>)>, Vec<Mistake>) {
        (self.root.map(|root| (root.value, root.place)), self.mistakes)
    }

    /// A mistake in a line of the document, in the field that is being read.
    pub(super) fn mistake(&self, line: usize, column: usize, message: &str) -> Mistake {
        self.mistake_at(self.start.then(line, column), message.to_owned())
    }

    /// Keeps a mistake in a line of the document, after which it goes on.
    pub(super) fn report(&mut self, line: usize, column: usize, message: &str) {
        self.keep(self.start.then(line, column), None, message.to_owned());
    }

    /// Takes an event in. An error ends the document.
    pub(super) fn event(&mut self, event: Event<'_>, marker: Marker) -> Result<(), Mistake> {
        let position = self.position(marker);
        match event {
            Event::SequenceStart(anchor, _) => self.open(
                position,
                anchor,
                Open::List {
                    items: Vec::new(),
                    places: Vec::new(),
                },
            ),
            Event::MappingStart(anchor, _) => self.open(position, anchor, Open::Mapping(Mapping::default())),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let tag = tag.map(|tag: std::borrow::Cow<'_, Tag>| format!("{}{}", tag.handle, tag.suffix));
                self.scalar(&text, plain, tag.as_deref(), anchor, position)
            }
            Event::Alias(anchor) => self.alias(anchor, position),
            _ => Ok(()),
        }
    }

    fn position(&self, marker: Marker) -> Position {
        self.start.then(marker.line(), marker.col() + 1)
    }

    fn mistake_at(&self, position: Position, message: String) -> Mistake {
        Mistake {
            position,
            field: self.field(),
            message,
        }
    }

    /// Keeps a mistake after which the document goes on; `key` is a field of the mapping that is being read.
    fn keep(&mut self, position: Position, key: Option<&str>, message: String) {
        match self.mistakes.len() {
            0..MAX_MISTAKES => {
                let mut mistake = self.mistake_at(position, message);
                key.inspect(|key| field::push_key(&mut mistake.field, key));
                self.mistakes.push(mistake);
            }
            MAX_MISTAKES => {
                let message = "this document has more mistakes than are shown".to_owned();
                self.mistakes.push(Mistake {
                    position,
                    field: String::new(),
                    message,
                });
            }
            _ => {}
        }
    }

    /// The field that is being read.
    fn field(&self) -> String {
        let mut path = String::new();
        for frame in &self.frames {
            match &frame.open {
                Open::List { items, .. } => field::push_index(&mut path, items.len()),
                Open::Mapping(Mapping {
                    key: Some(Key::Field(key, _)),
                    ..
                }) => field::push_key(&mut path, key),
                Open::Mapping(_) => {}
            }
        }
        path
    }

    fn open(&mut self, position: Position, anchor: usize, open: Open) -> Result<(), Mistake> {
        self.count(1, position)?;
        if self.frames.len() >= MAX_DEPTH {
            return Err(too_deep(position));
        }
        // No later node can be read as this mapping's key, and so the message can name the mapping.
        let is_key = matches!(
            self.frames.last(),
            Some(Frame {
                open: Open::Mapping(Mapping { key: None, .. }),
                ..
            })
        );
        if is_key {
            return Err(self.mistake_at(
                position,
                "a key must be a string, and not a list or a mapping".to_owned(),
            ));
        }
        self.frames.push(Frame {
            position,
            anchor,
            bytes: NODE_BYTES,
            nodes: 1,
            height: 1,
            open,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Mistake> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let (value, inside) = match frame.open {
            Open::List { items, places } => (Value::Array(items), Inside::Items(places)),
            Open::Mapping(mapping) => (Value::Object(mapping.values), Inside::Fields(mapping.fields)),
        };
        let place = Arc::new(Place {
            position: frame.position,
            inside: Arc::new(inside),
        });
        let node = Node {
            value,
            place,
            bytes: frame.bytes,
            nodes: frame.nodes,
            height: frame.height,
        };
        self.anchor(frame.anchor, &node)?;
        self.add(node)
    }

    fn scalar(
        &mut self,
        text: &str,
        plain: bool,
        tag: Option<&str>,
        anchor: usize,
        position: Position,
    ) -> Result<(), Mistake> {
        self.count(1, position)?;
        let scalar = scalar::resolve(text, plain, tag).unwrap_or_else(|message| {
            self.keep(position, None, message);
            Scalar::Text(String::new())
        });
        let expects_key = matches!(
            self.frames.last(),
            Some(Frame {
                open: Open::Mapping(Mapping { key: None, .. }),
                ..
            })
        );
        if expects_key {
            let is_merge = text == "<<" && ((plain && tag.is_none()) || tag == Some("tag:yaml.org,2002:merge"));
            if anchor > 0 {
                let node = self.leaf(scalar.clone(), position);
                self.anchor(anchor, &node)?;
            }
            let key = if is_merge {
                Ok(Key::Merge(position))
            } else {
                self.key(scalar, position)
            };
            return self.set_key(key, position);
        }
        let node = self.leaf(scalar, position);
        self.anchor(anchor, &node)?;
        self.add(node)
    }

    fn alias(&mut self, anchor: usize, position: Position) -> Result<(), Mistake> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(self.mistake_at(position, "this alias stands inside of what it refers to".to_owned()));
        };
        let (bytes, nodes, height) = (node.bytes, node.nodes, node.height);
        self.count(nodes, position)?;
        self.copy(bytes, position)?;
        if self.frames.len() + height > MAX_DEPTH {
            return Err(too_deep(position));
        }
        let mut node = self.anchors[&anchor].clone();
        node.place = Arc::new(Place {
            position,
            inside: Arc::clone(&node.place.inside),
        });
        if matches!(
            self.frames.last(),
            Some(Frame {
                open: Open::Mapping(Mapping { key: None, .. }),
                ..
            })
        ) {
            let key = match node.value {
                Value::String(text) => self.key(Scalar::Text(text), position),
                Value::Bool(bool) => self.key(Scalar::Bool(bool), position),
                Value::Number(number) => self.key(Scalar::Text(number.to_string()), position),
                _ => Err("a key must be a string; this alias is none".to_owned()),
            };
            return self.set_key(key, position);
        }
        self.add(node)
    }

    /// A scalar as a node; one that JSON cannot hold is reported.
    fn leaf(&mut self, scalar: Scalar, position: Position) -> Node {
        let value = scalar.into_json().unwrap_or_else(|message| {
            self.keep(position, None, message);
            Value::Null
        });
        let bytes = NODE_BYTES + value.as_str().map_or(0, str::len);
        let place = Arc::new(Place {
            position,
            inside: Arc::new(Inside::Nothing),
        });
        Node {
            value,
            place,
            bytes,
            nodes: 1,
            height: 0,
        }
    }

    fn key(&self, scalar: Scalar, position: Position) -> Result<Key, String> {
        let key = scalar.into_key()?;
        if key.len() > MAX_KEY_BYTES {
            return Err(format!("a key must be at most {MAX_KEY_BYTES} bytes long"));
        }
        Ok(Key::Field(key, position))
    }

    fn set_key(&mut self, key: Result<Key, String>, position: Position) -> Result<(), Mistake> {
        let key = key.unwrap_or_else(|message| {
            self.keep(position, None, message);
            Key::Bad
        });
        if let Some(Frame {
            open: Open::Mapping(mapping),
            bytes,
            ..
        }) = self.frames.last_mut()
        {
            if let Key::Field(key, _) = &key {
                *bytes += key.len();
            }
            mapping.key = Some(key);
        }
        Ok(())
    }

    /// Counts nodes that a document gets, by itself or by an alias.
    fn count(&mut self, nodes: usize, position: Position) -> Result<(), Mistake> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values in one document, with those that its aliases repeat");
            return Err(self.mistake_at(position, message));
        }
        Ok(())
    }

    /// Counts bytes that are copied for an anchor or alias.
    fn copy(&mut self, bytes: usize, position: Position) -> Result<(), Mistake> {
        self.copied_bytes += bytes;
        if self.copied_bytes > MAX_COPIED_BYTES {
            let message = format!("anchors and aliases repeat more than {MAX_COPIED_BYTES} bytes in one document");
            return Err(self.mistake_at(position, message));
        }
        Ok(())
    }

    fn anchor(&mut self, anchor: usize, node: &Node) -> Result<(), Mistake> {
        if anchor > 0 {
            self.copy(node.bytes, node.place.position)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node) -> Result<(), Mistake> {
        let Some(mut frame) = self.frames.pop() else {
            self.root = Some(node);
            return Ok(());
        };
        frame.bytes += node.bytes;
        frame.nodes += node.nodes;
        frame.height = frame.height.max(node.height + 1);
        let mut mistakes = Vec::new();
        match &mut frame.open {
            Open::List { items, places } => {
                items.push(node.value);
                places.push(node.place);
            }
            Open::Mapping(mapping) => match mapping.key.take() {
                Some(Key::Field(key, position)) => mistakes.extend(mapping.set(key, position, node)),
                Some(Key::Merge(position)) => mistakes.extend(mapping.merge(position, node)),
                Some(Key::Bad) | None => {}
            },
        }
        self.frames.push(frame);
        for (position, key, message) in mistakes {
            self.keep(position, key.as_deref(), message);
        }
        Ok(())
    }
}

/// The path of such a field would say nothing.
fn too_deep(position: Position) -> Mistake {
    Mistake {
        position,
        field: String::new(),
        message: format!("nested deeper than {MAX_DEPTH} levels"),
    }
}
