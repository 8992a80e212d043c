//! The tests, one behaviour a file.

mod adapter_contract;
mod adapter_replicas;
mod adapter_rules;
mod bistro;
mod clients;
mod dead_letters;
mod documents;
mod drain;
mod engine;
mod hot;
mod http;
mod limits;
mod listeners;
mod logs;
mod metrics;
mod order;
mod outages;
mod polling;
mod protocol;
mod recovery;
mod reload;
mod restarts;
mod sessions;
mod slow_client;
mod upgrade;
