//! Paths of endpoints: what a request's path stands for, decoded, and which endpoint that is.

use std::collections::HashMap;

use aldis_crds::channel::Method;
use percent_encoding::percent_decode_str;

/// Longest path of a request that is looked at, in bytes. 2 KiB: an endpoint's has at most 256, and its parameters some.
pub const MAX_PATH: usize = 2 * 1024;

/// `/orders/{id}`: the path of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// As it was written.
    pub text: String,
    /// Names of its parameters, in their order.
    parameters: Vec<String>,
    /// With parameters by number: two patterns of one shape are one.
    shape: String,
}

impl PathPattern {
    /// From its text.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parameters: Vec<String> = Vec::new();
        let mut shape = String::new();
        let segments = text.strip_prefix('/').ok_or("a path begins with /")?.split('/');
        for segment in segments {
            shape.push('/');
            match segment.strip_prefix('{').map(|rest| rest.strip_suffix('}')) {
                Some(Some(name)) if is_name(name) => {
                    if parameters.iter().any(|known| known == name) {
                        return Err(format!(
                            "the parameter {{{name}}} is there twice: name each differently"
                        ));
                    }
                    shape.push_str(&format!("{{p{}}}", parameters.len()));
                    parameters.push(name.to_owned());
                }
                _ if segment.contains(['{', '}']) => {
                    return Err(format!(
                        "the segment {segment:?} is no parameter: write {{name}} as a whole segment, of letters, digits and _"
                    ));
                }
                _ if matches!(segment, "" | "." | "..") => {
                    return Err(format!("the path {text:?} has an empty segment, . or ..: leave it out"));
                }
                _ => shape.push_str(segment),
            }
        }
        Ok(Self {
            text: text.to_owned(),
            parameters,
            shape,
        })
    }

    /// The same for all patterns that the same requests fit.
    pub fn shape(&self) -> &str {
        &self.shape
    }

    /// Names of its parameters.
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The path of a request, each segment decoded; `None` where it can be no endpoint's: too long, no UTF-8, an empty or dotted
/// segment, or one that hides a slash or a control character. So two spellings never are two paths.
pub fn decode_path(raw: &str) -> Option<String> {
    if raw.len() > MAX_PATH {
        return None;
    }
    let mut path = String::with_capacity(raw.len());
    for segment in raw.strip_prefix('/')?.split('/') {
        let decoded = percent_decode_str(segment).decode_utf8().ok()?;
        let is_plain = !decoded.contains(['/', '\\']) && !decoded.contains(char::is_control);
        if !is_plain || matches!(&*decoded, "" | "." | "..") {
            return None;
        }
        path.push('/');
        path.push_str(&decoded);
    }
    Some(path)
}

/// Which of many endpoints a request is for. `T` is what names an endpoint.
#[derive(Debug)]
pub struct Routing<T> {
    places: matchit::Router<usize>,
    by_shape: HashMap<String, usize>,
    methods: Vec<HashMap<Method, (Vec<String>, T)>>,
}

/// Where a request goes.
#[derive(Debug, PartialEq)]
pub enum Routed<'r, T> {
    /// To an endpoint, with the values of its parameters by name.
    To(&'r T, Vec<(&'r str, String)>),
    /// The path is somebody's, with these methods only.
    OtherMethods(Vec<Method>),
    /// Nowhere.
    Nowhere,
}

impl<T> Default for Routing<T> {
    fn default() -> Self {
        Self {
            places: matchit::Router::new(),
            by_shape: HashMap::new(),
            methods: Vec::new(),
        }
    }
}

impl<T> Routing<T> {
    /// Adds an endpoint; the first of a method and shape stays.
    pub fn insert(&mut self, method: Method, path: &PathPattern, endpoint: T) {
        let place = match self.by_shape.get(&path.shape) {
            Some(place) => *place,
            // Shapes name their parameters alike, so none stands in another's way.
            None if self.places.insert(path.shape.clone(), self.methods.len()).is_ok() => {
                self.methods.push(HashMap::new());
                self.by_shape.insert(path.shape.clone(), self.methods.len() - 1);
                self.methods.len() - 1
            }
            None => return,
        };
        self.methods[place]
            .entry(method)
            .or_insert_with(|| (path.parameters.clone(), endpoint));
    }

    /// Where a request with a decoded path goes.
    pub fn route(&self, method: &str, path: &str) -> Routed<'_, T> {
        let Ok(found) = self.places.at(path) else {
            return Routed::Nowhere;
        };
        let methods = &self.methods[*found.value];
        match methods.iter().find(|(known, _)| known.as_str() == method) {
            Some((_, (names, endpoint))) => {
                let values = found.params.iter().map(|(_, value)| value.to_owned());
                Routed::To(endpoint, names.iter().map(String::as_str).zip(values).collect())
            }
            None => {
                let mut others: Vec<_> = methods.keys().copied().collect();
                others.sort_unstable();
                Routed::OtherMethods(others)
            }
        }
    }
}
