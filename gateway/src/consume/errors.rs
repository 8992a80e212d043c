//! Why Kafka's client could not do something: closed sets, for metrics.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// Why the consumer could not read on for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorReason {
    /// No broker answers, or its name is not known.
    Unreachable,
    /// A broker has not answered in time.
    Timeout,
    /// User, password or certificate do not hold.
    Authentication,
    /// The user may not read a topic, or not in this group.
    NotAuthorized,
    /// There is no such topic or partition.
    UnknownTopic,
    /// What was committed is no longer kept.
    OffsetGone,
    /// The group took this replica for dead.
    Group,
    /// It has ended for good.
    Fatal,
    /// Anything else: the log says what.
    Other,
}

impl ErrorReason {
    /// Of an error.
    pub fn of(error: &KafkaError) -> Self {
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Self::Fatal;
        }
        match error.rdkafka_error_code() {
            Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve) => Self::Unreachable,
            Some(Code::OperationTimedOut | Code::RequestTimedOut) => Self::Timeout,
            Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL) => Self::Authentication,
            Some(
                Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed,
            ) => Self::NotAuthorized,
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => Self::UnknownTopic,
            Some(Code::OffsetOutOfRange | Code::AutoOffsetReset) => Self::OffsetGone,
            Some(Code::UnknownMemberId | Code::IllegalGeneration | Code::PollExceeded | Code::Fenced) => Self::Group,
            _ => Self::Other,
        }
    }

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Authentication => "authentication",
            Self::NotAuthorized => "not_authorized",
            Self::UnknownTopic => "unknown_topic",
            Self::OffsetGone => "offset_gone",
            Self::Group => "group",
            Self::Fatal => "fatal",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_a_reason_of_a_closed_set() {
        for (error, reason) in [
            (KafkaError::Global(Code::AllBrokersDown), "unreachable"),
            (KafkaError::MessageConsumption(Code::Resolve), "unreachable"),
            (KafkaError::MessageConsumption(Code::OperationTimedOut), "timeout"),
            (KafkaError::Global(Code::SaslAuthenticationFailed), "authentication"),
            (
                KafkaError::MessageConsumption(Code::TopicAuthorizationFailed),
                "not_authorized",
            ),
            (
                KafkaError::MessageConsumption(Code::UnknownTopicOrPartition),
                "unknown_topic",
            ),
            (KafkaError::MessageConsumption(Code::OffsetOutOfRange), "offset_gone"),
            (KafkaError::MessageConsumption(Code::PollExceeded), "group"),
            (KafkaError::MessageConsumptionFatal(Code::FencedInstanceId), "fatal"),
            (KafkaError::Global(Code::BadMessage), "other"),
            (KafkaError::Canceled, "other"),
        ] {
            assert_eq!(ErrorReason::of(&error).as_str(), reason, "{error}");
        }
    }
}
