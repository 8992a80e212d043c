// Stock clients that send much at once: node burst.js '{"library", "url", "clients", "events"}'. Each, once it is connected, emits
// `echo` with 0, 1, … and waits until all are acknowledged. Half of them begin with polling, and go over to WebSocket meanwhile.
// Prints a line with, for each client, what the acknowledgements said, in their order.
const { library, url, clients, events } = JSON.parse(process.argv[2]);
const { io } = require(`socket.io-client-${library}`);

const all = [];
let done = 0;
for (let i = 0; i < clients; i++) {
  const answers = [];
  all.push(answers);
  const socket = io(url, { forceNew: true, ...(i % 2 ? {} : { transports: ["websocket"] }) });
  socket.on("connect", () => {
    for (let n = 0; n < events; n++) socket.emit("echo", n, answered);
  });
  const answered = (n) => {
    answers.push(n);
    if (answers.length === events && ++done === clients) finish();
  };
}

function finish() {
  process.stdout.write(JSON.stringify({ clients: all }) + "\n", () => process.exit(0));
}
// Whatever went wrong is in what was answered.
setTimeout(finish, 30_000);
