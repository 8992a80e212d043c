//! Files and directories → objects that know where they stand, and problems.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aldis_crds::{NotificationChannel, NotificationGateway};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use serde_json::{Value, json};

use crate::field;
use crate::kinds::{self, Class, Kind};
use crate::schema::Finding;
use crate::yaml::{self, Document, Position, Positions};

/// Bytes of one file. One object is at most 1.5 MB in Kubernetes; a file may hold several.
pub const MAX_FILE_BYTES: u64 = 4 << 20;
/// Bytes of all files of a directory: far above any set of manifests, and a bound on what a wrong directory costs.
pub const MAX_TOTAL_BYTES: u64 = 64 << 20;

/// The namespace of an object that names none, as `kubectl` has it by default.
const DEFAULT_NAMESPACE: &str = "default";

/// Characters of a name that problems show: as many as a good name has.
const MAX_NAME_CHARS: usize = 253;

/// Something wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named or found.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// `NotificationChannel bistro/orders`, or empty.
    pub object: String,
    /// `spec.routes[0].when`, or empty.
    pub field: String,
    /// What is wrong, and how to mend it.
    pub message: String,
}

impl fmt::Display for Problem {
    /// `orders.yaml:12:7: NotificationChannel bistro/orders: spec.routes[0].when: message`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

/// Where an object stands.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// Which document of the file, from 0; empty ones do not count.
    pub document: usize,
    /// What leads to the object within the document: empty, or `items[3]` in a `List`.
    within: String,
    positions: Positions,
}

impl Origin {
    /// Line and column of a field, both from 1; of its nearest known parent where there is no such field.
    pub fn position(&self, field_path: &str) -> (usize, usize) {
        let Position { line, column } = self.positions.position(&self.full_path(field_path));
        (line, column)
    }

    /// A problem with a field of the object. `object` is as in [`Problem::object`].
    pub fn problem(&self, object: &str, field: &str, message: String) -> Problem {
        let (line, column) = self.position(field);
        let (file, object, field) = (self.file.clone(), object.to_owned(), self.full_path(field));
        Problem {
            file,
            line,
            column,
            object,
            field,
            message,
        }
    }

    fn full_path(&self, field_path: &str) -> String {
        match (self.within.as_str(), field_path) {
            ("", path) => path.to_owned(),
            (within, "") => within.to_owned(),
            (within, path) if path.starts_with('[') => format!("{within}{path}"),
            (within, path) => format!("{within}.{path}"),
        }
    }
}

/// An object, and where it stands.
#[derive(Clone)]
pub struct Located<T> {
    /// The object.
    pub value: T,
    /// Where it stands.
    pub origin: Origin,
}

impl<T> fmt::Debug for Located<T> {
    /// Without the object, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Located")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// What some files hold. Objects with a problem are not in the lists.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// In the order of files and documents.
    pub gateways: Vec<Located<NotificationGateway>>,
    /// In the order of files and documents.
    pub channels: Vec<Located<NotificationChannel>>,
    /// In the order of files and documents; `stringData` is in `data`.
    pub secrets: Vec<Located<Secret>>,
    /// In the order of files and documents.
    pub namespaces: Vec<Located<Namespace>>,
    /// By file, line and column.
    pub problems: Vec<Problem>,
}

/// Reads the manifests of a directory and those below it, or a single file.
///
/// Files that end in `.yaml`, `.yml` and `.json`, sorted by path; hidden files and directories, and links to
/// directories, are left out. A file that cannot be read is a problem.
///
/// # Errors
/// If a directory cannot be listed.
pub fn read_dir(dir: &Path) -> io::Result<Manifests> {
    let mut reader = Reader::default();
    let mut total = 0;
    for file in manifest_files(dir)? {
        match read_file(&file, &mut total) {
            Ok(text) => reader.text(&file, &text),
            Err(problem) => reader.manifests.problems.push(problem),
        }
    }
    Ok(reader.manifests)
}

/// Reads the manifests in the text of a file; `file` only names it.
pub fn read_str(file: &Path, text: &str) -> Manifests {
    let mut reader = Reader::default();
    reader.text(file, text);
    reader.manifests
}

