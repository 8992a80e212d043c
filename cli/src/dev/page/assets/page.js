// The page of `aldis dev`: one channel at a time, as a client of it sees it.
import { Link } from "./link.js";
import { Log } from "./log.js";
import { LATENCIES, Measure, SECONDS, milliseconds } from "./measure.js";
import { bars, line, ribbon } from "./plot.js";

/** How often channels and counts are asked for, in ms. 2 s: soon enough after a file was saved. */
const ASK = 2_000;
/** Records that are published while the connection is cut. */
const MEANWHILE = 3;

const at = (id) => document.getElementById(id);
const log = new Log({ list: at("log"), empty: at("no-events"), shown: at("shown"), said: at("said") });

let state = { channels: [] };
let channel; // its name
let link;
let measure = new Measure();
let joined = new Map(); // room → how to leave it, where that is known
let status = "idle";
let repeating;

const chosen = () => state.channels.find((known) => known.name === channel);

// --- what there is

async function ask() {
  try {
    const response = await fetch("api/state");
    if (!response.ok) throw new Error(`it answers ${response.status}`);
    const before = JSON.stringify(chosen()?.urls);
    state = await response.json();
    at("dir").textContent = state.dir;
    at("kafka").textContent = state.embedded ? `${state.kafka} (in memory)` : state.kafka;
    advise("");
    showChannels();
    const wanted = decodeURIComponent(location.hash.slice(1));
    const name = chosen() ? channel : (state.channels.find((known) => known.name === wanted) ?? state.channels[0])?.name;
    if (name !== channel || JSON.stringify(chosen()?.urls) !== before) choose(name);
    else showRooms();
  } catch (error) {
    advise(`aldis dev does not answer (${error.message}). Is it still running?`);
  }
}

function showChannels() {
  const items = state.channels.map(({ name, connections }) => {
    const link = document.createElement("a");
    link.href = `#${name}`;
    if (name === channel) link.setAttribute("aria-current", "true");
    const clients = document.createElement("span");
    clients.textContent = connections;
    clients.title = `${connections} clients`;
    clients.setAttribute("aria-label", `${connections} clients`);
    const label = document.createElement("span");
    label.textContent = name;
    link.append(label, clients);
    const item = document.createElement("li");
    item.append(link);
    return item;
  });
  keep(at("channels"), items);
}

/** Replaces a list's items, unless they are what is there: who stands on one with the keyboard stays there. */
function keep(list, items) {
  const same = items.length === list.childElementCount && items.every((item, index) => item.isEqualNode(list.children[index]));
  if (same) return;
  const focused = [...list.querySelectorAll("a, button")].indexOf(document.activeElement);
  list.replaceChildren(...items);
  if (focused >= 0) list.querySelectorAll("a, button")[focused]?.focus();
}

// --- a channel

function choose(name) {
  channel = name;
  const about = chosen();
  at("channel").textContent = name ?? "No channel";
  document.title = name ? `${name} · aldis dev` : "aldis dev";
  options(at("url"), about?.urls ?? []);
  options(at("topic"), about?.topics ?? [], about?.record?.topic);
  options(at("join-event"), about?.joins.map((join) => join.event) ?? [], about?.join?.event);
  at("join").hidden = !about?.joins.length;
  at("value").value = about?.record ? JSON.stringify(about.record.value, null, 2) : "{}";
  at("join-args").value = JSON.stringify(about?.join?.args ?? []);
  at("token").value = about?.token ?? "";
  at("query").value = JSON.stringify(about?.query ?? {});
  for (const result of document.querySelectorAll(".result")) answer(result, "");
  at("repeat").value = "0";
  repeat();
  log.clear();
  measure = new Measure();
  showChannels();
  connect();
}

function options(select, values, first = values[0]) {
  select.replaceChildren(...values.map((value) => new Option(value, value, value === first, value === first)));
  select.disabled = values.length < 2;
}

// --- its connection

