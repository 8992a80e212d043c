// The list of what has arrived, newest first, and what is told of it to those who do not see it.

/** Rows that the list keeps. 200: what one looks back at; the oldest go. */
const ROWS = 200;
/** Longest payload that a row shows unopened, in characters. 200: more than a wide screen has room for. */
const PREVIEW = 200;
/** Longest payload that an opened row shows, in characters. 20,000. */
const WHOLE = 20_000;
/** How often the live region may speak of events, in ms. 3 s: a sentence takes that long to be read out. */
const SPEAK = 3_000;

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  Object.assign(made, attributes);
  made.append(...children);
  return made;
};

const clock = (date) => date.toTimeString().slice(0, 8) + "." + String(date.getMilliseconds()).padStart(3, "0");

const time = (date) => element("time", { dateTime: date.toISOString() }, clock(date));

const cut = (text, length) => (text.length > length ? `${text.slice(0, length)}…` : text);

export class Log {
  constructor({ list, empty, shown, said }) {
    Object.assign(this, { list, empty, shown, said });
    this.clear();
    this.paused = false;
    this.unsaid = { events: 0, last: "" };
    setInterval(() => this.#speak(), SPEAK);
  }

  /** A delivery, or any other event. */
  event(name, args) {
    this.arrived += 1;
    this.unsaid.events += 1;
    this.unsaid.last = name;
    const position = args.length > 1 && typeof args.at(-1) === "string" ? args.at(-1) : undefined;
    const payload = position === undefined ? args : args.slice(0, -1);
    this.#add({ name, payload: payload.length === 1 ? payload[0] : payload, position, date: new Date() });
  }

  /** Something that happened to the connection. `kind`: good, bad or nothing; said at once. */
  note(text, kind = "") {
    this.#add({ note: text, kind, date: new Date() });
    this.say(text);
  }

  say(text) {
    this.said.textContent = text;
  }

  pause(paused) {
    this.paused = paused;
    this.#schedule();
  }

  clear() {
    this.arrived = 0;
    this.waiting = [];
    this.list.replaceChildren();
    this.#count();
  }

  /** Rows are made once a frame, and never more than the list keeps. */
  #add(row) {
    this.waiting.push(row);
    if (this.waiting.length > ROWS) this.waiting.shift();
    this.#schedule();
  }

  #schedule() {
    if (this.scheduled || this.paused) return this.#count();
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      const rows = this.waiting.splice(0).reverse();
      this.list.prepend(...rows.map((row) => (row.note === undefined ? eventRow(row) : noteRow(row))));
      while (this.list.childElementCount > ROWS) this.list.lastElementChild.remove();
      this.#count();
    });
  }

  #count() {
    this.empty.hidden = this.list.childElementCount > 0;
    const held = this.paused && this.waiting.length > 0 ? `, ${this.waiting.length} wait` : "";
    this.shown.textContent = this.arrived === 0 ? "" : `${this.arrived.toLocaleString("en")} arrived${held}; the last ${ROWS} are kept`;
  }

  #speak() {
    const { events, last } = this.unsaid;
    this.unsaid.events = 0;
    if (events > 0) this.say(events === 1 ? `1 event: ${last}` : `${events} events, the last ${last}`);
  }
}

function eventRow({ name, payload, position, date }) {
  const text = JSON.stringify(payload) ?? "";
  const summary = element(
    "summary",
    {},
    time(date),
    element("span", { className: "name" }, name),
    element("span", { className: "seq", title: position ?? "" }, position ? `#${position.split(":").at(-1)}` : ""),
    element("span", { className: "payload" }, cut(text, PREVIEW)),
  );
  const details = element("details", {}, summary);
  // Written when it is first opened: most never are.
  details.addEventListener(
    "toggle",
    () => {
      const whole = cut(JSON.stringify(payload, null, 2) ?? "", WHOLE);
      details.append(element("pre", { tabIndex: 0 }, position ? `${whole}\n\nposition ${position}` : whole));
    },
    { once: true },
  );
  return element("li", {}, details);
}

function noteRow({ note, kind, date }) {
  return element("li", {}, element("div", { className: `told ${kind}` }, time(date), element("span", {}, note)));
}