/// The manifests' files in and below `path`, sorted; `path` itself if it is a file.
fn manifest_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if fs::metadata(path)?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut directories = VecDeque::from([path.to_owned()]);
    while let Some(directory) = directories.pop_front() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let path = entry.path();
            let is_manifest = path
                .extension()
                .is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            } else if entry.file_type()?.is_dir() {
                directories.push_back(path);
            } else if is_manifest && !path.is_dir() {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The text of a file; `total` counts the bytes of all files so far.
fn read_file(file: &Path, total: &mut u64) -> Result<String, Problem> {
    use io::Read as _;

    let problem = |line: usize, column: usize, message: String| Problem {
        file: file.to_owned(),
        line,
        column,
        object: String::new(),
        field: String::new(),
        message,
    };
    let mut bytes = Vec::new();
    let read = fs::File::open(file).and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| problem(1, 1, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(problem(1, 1, format!("the file is larger than {MAX_FILE_BYTES} bytes")));
    }
    *total += bytes.len() as u64;
    if *total > MAX_TOTAL_BYTES {
        return Err(problem(
            1,
            1,
            format!("the files are larger than {MAX_TOTAL_BYTES} bytes together; name a smaller directory"),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let line = good.matches('\n').count() + 1;
        let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        problem(line, column, "this byte is no UTF-8; save the file as UTF-8".to_owned())
    })
}

/// Gathers objects and problems.
#[derive(Default)]
struct Reader {
    manifests: Manifests,
    /// Where an object of this kind, namespace and name was seen.
    seen: HashMap<String, (PathBuf, usize)>,
}

impl Reader {
    fn text(&mut self, file: &Path, text: &str) {
        let first = self.manifests.problems.len();
        for (
            document,
            Document {
                value,
                positions,
                mistakes,
            },
        ) in yaml::documents(text).into_iter().enumerate()
        {
            let origin = Origin {
                file: file.to_owned(),
                document,
                within: String::new(),
                positions,
            };
            let object = value.as_ref().map(object_name).unwrap_or_default();
            let readable = mistakes.is_empty();
            self.manifests
                .problems
                .extend(mistakes.into_iter().map(|mistake| Problem {
                    file: file.to_owned(),
                    line: mistake.position.line,
                    column: mistake.position.column,
                    object: object.clone(),
                    field: mistake.field,
                    message: mistake.message,
                }));
            if let Some(value) = value {
                self.object(origin, value, readable);
            }
        }
        self.manifests.problems[first..].sort_by_key(|problem| (problem.line, problem.column));
    }

    /// Takes in an object. One that is not `readable` is checked all the same, for the sake of its other problems.
    fn object(&mut self, origin: Origin, mut value: Value, readable: bool) {
        let Some(fields) = value.as_object_mut() else {
            if !readable {
                return;
            }
            self.problem(
                &origin,
                "",
                "",
                "a manifest is an object with apiVersion and kind".to_owned(),
            );
            return;
        };
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind_name) = (text("apiVersion"), text("kind"));
        let missing: Vec<_> = ["apiVersion", "kind"]
            .into_iter()
            .filter(|name| text(name).is_empty())
            .collect();
        if !missing.is_empty() {
            for name in missing {
                self.problem(
                    &origin,
                    "",
                    name,
                    "this field is required, and a string, in every manifest".to_owned(),
                );
            }
            return;
        }
        match kinds::classify(&api_version, &kind_name) {
            Class::Read(kind) => {
                if kind.namespaced
                    && let Some(Value::Object(metadata)) = fields.get_mut("metadata")
                    && metadata.get("namespace").is_none_or(Value::is_null)
                {
                    metadata.insert("namespace".to_owned(), json!(DEFAULT_NAMESPACE));
                }
                self.read(origin, kind, value, readable);
            }
            Class::List => {
                let items = fields
                    .get_mut("items")
                    .and_then(Value::as_array_mut)
                    .map(std::mem::take)
                    .unwrap_or_default();
                for (index, item) in items.into_iter().enumerate() {
                    let within = field::item(&origin.full_path("items"), index);
                    self.object(
                        Origin {
                            within,
                            ..origin.clone()
                        },
                        item,
                        readable,
                    );
                }
            }
            Class::Foreign => {}
            Class::Unknown(field, message) => {
                let object = object_name(&value);
                self.problem(&origin, &object, field, message);
            }
        }
    }

    fn read(&mut self, origin: Origin, kind: &Kind, value: Value, readable: bool) {
        let object = object_name(&value);
        let (stored, findings) = kind.check(&value);
        let sound = readable && findings.is_empty();
        self.findings(&origin, &object, findings);
        if value["metadata"]["name"].is_string() {
            let here = (origin.file.clone(), origin.position("metadata.name").0);
            if let Some((file, line)) = self.seen.insert(object.clone(), here) {
                let message = format!(
                    "this object is in {}:{line} too; the later one would replace it",
                    file.display()
                );
                self.problem(&origin, &object, "metadata.name", message);
                return;
            }
        }
        if !sound {
            return;
        }
        let manifests = &mut self.manifests;
        let added = match kind.name.as_str() {
            "NotificationGateway" => kinds::typed(stored).map(|value| add(&mut manifests.gateways, value, &origin)),
            "NotificationChannel" => kinds::typed(stored).map(|value| add(&mut manifests.channels, value, &origin)),
            "Namespace" => kinds::typed(stored).map(|value| add(&mut manifests.namespaces, value, &origin)),
            _ => kinds::secret(stored).map(|value| add(&mut manifests.secrets, value, &origin)),
        };
        if let Err(findings) = added {
            self.findings(&origin, &object, findings);
        }
    }

    fn findings(&mut self, origin: &Origin, object: &str, findings: Vec<Finding>) {
        for Finding { field, message } in findings {
            self.problem(origin, object, &field, message);
        }
    }

    fn problem(&mut self, origin: &Origin, object: &str, field: &str, message: String) {
        self.manifests.problems.push(origin.problem(object, field, message));
    }
}

fn add<T>(list: &mut Vec<Located<T>>, value: T, origin: &Origin) {
    let origin = origin.clone();
    list.push(Located { value, origin });
}

/// `NotificationChannel bistro/orders`, as far as the object says; empty where it does not name its kind.
fn object_name(object: &Value) -> String {
    let short = |name: &Value| {
        name.as_str()
            .map(|name| name.chars().take(MAX_NAME_CHARS).collect::<String>())
    };
    let metadata = &object["metadata"];
    let namespace = short(&metadata["namespace"]).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    match (short(&object["kind"]), short(&metadata["name"])) {
        (Some(kind), Some(name)) if kind == "Namespace" => format!("{kind} {name}"),
        (Some(kind), Some(name)) => format!("{kind} {namespace}/{name}"),
        (Some(kind), None) => kind,
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests;
