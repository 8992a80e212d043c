// Stock clients that are cut off and come back: node recovery.js '{"library", "url", "options", "clients", "join", "last"}'.
// Each emits `join` until it is acknowledged, then waits for the event whose payload's `number` is `last`. Prints a line
// {"joined": true} once all have joined, and at the end a line with what each has seen.
const { library, url, options, clients, join, last } = JSON.parse(process.argv[2]);
const { io } = require(`socket.io-client-${library}`);

const all = [];
let joined = 0;
for (let i = 0; i < clients; i++) {
  const client = { numbers: [], seqs: [], recovered: 0, notRecovered: [], connects: 0, beforeReady: 0 };
  all.push(client);
  const socket = io(url, { forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200, ...options });
  let ready = false;
  socket.on("connect", () => {
    client.last = "connected";
    if (client.connects++ > 0 && socket.recovered) client.recovered++;
  });
  socket.on("disconnect", (reason) => {
    ready = false;
    client.last = `disconnected: ${reason}`;
  });
  socket.on("connect_error", (error) => (client.last = `refused: ${error.message}, tries again: ${socket.active}`));
  socket.io.on("open", () => (client.last = "open"));
  socket.on("aldis:ready", (info) => {
    ready = true;
    if (client.joined && !info.recovered) client.notRecovered.push(info.reason || "new");
  });
  socket.on("news", (payload, position) => {
    if (!ready) client.beforeReady++;
    client.numbers.push(payload.number);
    client.seqs.push(Number(position.split(":")[1]));
    if (payload.number === last && all.every((c) => c.numbers.at(-1) === last)) finish();
  });
  const ask = () =>
    socket.timeout(1000).emit("join", join, (error, ack) => {
      if (error || !ack.ok) return ask();
      if (client.joined) return;
      client.joined = true;
      if (++joined === clients) console.log(JSON.stringify({ joined: true }));
    });
  ask();
}

function finish() {
  console.log(JSON.stringify({ clients: all }));
  process.exit(0);
}
// Whatever went wrong is in what they have seen.
setTimeout(finish, 100_000);
