//! translate: what is validated, in the words of the gateway. It cannot fail; keys stay beside it.

use aldis_crds::contract::{CONTRACT_VERSION, GatewayConfig, KafkaConfig, RedisConfig, SaslConfig};
use aldis_crds::gateway::Listener;

use crate::validate::{ObjectName, Validated};

/// The configuration of one gateway, without key material: that stays in [`Validated::keys`].
pub fn translate(validated: &Validated) -> GatewayConfig {
    let gateway = &validated.gateway;
    let kafka = &gateway.spec.kafka;
    let group_id = kafka
        .group_id
        .clone()
        .unwrap_or_else(|| default_group_id(&gateway.name));
    GatewayConfig {
        version: CONTRACT_VERSION,
        kafka: KafkaConfig {
            bootstrap_servers: kafka.bootstrap_servers.clone(),
            group_id: group_id.clone(),
            dead_letter_topic: kafka.dead_letter_topic.clone(),
            ingress_topic: kafka.ingress_topic.clone(),
            tls: kafka.tls.is_some(),
            sasl: kafka.sasl.as_ref().map(|sasl| SaslConfig {
                mechanism: sasl.mechanism,
                secret: format!("{}/{}", gateway.name.namespace, sasl.secret_ref.name),
            }),
        },
        // What one consumer group has taken is marked in one place: so the group names it.
        redis: gateway.spec.redis.as_ref().map(|redis| RedisConfig {
            url: redis.url.clone(),
            uid: group_id.clone(),
        }),
        // What stands in front of them is not theirs to know, and does not change what pods serve.
        listeners: gateway
            .spec
            .listeners
            .iter()
            .map(|listener| Listener {
                expose: None,
                ..listener.clone()
            })
            .collect(),
        channels: validated.channels.clone(),
        tenants: validated.tenants.clone(),
    }
}

/// The consumer group of a gateway that names none. Never to be changed: another group reads from another place.
fn default_group_id(gateway: &ObjectName) -> String {
    format!("aldis.{}.{}", gateway.namespace, gateway.name)
}

#[cfg(test)]
mod tests {
    use aldis_crds::contract::Keys;
    use serde_json::json;

    use super::*;
    use crate::validate::Gateway;

    fn group_id(declared: Option<&str>) -> String {
        let mut kafka = json!({ "bootstrapServers": ["kafka:9092"], "deadLetterTopic": "dead" });
        if let Some(declared) = declared {
            kafka["groupId"] = declared.into();
        }
        let spec = json!({ "kafka": kafka, "listeners": [{ "name": "web", "port": 3000 }] });
        let validated = Validated {
            gateway: Gateway {
                name: ObjectName::new("realtime", "shared"),
                spec: serde_json::from_value(spec).unwrap(),
            },
            channels: Vec::new(),
            tenants: Default::default(),
            keys: Keys::default(),
        };
        translate(&validated).kafka.group_id
    }

    #[test]
    fn the_consumer_group_is_the_declared_one_or_made_of_the_gateways_name() {
        assert_eq!(group_id(Some("mine")), "mine");
        assert_eq!(group_id(None), "aldis.realtime.shared");
    }
}