function connect() {
  link?.end();
  link = undefined;
  joined = new Map();
  const about = chosen();
  if (!about) return become("idle", "Not connected");
  if (!about.admits) {
    become("refused", "Nobody can connect");
    return advise("The channel lets nobody in: say who may connect in spec.authentication.");
  }
  const query = parse(at("query"), at("as-result"), "a JSON object", (value) => value !== null && typeof value === "object" && !Array.isArray(value));
  if (query === undefined) return become("idle", "Not connected");
  become("waiting", "Connecting");
  let fresh = true;
  link = new Link(at("url").value, { token: at("token").value.trim(), query }, {
    connected({ recovered }) {
      become("connected", "Connected");
      advise("");
      at("recovered").textContent = recovered ? "Recovered" : "New";
      at("session-note").textContent = recovered ? "nothing missed" : "socket.recovered is false";
      log.note(recovered ? "Connected again: socket.recovered is true" : "Connected: a new session", recovered ? "good" : "");
      if (fresh && about.join) join(about.join.event, about.join.args);
      fresh = false;
    },
    told({ recovered, reason, rooms }) {
      joined = new Map((rooms ?? []).map((room) => [room, joined.get(room)]));
      if (!recovered && reason) {
        at("session-note").textContent = `not recovered: ${reason}`;
        log.note(`Not recovered: ${reason}`, "bad");
      }
      showRooms();
    },
    lost(reason, comesBack) {
      measure.lost();
      become("waiting", comesBack ? "Cut off, coming back" : "Disconnected");
      log.note(`The connection is gone (${reason})${comesBack ? "; the client comes back by itself" : "; the client stays away"}`, "bad");
      if (!comesBack) become("idle", "Disconnected");
    },
    refused(message, code, triesAgain) {
      become(triesAgain ? "waiting" : "refused", triesAgain ? "Trying again" : "Refused");
      log.note(`Not connected: ${message}${code ? ` (${code})` : ""}`, "bad");
      if (!triesAgain) advise(`${message}. Change what you connect as, below, and connect anew.`);
    },
    event(name, args) {
      if (name === "aldis:position") return;
      if (name === "aldis:left") {
        joined.delete(args[0]?.room);
        showRooms();
      } else measure.arrived();
      log.event(name, args);
    },
  });
}

function become(now, text) {
  status = now;
  at("state").dataset.state = now;
  at("state").textContent = text;
  const connected = now === "connected";
  at("cut").disabled = at("cut-publish").disabled = !connected;
  at("toggle").textContent = link && now !== "idle" && now !== "refused" ? "Disconnect" : "Connect";
}

function advise(text) {
  at("advice").textContent = text;
  at("advice").hidden = text === "";
}

// --- rooms

function showRooms() {
  const members = new Map(chosen()?.rooms ?? []);
  for (const room of joined.keys()) if (!members.has(room)) members.set(room, 1);
  const items = [...members].map(([room, count]) => {
    const item = document.createElement("li");
    const name = document.createElement("span");
    name.className = joined.has(room) ? "name here" : "name";
    name.textContent = room;
    const clients = document.createElement("span");
    clients.className = "members";
    const others = count === 1 ? "1 client" : `${count} clients`;
    clients.textContent = joined.has(room) ? `you are in, ${others}` : others;
    item.append(name, clients);
    const leave = joined.get(room);
    if (leave) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Leave";
      button.setAttribute("aria-label", `Leave ${room}`);
      button.dataset.room = room;
      item.append(button);
    }
    return item;
  });
  keep(at("rooms"), items);
  at("no-rooms").hidden = items.length > 0;
}

async function join(event, args) {
  const told = await tell(event, args);
  if (!told) return;
  const leave = chosen()?.joins.find((known) => known.event === event)?.leave;
  joined.set(told.room, leave && { event: leave, args });
  answer(at("joined"), `You are in ${told.room}.`);
  log.note(`Joined ${told.room}`);
  showRooms();
}

async function leave(room) {
  const { event, args } = joined.get(room);
  if (!(await tell(event, args))) return;
  joined.delete(room);
  answer(at("joined"), `You have left ${room}.`);
  log.note(`Left ${room}`);
  showRooms();
}

/** The acknowledgement of a join or leave; nothing where it was refused. */
async function tell(event, args) {
  try {
    const told = await link.ask(event, args);
    if (told?.ok) return told;
    answer(at("joined"), `Refused: ${told?.message ?? "no reason given"} (${told?.code ?? event})`, true);
  } catch {
    answer(at("joined"), "No acknowledgement within 5 s: is the client connected?", true);
  }
}

// --- publishing

async function publish() {
  const value = parse(at("value"), at("published"), "JSON", () => true);
  if (value === undefined) return stopRepeating();
  if (status === "connected") measure.publishes();
  const response = await fetch("api/records", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ topic: at("topic").value, key: at("key").value || null, value }),
  }).catch((error) => ({ ok: false, text: async () => error.message }));
  if (!response.ok) {
    measure.interrupted();
    stopRepeating();
    return answer(at("published"), `Not published: ${await response.text()}`, true);
  }
  const { topic, partition, offset } = await response.json();
  answer(at("published"), `${topic}, partition ${partition}, offset ${offset}`);
}

