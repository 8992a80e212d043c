// An issuer of tokens that publishes its keys: node issuer.js '{"tls": {"cert", "key"}}', without `tls` over http. Prints {"port"};
// then answers each line of standard input with one.
//
//   {do: "key", kid}               makes a key, and publishes it beside the others
//   {do: "withdraw", kid}          publishes it no longer; it can still sign
//   {do: "token", kid, claims}     → {token}, signed by that key
//   {do: "leave"}                  nobody answers any more
//   {do: "return"}                 at the same port
"use strict";

const crypto = require("node:crypto");

const { tls } = JSON.parse(process.argv[2]);
const keys = new Map();
const published = new Map();

const publish = (_, response) => {
  const jwk = ([kid, key]) => ({ ...key.export({ format: "jwk" }), kid, use: "sig", alg: "ES256" });
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify({ keys: [...published].map(jwk) }));
};
const server = tls ? require("node:https").createServer(tls, publish) : require("node:http").createServer(publish);

const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const encoded = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
let port = 0;

const commands = {
  key({ kid }) {
    const { privateKey, publicKey } = crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
    keys.set(kid, privateKey);
    published.set(kid, publicKey);
    tell({});
  },
  withdraw({ kid }) {
    published.delete(kid);
    tell({});
  },
  token({ kid, claims }) {
    const message = `${encoded({ alg: "ES256", typ: "JWT", kid })}.${encoded(claims)}`;
    const key = { key: keys.get(kid), dsaEncoding: "ieee-p1363" };
    tell({ token: `${message}.${crypto.sign("sha256", Buffer.from(message), key).toString("base64url")}` });
  },
  leave() {
    server.close(() => tell({}));
    server.closeAllConnections();
  },
  return() {
    server.listen(port, "127.0.0.1", () => tell({}));
  },
};

server.listen(0, "127.0.0.1", () => {
  port = server.address().port;
  tell({ port });
  const lines = require("node:readline").createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const command = JSON.parse(line);
    commands[command.do](command);
  });
  lines.on("close", () => process.exit());
});
