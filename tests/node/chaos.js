// Stock clients that stay for as long as they are let, and tell all that they see:
//   node chaos.js '[{"library", "url", "options", "rooms": [["desk", {"desk": "1"}, "desk:1"], ...], "silent"}, ...]'
// silent: the server does not say aldis:ready; what the library says of itself counts as that.
// Each emits the joins of its rooms until they are acknowledged, and again where aldis:ready says that it is not in them, and says
// hello as long as it is connected. On
// standard output one JSON object a line:
//   {client, on: "connect", recovered}
//   {client, on: "event", name, args}       aldis:ready, aldis:left and news
//   {client, on: "joined", answer}
//   {client, on: "disconnect"}
//   {client, on: "refused", why}            it will not try again by itself
"use strict";

const libraries = {
  4.7: require("socket.io-client-4.7"),
  4.8: require("socket.io-client-4.8"),
};
// How long a connection may take to be made, and a join to be acknowledged, in ms. Below what a fault lasts, above what a busy
// machine takes.
const PATIENCE = 3_000;
// Between two events that are answered with a text, which no client may take for its offset, in ms.
const HELLO = 300;

const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");

JSON.parse(process.argv[2]).forEach(({ library, url, options, rooms, silent }, client) => {
  const often = { reconnectionDelay: 100, reconnectionDelayMax: 500, timeout: PATIENCE };
  const socket = libraries[library].io(url, { forceNew: true, ...often, ...options });
  const joining = new Set();
  const join = ([event, args, room]) => {
    if (joining.has(room)) return;
    joining.add(room);
    const ask = () =>
      socket.timeout(PATIENCE).emit(event, args, (error, answer) => {
        if (error || !answer.ok) return setTimeout(ask, error ? 0 : 200);
        joining.delete(room);
        joined.add(room);
        tell({ client, on: "joined", answer });
      });
    ask();
  };
  const joined = new Set();
  socket.on("connect", () => {
    tell({ client, on: "connect", recovered: socket.recovered });
    if (!silent) return;
    if (!socket.recovered) joined.clear();
    tell({ client, on: "event", name: "aldis:ready", args: [{ recovered: socket.recovered, rooms: [...joined] }] });
    rooms.filter(([, , room]) => !joined.has(room)).forEach(join);
  });
  if (!silent) setInterval(() => socket.connected && socket.volatile.emit("hello"), HELLO);
  socket.on("aldis:ready", (info) => rooms.filter(([, , room]) => !info.rooms.includes(room)).forEach(join));
  socket.onAny((name, ...args) => name === "hello" || tell({ client, on: "event", name, args }));
  socket.on("disconnect", (why) => tell(socket.active ? { client, on: "disconnect" } : { client, on: "refused", why }));
  socket.on("connect_error", ({ message }) => socket.active || tell({ client, on: "refused", why: message }));
});
