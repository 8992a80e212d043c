// Stock clients that are cut off and come back: node recovery.js '{"library", "url", "options", "clients", "join", "last"}'.
// Each emits `join` until it is acknowledged, then waits for an event whose payload is the number `last` or more. Prints a line
// {"joined": true} once all have joined, and at the end a line with what each has seen: the numbers and seqs of its events,
// how often it came back and was recovered, the reasons why not (notRecovered) and after how many events each was told (told),
// and whether the library and aldis:ready ever disagreed.
const { library, url, options, clients, join, last } = JSON.parse(process.argv[2]);
const { io } = require(`socket.io-client-${library}`);

const all = [];
let joined = 0;
for (let i = 0; i < clients; i++) {
  const client = { numbers: [], seqs: [], recovered: 0, notRecovered: [], told: [], connects: 0, beforeReady: 0, disagreed: 0 };
  all.push(client);
  // timeout: a connection that ends between WebSocket's handshake and Engine.IO's open packet is noticed by nothing else.
  const often = { reconnectionDelay: 50, reconnectionDelayMax: 200, timeout: 700 };
  const socket = io(url, { forceNew: true, ...often, ...options });
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
    if (info.recovered !== socket.recovered) client.disagreed++;
    if (client.joined && !info.recovered) {
      client.notRecovered.push(info.reason || "new");
      client.told.push(client.numbers.length);
    }
  });
  socket.on("news", (number, position) => {
    if (!ready) client.beforeReady++;
    client.numbers.push(number);
    client.seqs.push(Number(position.split(":")[1]));
    if (number >= last && all.every((c) => c.numbers.at(-1) >= last)) finish();
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
  process.stdout.write(JSON.stringify({ clients: all }) + "\n", () => process.exit(0));
}
// Whatever went wrong is in what they have seen.
setTimeout(finish, 100_000);
