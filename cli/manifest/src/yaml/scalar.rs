//! What a scalar is: the rules of go-yaml v2, by which `kubectl` reads YAML 1.1.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

/// Prefix of the tags that YAML itself defines (`!!str` and so on).
const TAGS: &str = "tag:yaml.org,2002:";

/// A scalar, resolved.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// Only what [`Scalar::Int`] cannot hold.
    Uint(u64),
    Float(f64),
    Text(String),
}

/// Resolves a scalar. `plain` says that it stands without quotes; `tag` is its full tag, if it has one.
/// The error never holds the text, which may be a secret.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<&str>) -> Result<Scalar, String> {
    let as_text = || Scalar::Text(text.to_owned());
    let Some(tag) = tag else {
        return Ok(if plain { untagged(text) } else { as_text() });
    };
    let refused = || format!("this value is no !!{}", tag.trim_start_matches(TAGS));
    match (tag.strip_prefix(TAGS), untagged(text)) {
        (Some("null"), Scalar::Null) => Ok(Scalar::Null),
        (Some("bool"), scalar @ Scalar::Bool(_)) => Ok(scalar),
        (Some("int"), scalar @ (Scalar::Int(_) | Scalar::Uint(_))) => Ok(scalar),
        (Some("float"), Scalar::Int(int)) => Ok(Scalar::Float(int as f64)),
        (Some("float"), scalar @ Scalar::Float(_)) => Ok(scalar),
        (Some("null" | "bool" | "int" | "float"), _) => Err(refused()),
        (Some("binary"), _) => {
            let bytes = STANDARD
                .decode(text.replace(['\r', '\n'], ""))
                .map_err(|_| "this value is no base64".to_owned())?;
            String::from_utf8(bytes)
                .map(Scalar::Text)
                .map_err(|_| "binary data cannot be written in JSON".to_owned())
        }
        // `!!str`, `!!timestamp` and everybody's own tags.
        _ => Ok(as_text()),
    }
}

/// Resolves a scalar without quotes and tag.
fn untagged(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Scalar::Bool(false);
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        _ => {}
    }
    number(text).unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

fn number(text: &str) -> Option<Scalar> {
    let plain = match text.as_bytes().first()? {
        b'0'..=b'9' | b'+' | b'-' => text.replace('_', ""),
        b'.' => text.to_owned(),
        _ => return None,
    };
    let (negative, signed, digits) = match plain.as_bytes()[0] {
        b'-' => (true, true, &plain[1..]),
        b'+' => (false, true, &plain[1..]),
        _ => (false, false, plain.as_str()),
    };
    if let Some(magnitude) = magnitude(digits) {
        match i64::try_from(if negative { -magnitude } else { magnitude }) {
            Ok(int) => return Some(Scalar::Int(int)),
            Err(_) if !signed => return Some(Scalar::Uint(u64::try_from(magnitude).ok()?)),
            Err(_) => {}
        }
    }
    if is_float(digits) {
        return plain
            .parse()
            .ok()
            .filter(|float: &f64| float.is_finite())
            .map(Scalar::Float);
    }
    None
}

/// Digits without a sign as Go's `ParseInt` with base 0 reads them, up to what 64 bits hold: `0x1F`, `0b101`, `0o17`,
/// `017`, `15`.
fn magnitude(digits: &str) -> Option<i128> {
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // Rust would take a second sign.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok().map(i128::from)
}

/// `[0-9]+(\.[0-9]*)?` or `\.[0-9]+`, and perhaps an exponent.
fn is_float(digits: &str) -> bool {
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (digits, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    all_digits(whole)
        && all_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && all_digits(exponent))
}

impl Scalar {
    /// As a value of JSON. Integral floats become integers, as they do on their way through `kubectl`.
    pub(super) fn into_json(self) -> Result<Value, String> {
        Ok(match self {
            Scalar::Null => Value::Null,
            Scalar::Bool(bool) => Value::Bool(bool),
            Scalar::Int(int) => Value::from(int),
            Scalar::Uint(uint) => Value::from(uint),
            Scalar::Float(float) if float.fract() == 0.0 && float.abs() < 9e18 => Value::from(float as i64),
            Scalar::Float(float) => {
                Value::Number(Number::from_f64(float).ok_or("infinity and not-a-number cannot be written in JSON")?)
            }
            Scalar::Text(text) => Value::String(text),
        })
    }

    /// As the name of a field.
    pub(super) fn into_key(self) -> Result<String, String> {
        Ok(match self {
            Scalar::Text(text) => text,
            Scalar::Bool(bool) => bool.to_string(),
            Scalar::Int(int) => int.to_string(),
            Scalar::Float(float) => float_key(float as f32),
            Scalar::Null => return Err("a key cannot be null; put it in quotes".to_owned()),
            Scalar::Uint(_) => return Err("this number is too large for a key; put it in quotes".to_owned()),
        })
    }
}

/// A float as `strconv.FormatFloat(f, 'g', -1, 32)` prints it, which is how a key such as `1.5` becomes a string.
fn float_key(float: f32) -> String {
    if float.is_nan() {
        return ".nan".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    // Rust's shortest digits are Go's; only the rule for when to use an exponent differs.
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    float.to_string()
}
