//! What compiling channels has said, kept from one look at the cluster to the next: of a thousand channels one changes at a time, and
//! compiling is most of what a look costs.

use std::collections::HashMap;

use aldis_core::channel::Channel;
use aldis_core::compiler::Problem;
use aldis_core::expression::bounds::on_big_stack;
use aldis_crds::NotificationChannel;
use aldis_crds::configuration::fingerprint;
use aldis_crds::contract::{ChannelConfig, Keys};

/// By what was compiled. It has the channels of the last look and no others.
#[derive(Default)]
pub struct Compiled(HashMap<Source, Vec<Problem>>);

/// Uid and generation, which an API server changes with each spec; and the keys, which are elsewhere.
type Source = (String, i64, String);

/// `None` where nothing tells one spec from another: in a file.
fn source(channel: &NotificationChannel, keys: &Keys) -> Option<Source> {
    let uid = channel.metadata.uid.clone().filter(|uid| !uid.is_empty())?;
    Some((uid, channel.metadata.generation?, fingerprint(keys)))
}

impl Compiled {
    /// What is wrong with each channel as it would be compiled with its keys. In their order.
    pub(super) fn problems<'a>(
        &mut self,
        channels: impl Iterator<Item = (&'a NotificationChannel, &'a ChannelConfig, &'a Keys)> + Send,
    ) -> Vec<Vec<Problem>> {
        let before = std::mem::take(&mut self.0);
        let (problems, now) = on_big_stack(move || {
            let (mut problems, mut now) = (Vec::new(), HashMap::new());
            for (channel, config, keys) in channels {
                let source = source(channel, keys);
                let known = source.as_ref().and_then(|source| before.get(source)).cloned();
                let wrong = known.unwrap_or_else(|| Channel::compile(config, keys).err().unwrap_or_default());
                if let Some(source) = source {
                    now.insert(source, wrong.clone());
                }
                problems.push(wrong);
            }
            (problems, now)
        });
        self.0 = now;
        problems
    }
}

#[cfg(test)]
mod tests {
    use aldis_crds::channel::SecretKeyRef;
    use aldis_crds::contract::Secret;
    use serde_json::json;

    use super::*;

    /// What is wrong with a channel whose one expression is this.
    fn wrong(compiled: &mut Compiled, generation: Option<i64>, allow: &str, keys: &Keys) -> usize {
        let spec = json!({
            "parentRefs": [{ "name": "shared" }],
            "replies": [{ "event": "echo", "ack": "{args}", "allow": allow }]
        });
        let mut channel = NotificationChannel::new("orders", serde_json::from_value(spec).unwrap());
        channel.metadata.uid = Some("u".to_owned());
        channel.metadata.generation = generation;
        let config =
            json!({ "channel": { "namespace": "bistro", "name": "orders" }, "attachments": [], "spec": channel.spec });
        let config: ChannelConfig = serde_json::from_value(config).unwrap();
        compiled.problems([(&channel, &config, keys)].into_iter())[0].len()
    }

    #[test]
    fn what_was_compiled_is_not_compiled_again_and_whatever_is_new_is() {
        let (mut compiled, keys) = (Compiled::default(), Keys::default());
        assert_eq!(wrong(&mut compiled, Some(1), "true", &keys), 0);
        // Not looked at: an API server gives no other spec the same generation.
        assert_eq!(wrong(&mut compiled, Some(1), "true &&", &keys), 0);
        assert_eq!(wrong(&mut compiled, Some(2), "true &&", &keys), 1);
        assert_eq!(wrong(&mut compiled, Some(2), "true", &keys), 1);
        assert_eq!(compiled.0.len(), 1);
        let mut others = Keys::default();
        let reference = SecretKeyRef {
            name: "jwt".to_owned(),
            key: "key".to_owned(),
        };
        others.insert("bistro", reference, Secret::new(*b"k"));
        assert_eq!(wrong(&mut compiled, Some(2), "true", &others), 0, "other keys");
        // Files have no generation.
        assert_eq!(wrong(&mut compiled, None, "true", &keys), 0);
        assert_eq!(wrong(&mut compiled, None, "true &&", &keys), 1);
        assert_eq!(compiled.problems(std::iter::empty()).len() + compiled.0.len(), 0);
    }
}
