// A stock Socket.IO client for the tests: does what it is told on standard input and tells what it sees on standard
// output, one JSON object a line each.
//
//   {do: "connect", client, library: "4.7" | "4.8", url, options}     options are those of io(), and
//                                       tokens: what its `auth` function gives, one after the other, the last for ever
//   {do: "emit", client, event, args, ack}                            with ack (a number) an acknowledgement is told
//   {do: "disconnect", client}
//   {do: "drop", client}                                the connection breaks; the client comes back by itself
//
//   {client, on: "open", transport}                     the connection is there, by this transport
//   {client, on: "connect", id, engine, pid, recovered} engine: id of the connection, which namespaces may share
//   {client, on: "upgrade", transport}
//   {client, on: "connect_error", message, data, active}
//   {client, on: "disconnect", reason, active}          active: the client will try again by itself
//   {client, on: "event", name, args}
//   {client, on: "ack", ack, args}
"use strict";

const readline = require("node:readline");

const libraries = {
  4.7: require("socket.io-client-4.7"),
  4.8: require("socket.io-client-4.8"),
};
const sockets = new Map();

const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");

const commands = {
  connect({ client, library, url, options }) {
    const { tokens, ...rest } = options;
    if (tokens) rest.auth = (give) => give({ token: tokens.length > 1 ? tokens.shift() : tokens[0] });
    const socket = libraries[library].io(url, rest);
    sockets.set(client, socket);
    const manager = socket.io;
    const upgraded = () => tell({ client, on: "upgrade", transport: manager.engine.transport.name });
    const follow = () => {
      tell({ client, on: "open", transport: manager.engine.transport.name });
      manager.engine.on("upgrade", upgraded);
    };
    manager.on("open", follow);
    if (manager.engine.readyState === "open") follow();
    socket.on("connect", () => {
      const { id, _pid: pid, recovered } = socket;
      tell({ client, on: "connect", id, engine: manager.engine.id, pid, recovered });
    });
    socket.on("connect_error", ({ message, data }) => {
      tell({ client, on: "connect_error", message, data, active: socket.active });
    });
    socket.on("disconnect", (reason) => tell({ client, on: "disconnect", reason, active: socket.active }));
    socket.onAny((name, ...args) => tell({ client, on: "event", name, args }));
  },

  emit({ client, event, args, ack }) {
    const answer = ack === undefined ? [] : [(...args) => tell({ client, on: "ack", ack, args })];
    sockets.get(client).emit(event, ...args, ...answer);
  },

  drop({ client }) {
    sockets.get(client).io.engine.close();
  },

  disconnect({ client }) {
    sockets.get(client).disconnect();
  },
};

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    commands[command.do](command);
  })
  .on("close", () => process.exit());
