//! A mapping that is being read: keys that come twice, and `<<`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::tree::Node;
use super::{Inside, Place, Position};

#[derive(Default)]
pub(super) struct Mapping {
    pub(super) values: Map<String, Value>,
    pub(super) fields: BTreeMap<String, (Position, Arc<Place>)>,
    /// Keys that came by `<<`.
    merged: BTreeSet<String>,
    /// The key whose value comes next.
    pub(super) key: Option<Key>,
}

pub(super) enum Key {
    Field(String, Position),
    Merge(Position),
    /// Reported already; its value is dropped.
    Bad,
}

/// What `<<` wants.
const MERGE: &str = "<< takes a mapping or a list of mappings";

/// Where something is wrong in a mapping, in which of its fields, and what.
pub(super) type Complaint = (Position, Option<String>, String);

impl Mapping {
    /// Sets a field that is written in the mapping itself.
    pub(super) fn set(&mut self, key: String, position: Position, node: Node) -> Option<Complaint> {
        let merged = self.merged.remove(&key);
        let earlier = self
            .fields
            .get(&key)
            .filter(|_| !merged)
            .map(|(earlier, _)| earlier.line);
        let complaint = earlier.map(|line| {
            (
                position,
                Some(key.clone()),
                format!("this key is in line {line} already"),
            )
        });
        self.values.insert(key.clone(), node.value);
        self.fields.insert(key, (position, node.place));
        complaint
    }

    /// Adds the fields of `<<: mapping` or `<<: [mapping, ...]`; of several the earlier wins.
    pub(super) fn merge(&mut self, position: Position, node: Node) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        match (node.value, &*node.place.inside) {
            (Value::Object(values), Inside::Fields(fields)) => {
                self.merge_one(position, values, fields, &mut complaints)
            }
            (Value::Array(items), Inside::Items(places)) => {
                for (item, place) in items.into_iter().zip(places).rev() {
                    match (item, &*place.inside) {
                        (Value::Object(values), Inside::Fields(fields)) => {
                            self.merge_one(position, values, fields, &mut complaints);
                        }
                        _ => complaints.push((place.position, None, MERGE.to_owned())),
                    }
                }
            }
            _ => complaints.push((position, None, MERGE.to_owned())),
        }
        complaints
    }

    fn merge_one(
        &mut self,
        position: Position,
        values: Map<String, Value>,
        fields: &BTreeMap<String, (Position, Arc<Place>)>,
        complaints: &mut Vec<Complaint>,
    ) {
        for (key, value) in values {
            if let Some((earlier, _)) = self.fields.get(&key).filter(|_| !self.merged.contains(&key)) {
                let line = earlier.line;
                let message = format!("kubectl lets << win over this key in line {line}; put << first");
                complaints.push((position, Some(key.clone()), message));
            }
            if let Some(place) = fields.get(&key) {
                self.fields.insert(key.clone(), (place.0, Arc::clone(&place.1)));
            }
            self.values.insert(key.clone(), value);
            self.merged.insert(key);
        }
    }
}