function repeat() {
  clearInterval(repeating);
  const every = Number(at("repeat").value);
  repeating = every ? setInterval(publish, every) : undefined;
}

function stopRepeating() {
  at("repeat").value = "0";
  repeat();
}

/** What a field holds; says there what is wrong with it otherwise. */
function parse(field, result, what, such) {
  let value;
  try {
    value = JSON.parse(field.value);
  } catch {
    value = undefined;
  }
  const good = value !== undefined && such(value);
  field.setAttribute("aria-invalid", String(!good));
  answer(result, good ? "" : `This is not ${what}.`, !good);
  return good ? value : undefined;
}

function answer(result, text, bad = false) {
  result.textContent = text;
  result.classList.toggle("bad", bad);
  if (bad) log.say(text);
}

// --- measurements

function second() {
  const connected = status === "connected" ? 1 : status === "idle" ? 0 : -1;
  if (measure.tick(connected) && status === "connected") {
    answer(at("published"), "Nothing has arrived within 10 s: is the client in the room that the record goes to?", true);
  }
  const highest = Math.max(...measure.rates);
  const all = measure.rates.reduce((sum, rate) => sum + rate, 0);
  at("rate").textContent = measure.rate.toLocaleString("en");
  at("rate-note").textContent = all === 0 ? "in the last minute: none" : `in the last minute: ${all.toLocaleString("en")}, at most ${highest}`;
  bars(at("rate-plot"), measure.rates, `Events per second over ${SECONDS} seconds: now ${measure.rate}, at most ${highest}`);
  const { latencies, median } = measure;
  if (latencies.length > 0) {
    at("latency").textContent = milliseconds(latencies.at(-1));
    at("latency-note").textContent = `median ${milliseconds(median)} of ${latencies.length}`;
  } else {
    at("latency").textContent = "–";
    at("latency-note").textContent = "publish a record to measure";
  }
  const told = latencies.length > 0 ? `last ${at("latency").textContent}, ${at("latency-note").textContent}` : "nothing measured";
  line(at("latency-plot"), latencies, LATENCIES, `Time from publishing to arrival: ${told}`);
  const down = measure.states.filter((state) => state < 0).length;
  ribbon(at("session-plot"), measure.states, `Connection over ${SECONDS} seconds: ${down === 0 ? "no cut seen" : `away for some ${down} seconds`}`);
}

// --- what one does

at("publish").addEventListener("submit", (event) => {
  event.preventDefault();
  publish();
});
at("repeat").addEventListener("change", repeat);
at("join").addEventListener("submit", (event) => {
  event.preventDefault();
  const args = parse(at("join-args"), at("joined"), "a JSON list, such as [{\"id\": 1}]", Array.isArray);
  if (args) join(at("join-event").value, args);
});
at("rooms").addEventListener("click", ({ target }) => target.dataset.room && leave(target.dataset.room));
at("as").addEventListener("submit", (event) => {
  event.preventDefault();
  connect();
});
at("url").addEventListener("change", connect);
at("cut").addEventListener("click", () => link.cut());
at("cut-publish").addEventListener("click", async () => {
  link.cut();
  for (let published = 0; published < MEANWHILE; published += 1) await publish();
  log.note(`Published ${MEANWHILE} records meanwhile`);
});
at("toggle").addEventListener("click", () => {
  if (at("toggle").textContent === "Connect") return connect();
  link.end();
  link = undefined;
  joined = new Map();
  become("idle", "Disconnected");
  log.note("Disconnected: the session is over");
  showRooms();
});
at("pause").addEventListener("click", () => {
  const paused = !log.paused;
  log.pause(paused);
  at("pause").setAttribute("aria-pressed", String(paused));
});
at("clear").addEventListener("click", () => log.clear());
window.addEventListener("hashchange", () => {
  const name = decodeURIComponent(location.hash.slice(1));
  if (name !== channel && state.channels.some((known) => known.name === name)) choose(name);
});

/** One after the other, and only while somebody looks. */
async function askAgain() {
  if (!document.hidden) await ask();
  setTimeout(askAgain, ASK);
}
second();
setInterval(second, 1_000);
askAgain();
