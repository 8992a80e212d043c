//! The keys of a gateway, from Secrets of its namespace: of its listeners, and how it gets into Kafka and Redis.

use aldis_crds::NotificationGateway;
use aldis_crds::channel::SecretKeyRef;
use aldis_crds::contract::{KafkaKeys, Keys, RedisKeys, Secret as Key};
use aldis_crds::gateway::{Kafka, Redis};
use k8s_openapi::api::core::v1::Secret;

use super::index::{Entry, Index};
use super::{Object, ObjectName, Others, Problem, Reason, secrets};

/// What is wrong with a Secret.
type Wrong = (Reason, String);

/// What its listeners end TLS with, and how it gets into Kafka and Redis. A listener whose certificate is missing keeps no other
/// from being served; it is not opened. Without the rest it tries all the same: its clients are held, and no other's harm.
pub(super) fn keys(
    gateway: &Entry<'_, NotificationGateway>,
    index: &Index<'_>,
    other_secrets: &Others,
    problems: &mut Vec<Problem>,
) -> Keys {
    let mut keys = Keys::default();
    let mut look = Look {
        gateway,
        index,
        other_secrets,
        problems,
    };
    for (position, listener) in gateway.value.spec.listeners.iter().enumerate() {
        let Some(tls) = &listener.tls else { continue };
        let field = format!("spec.listeners[{position}].tls.secretRef.name");
        if let Some(certificate) = look.certificate(&tls.secret_ref.name, &field) {
            keys.insert_certificate(&listener.name, certificate);
        }
    }
    keys.kafka = look.kafka(&gateway.value.spec.kafka);
    if let Some(redis) = &gateway.value.spec.redis {
        keys.redis = look.redis(redis);
    }
    keys
}

/// Looks for Secrets of a gateway, and says what is wrong with them.
struct Look<'a> {
    gateway: &'a Entry<'a, NotificationGateway>,
    index: &'a Index<'a>,
    other_secrets: &'a Others,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Look<'a> {
    fn kafka(&mut self, kafka: &Kafka) -> KafkaKeys {
        let mut keys = KafkaKeys::default();
        let tls = kafka.tls.as_ref();
        if let Some(reference) = tls.and_then(|tls| tls.ca_secret_ref.as_ref()) {
            keys.ca = self.authorities(reference, "spec.kafka.tls.caSecretRef");
        }
        if let Some(reference) = tls.and_then(|tls| tls.secret_ref.as_ref()) {
            keys.certificate = self.certificate(&reference.name, "spec.kafka.tls.secretRef.name");
        }
        if let Some(reference) = kafka.sasl.as_ref().map(|sasl| &sasl.secret_ref) {
            let field = "spec.kafka.sasl.secretRef.name";
            if let Some(secret) = self.labelled(&reference.name, field) {
                keys.username = self.good(secrets::required(secret, "username"), field);
                keys.password = self.good(secrets::required(secret, "password"), field);
            }
        }
        keys
    }

    fn redis(&mut self, redis: &Redis) -> RedisKeys {
        let mut keys = RedisKeys::default();
        if let Some(reference) = &redis.secret_ref {
            let field = "spec.redis.secretRef.name";
            if let Some(secret) = self.labelled(&reference.name, field) {
                keys.username = secrets::optional(secret, "username");
                keys.password = self.good(secrets::required(secret, "password"), field);
            }
        }
        if let Some(tls) = &redis.tls {
            keys.ca = self.authorities(&tls.ca_secret_ref, "spec.redis.tls.caSecretRef");
        }
        keys
    }

    /// Certificates of authorities.
    fn authorities(&mut self, reference: &SecretKeyRef, field: &str) -> Option<Key> {
        let secret = self.labelled(&reference.name, &format!("{field}.name"))?;
        let found = secrets::pem(secret, &reference.key, secrets::CERTIFICATE);
        self.good(found, &format!("{field}.key"))
    }

    /// A Secret with a certificate. One that is known to exist, and cannot be read here, is no problem.
    fn certificate(&mut self, name: &str, field: &str) -> Option<aldis_crds::contract::Certificate> {
        let name = self.name(name);
        let found = match self.index.secrets.get(&name) {
            Some(secret) => secrets::certificate(secret),
            None if self.other_secrets.have(&name) => return None,
            None => Err((
                Reason::SecretNotFound,
                format!("there is no Secret {name}: create it with `kubectl create secret tls`"),
            )),
        };
        self.good(found, field)
    }

    /// A Secret that gateways may read. The same holds.
    fn labelled(&mut self, name: &str, field: &str) -> Option<&'a Entry<'a, Secret>> {
        let found = secrets::of_gateway(&self.name(name), self.index, self.other_secrets);
        self.good(found, field).flatten()
    }

    fn name(&self, name: &str) -> ObjectName {
        ObjectName::new(&self.gateway.name.namespace, name)
    }

    /// What was found, or a problem at this field.
    fn good<T>(&mut self, found: Result<T, Wrong>, field: &str) -> Option<T> {
        match found {
            Ok(found) => Some(found),
            Err((reason, message)) => {
                let object = Object::Gateway(self.gateway.index);
                self.problems.push(Problem::new(object, reason, field, message));
                None
            }
        }
    }
}
