// What Aldis replaces, as its users write it: Socket.IO's own server with its Redis streams adapter, connection state recovery,
// and kafkajs; one of several that share Kafka and Redis. `make chaos PEER=node` runs it in place of a gateway:
//   node peer.js '{"kafka": "host:port", "redis": "redis://...", "group", "channels": [{"name", "path", "topic"}]}'
// Prints {"address": "host:port"} once it listens. SIGTERM ends it in an orderly way.
"use strict";

const { createServer } = require("node:http");
const { createAdapter } = require("@socket.io/redis-streams-adapter");
const { Kafka, logLevel } = require("kafkajs");
const { createClient } = require("redis");
const { Server } = require("socket.io");

const { kafka, redis, group, channels } = JSON.parse(process.argv[2]);
// As the gateways have it, so that both notice as soon.
const HEARTBEAT = { pingInterval: 3_000, pingTimeout: 3_000 };
const GROUP = { sessionTimeout: 6_000, heartbeatInterval: 1_000, rebalanceTimeout: 6_000 };
const RECOVERY = { maxDisconnectionDuration: 600_000, skipMiddlewares: true };

async function main() {
  const client = createClient({ url: redis });
  client.on("error", (error) => console.error("redis:", error.message));
  await client.connect();
  const http = createServer();
  const io = new Server(http, { adapter: createAdapter(client), connectionStateRecovery: RECOVERY, ...HEARTBEAT });
  for (const { path } of channels) {
    io.of(path).on("connection", (socket) => {
      for (const kind of ["desk", "table"]) {
        socket.on(kind, (args, answer) => {
          const room = `${kind}:${args[kind]}`;
          socket.join(room);
          answer({ ok: true, room });
        });
      }
    });
  }
  http.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ address: `127.0.0.1:${http.address().port}` })));
  const consumer = new Kafka({ brokers: [kafka], logLevel: logLevel.ERROR }).consumer({ groupId: group, ...GROUP });
  process.once("SIGTERM", async () => {
    await consumer.disconnect();
    io.close();
    process.exit(0);
  });
  const consume = async () => {
    await consumer.connect();
    await consumer.subscribe({ topics: [...new Set(channels.map(({ topic }) => topic))], fromBeginning: true });
    await consumer.run({
      eachMessage: async ({ topic, message }) => {
        const { id, desk, table } = JSON.parse(message.value);
        for (const channel of channels.filter((channel) => channel.topic === topic)) {
          io.of(channel.path).to([`desk:${desk}`, `table:${table}`]).emit("news", { id, channel: channel.name });
        }
      },
    });
  };
  await again(consume);
}

// What is down when it starts is tried again, as whatever runs it would do.
const again = (start) =>
  start().catch((error) => {
    console.error(error);
    setTimeout(() => again(start), 500);
  });

again(main);
