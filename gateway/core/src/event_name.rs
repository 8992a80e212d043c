//! Names of events that templates make: what is checked at load for a constant name is checked here for each record.

use std::sync::Arc;

use aldis_crds::names::event_name_is_free;

/// Longest name that a template may make, in bytes: it goes out with every event.
pub(crate) const MAX_EVENT_NAME: usize = 256;

/// The name, if it may be used.
///
/// # Errors
/// Why not, in words.
pub(crate) fn checked(name: Option<String>) -> Result<Arc<str>, String> {
    match name {
        None => Err("the event name is null or empty".to_owned()),
        Some(name) if name.len() > MAX_EVENT_NAME => {
            Err(format!("the event name is longer than {MAX_EVENT_NAME} bytes"))
        }
        Some(name) if !event_name_is_free(&name) => {
            Err(format!("the event name {name:?} is reserved by Socket.IO or Aldis"))
        }
        Some(name) => Ok(name.into()),
    }
}
