//! The scripts, and how they are called. Each is atomic; what they do is written in their files.

use std::sync::{Arc, LazyLock};

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Script, Value};

use super::keys::Keys;
use crate::sabotage::Rule;

const PRELUDE: &str = include_str!("scripts/prelude.lua");

/// A text of a script, and what to say instead of it where a rule is switched off for the rule's test.
type Exception = (Rule, &'static str, &'static str);

const APPEND_EXCEPTIONS: &[Exception] = &[
    (Rule::CheckFirst, "call('LLEN', base .. 'h:' .. name)", "0"),
    (Rule::CheckFirst, "pcall(write)", "true, write()"),
    (
        Rule::PayloadOnce,
        "table.insert(rooms[name].new, entry)",
        "table.insert(rooms[name].new, entry .. bytes)",
    ),
];

const READ_EXCEPTIONS: &[Exception] = &[
    (Rule::Prev, "tonumber(entry) ~= expected", "false"),
    (
        Rule::Prev,
        "      return false\n    end\n    for",
        "      return true\n    end\n    for",
    ),
];

const SESSION_EXCEPTIONS: &[Exception] = &[(Rule::Generation, "newest > mine", "false")];

macro_rules! script {
    ($name:ident, $file:literal, $exceptions:expr) => {
        pub(super) fn $name() -> Arc<Script> {
            static SCRIPT: LazyLock<Arc<Script>> = LazyLock::new(|| script(include_str!($file), &[]));
            let off: Vec<&Exception> = $exceptions.iter().filter(|(rule, ..)| !rule.is_on()).collect();
            match &off[..] {
                [] => Arc::clone(&SCRIPT),
                off => script(include_str!($file), off),
            }
        }
    };
}

script!(append, "scripts/append.lua", APPEND_EXCEPTIONS);
script!(read, "scripts/read.lua", READ_EXCEPTIONS);
script!(host, "scripts/host.lua", [] as [Exception; 0]);
script!(lease, "scripts/lease.lua", [] as [Exception; 0]);
script!(peer, "scripts/peer.lua", [] as [Exception; 0]);
script!(mark, "scripts/mark.lua", [] as [Exception; 0]);
script!(mint, "scripts/mint.lua", [] as [Exception; 0]);
script!(sweep, "scripts/sweep.lua", [] as [Exception; 0]);
script!(claim, "scripts/claim.lua", [] as [Exception; 0]);
script!(session, "scripts/session.lua", SESSION_EXCEPTIONS);
script!(count, "scripts/count.lua", [] as [Exception; 0]);
script!(beat, "scripts/beat.lua", [] as [Exception; 0]);
script!(leave, "scripts/leave.lua", [] as [Exception; 0]);
script!(tell, "scripts/tell.lua", [] as [Exception; 0]);
script!(told, "scripts/told.lua", [] as [Exception; 0]);
script!(order, "scripts/order.lua", [] as [Exception; 0]);
script!(answer, "scripts/answer.lua", [] as [Exception; 0]);
script!(dismiss, "scripts/dismiss.lua", [] as [Exception; 0]);
script!(forget, "scripts/forget.lua", [] as [Exception; 0]);
script!(in_force, "scripts/in_force.lua", [] as [Exception; 0]);
script!(erase, "scripts/erase.lua", [] as [Exception; 0]);

fn script(text: &str, exceptions: &[&Exception]) -> Arc<Script> {
    let mut text = text.to_owned();
    for (rule, says, instead) in exceptions {
        assert!(
            text.contains(says),
            "the script does not say {says:?}, which {rule:?} is about"
        );
        text = text.replace(says, instead);
    }
    Arc::new(Script::new(&format!("{PRELUDE}{text}")))
}

/// A script with its arguments.
pub(super) struct Call {
    script: Arc<Script>,
    key: String,
    arguments: Vec<Vec<u8>>,
}

impl Call {
    /// Of a channel.
    pub(super) fn new(script: Arc<Script>, keys: &Keys) -> Self {
        Self {
            script,
            key: keys.channel(),
            arguments: Vec::new(),
        }
    }

    pub(super) fn bytes(mut self, bytes: Vec<u8>) -> Self {
        self.arguments.push(bytes);
        self
    }

    pub(super) fn arg(self, argument: impl ToString) -> Self {
        self.bytes(argument.to_string().into_bytes())
    }

    pub(super) fn args<T: ToString>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        let arguments = arguments.into_iter().map(|argument| argument.to_string().into_bytes());
        self.arguments.extend(arguments);
        self
    }

    /// Runs it on a connection that has reached the Redis `pair`. One that does not know the script is given it.
    pub(super) async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        pair: &str,
    ) -> Result<Vec<Value>, RedisError> {
        let mut invocation = self.script.key(&self.key);
        invocation.arg(pair);
        for argument in &self.arguments {
            invocation.arg(&argument[..]);
        }
        invocation.invoke_async(connection).await
    }
}

/// The first element of an answer: what became of it.
pub(super) fn outcome(answer: &[Value]) -> &str {
    match answer.first() {
        Some(Value::BulkString(bytes)) => std::str::from_utf8(bytes).unwrap_or_default(),
        Some(Value::SimpleString(text)) => text,
        _ => "",
    }
}
