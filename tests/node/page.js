// Looks at the page of `aldis dev`, and at that of a channel's OpenAPI document, as people do, in a headless Chromium:
// `node page.js SCENARIO URL [FILE or TOKEN]`. Ends with 0 when all of it holds.
"use strict";

const assert = require("node:assert/strict");
const { chromium } = require("playwright-core");

const [scenario, url, more] = process.argv.slice(2);
/** As long as the tests wait for anything, in ms. */
const PATIENCE = 30_000;

const is = (page, id, text) =>
  page.waitForFunction(([id, text]) => document.getElementById(id).textContent === text, [id, text], { timeout: PATIENCE });

const rows = (page) => page.$$eval("#log .name", (names) => names.map((name) => name.textContent));

const until = (page, count) =>
  page.waitForFunction((count) => document.querySelectorAll("#log .name").length >= count, count, { timeout: PATIENCE });

/** Opens a channel of the example and waits until its client is connected and in its room. */
async function open(browser, channel, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 860 }, ...options });
  page.complaints = [];
  page.on("console", (message) => message.type() === "error" && page.complaints.push(message.text()));
  page.on("pageerror", (error) => page.complaints.push(error.message));
  page.setDefaultTimeout(PATIENCE);
  await page.goto(`${url}#${channel}`);
  await is(page, "channel", channel);
  await is(page, "state", "Connected");
  await page.waitForFunction(() => document.querySelector("#rooms .here") !== null);
  return page;
}

const scenarios = {
  /** Publishing comes back as an event; a cut is recovered, and what was published meanwhile is there once. */
  async recovery(browser) {
    const page = await open(browser, "bistro/orders");
    assert.equal(await page.textContent("#recovered"), "New");
    await page.click("#publish button");
    await until(page, 2);
    assert.deepEqual((await rows(page)).sort(), ["connection:established", "order:status_changed"]);
    await page.waitForFunction(() => document.getElementById("latency").textContent.endsWith(" ms"));
    assert.match(await page.textContent("#published"), /^orders, partition \d, offset \d+$/);

    await page.click("#cut-publish");
    await is(page, "recovered", "Recovered");
    const sequences = () => page.$$eval("#log .seq", (all) => all.map((seq) => seq.textContent).filter(Boolean));
    // One before the cut, three meanwhile; the greeting, which is no delivery, comes with each connection.
    while ((await sequences()).length < 4) await page.waitForTimeout(20);
    const sequence = await sequences();
    assert.equal(new Set(sequence).size, 4, "each once");
    await until(page, 6);
    const told = await page.$$eval("#log .told", (all) => all.map((row) => row.textContent.slice(12)));
    assert.match(told.join("\n"), /^Connected again: socket.recovered is true$/m);
    assert.match(told.join("\n"), /^The connection is gone \(forced close\)/m);

    await page.locator("#log summary", { hasText: "order:status_changed" }).first().click();
    assert.match(await page.textContent("#log pre"), /"eventType": "order.status_changed"[^]*position \w+:\d+$/);
    assert.deepEqual(page.complaints, []);
  },

  /** Joins and leaves as the channel declares them, and what is refused says why. */
  async rooms(browser) {
    const page = await open(browser, "bistro/orders");
    await page.selectOption("#join-event", "subscribe:kitchen");
    await page.fill("#join-args", '[{"tenant_id": "tenant-456"}]');
    await page.click("#join button");
    await is(page, "joined", "You are in kitchen:tenant-456.");
    await page.getByRole("button", { name: "Leave kitchen:tenant-456" }).click();
    await is(page, "joined", "You have left kitchen:tenant-456.");
    await page.fill("#join-args", '[{"tenant_id": "somebody else"}]');
    await page.click("#join button");
    await page.waitForFunction(() => document.getElementById("joined").textContent.startsWith("Refused: "));
    await page.fill("#value", "{");
    await page.click("#publish button");
    await is(page, "published", "This is not JSON.");
    assert.equal(await page.getAttribute("#value", "aria-invalid"), "true");
    await page.fill("#token", "no token at all");
    await page.click("#as button");
    await is(page, "state", "Refused");
    assert.match(await page.textContent("#advice"), /^Invalid authentication token\. Change what you connect as/);
  },

  /** However much arrives, the list and what is spoken stay short, and a pause holds the list still. */
  async bounds(browser) {
    const page = await open(browser, "bistro/kitchen");
    await page.click("#pause");
    const flood = (count) =>
      page.evaluate(async (count) => {
        const value = JSON.parse(document.getElementById("value").value);
        const body = JSON.stringify({ topic: "orders", key: null, value });
        for (let sent = 0; sent < count; sent += 1) {
          await fetch("api/records", { method: "POST", headers: { "content-type": "application/json" }, body });
        }
      }, count);
    const before = await page.$$eval("#log > li", (all) => all.length);
    await flood(250);
    await page.waitForFunction(() => document.getElementById("shown").textContent.startsWith("250 arrived, 200 wait"));
    assert.equal(await page.$$eval("#log > li", (all) => all.length), before);
    await page.click("#pause");
    await page.waitForFunction(() => document.querySelectorAll("#log > li").length === 200);
    await flood(10);
    await page.waitForFunction(() => document.getElementById("shown").textContent.startsWith("260 arrived"));
    assert.equal(await page.$$eval("#log > li", (all) => all.length), 200);
    await page.waitForFunction(() => /^(\d+ events, the last|1 event:) kitchen:ticket$/.test(document.getElementById("said").textContent));
    await page.click("#clear");
    assert.equal(await page.$$eval("#log > li", (all) => all.length), 0);
    assert.deepEqual(page.complaints, []);
  },

  /** With the keyboard alone, in an order that makes sense; everything has a name; the focus is seen. */
  async keyboard(browser) {
    const page = await open(browser, "bistro/orders");
    const order = [];
    for (let step = 0; step < 40; step += 1) {
      await page.keyboard.press("Tab");
      const { at, seen } = await page.evaluate(() => {
        const { id, tagName, textContent, className } = document.activeElement;
        const outline = getComputedStyle(document.activeElement);
        return { at: id || className || (tagName === "BODY" ? "" : textContent.trim()), seen: outline.outlineStyle !== "none" && outline.outlineWidth !== "0px" };
      });
      if (at === "") break;
      assert.ok(seen, `the focus is not seen on ${at}`);
      order.push(at);
    }
    const [skip, kitchen, orders, ...rest] = order;
    assert.equal(skip, "skip");
    assert.match(kitchen, /^bistro\/kitchen/);
    assert.match(orders, /^bistro\/orders/);
    const leave = rest.indexOf("Leave");
    assert.equal(leave, rest.indexOf("join-event") - 1, String(rest));
    rest.splice(leave, 1);
    assert.deepEqual(
      rest.slice(0, 16).map((at) => (at === "primary" ? "publish" : at)),
      ["url", "cut", "cut-publish", "toggle", "topic", "key", "value", "publish", "repeat", "join-event", "join-args", "Join", "token", "query", "Connect anew", "pause"],
    );
    // A record is published without a mouse.
    await page.focus("#key");
    await page.keyboard.press("Enter");
    await until(page, 2);
    await page.focus("#log summary");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#log pre");

    const session = await page.context().newCDPSession(page);
    const { nodes } = await session.send("Accessibility.getFullAXTree");
    const named = ["button", "textbox", "combobox", "link", "image", "img", "DisclosureTriangle", "list", "figure", "region", "navigation"];
    const value = (field) => field?.value ?? "";
    const seen = nodes.filter((node) => !node.ignored);
    const role = (wanted) => seen.filter((node) => value(node.role) === wanted);
    for (const node of seen.filter((node) => named.includes(value(node.role)))) {
      // The list of rooms has its heading above it.
      if (["list", "figure"].includes(value(node.role))) continue;
      assert.notEqual(value(node.name), "", `a ${value(node.role)} without a name: ${JSON.stringify(node)}`);
    }
    for (const landmark of ["banner", "navigation", "main", "status"]) assert.equal(role(landmark).length, 1, landmark);
    assert.equal(role("image").length + role("img").length, 3, "the three plots");
    const levels = role("heading").map((node) => node.properties.find(({ name }) => name === "level").value.value);
    assert.equal(levels[0], 1);
    levels.reduce((before, level) => (assert.ok(level <= before + 1, `headings ${levels}`), level));
  },

  /** Every text stands out from its ground by 4.5:1, and nothing is cut off at the side, in both schemes and on a phone. */
  async colours(browser) {
    const grounds = new Set();
    for (const colorScheme of ["light", "dark"]) {
      for (const width of [1280, 380]) {
        const page = await open(browser, "bistro/orders", { colorScheme, viewport: { width, height: 800 } });
        await page.click("#publish button");
        await page.click("#cut");
        await is(page, "recovered", "Recovered");
        const { poor, texts, ground, wide } = await page.evaluate(measureContrast);
        assert.ok(texts > 40, `only ${texts} texts were measured`);
        assert.deepEqual(poor, [], `${colorScheme}, ${width}`);
        assert.equal(wide, false, `it scrolls sideways at ${width}`);
        grounds.add(ground);
        await page.close();
      }
    }
    assert.equal(grounds.size, 2, "light and dark differ");
  },

  /** A channel's OpenAPI document: nothing without a token, then every operation with its rules. */
  async docs(browser) {
    const page = await browser.newPage({ colorScheme: "dark" });
    page.setDefaultTimeout(PATIENCE);
    const complaints = [];
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    await page.goto(url);
    await page.getByLabel("Token").fill(more);
    assert.equal(await page.locator("details").count(), 0);
    await page.keyboard.press("Enter");
    await is(page, "title", "press/news");
    assert.equal(await page.locator("details").count(), 13);
    const publish = page.locator("details", { hasText: "POST/press/rooms/{room}/news" });
    await publish.locator("summary").click();
    const text = await publish.innerText();
    for (const told of ["Idempotency-Key", "the title is too long", "size(body.title) < 20", "202", "413", "title: any"]) {
      assert.ok(text.includes(told), `${told} is not in ${text}`);
    }
    const { poor, texts, ground } = await page.evaluate(measureContrast);
    assert.ok(texts > 20 && ground !== "rgb(255, 255, 255)", `${texts} texts on ${ground}`);
    assert.deepEqual(poor, []);
    // The one that came without a token.
    assert.deepEqual(complaints.filter((text) => !text.includes("401")), []);
  },

  /** The picture in the README. */
  async picture(browser) {
    const page = await open(browser, "bistro/orders", { viewport: { width: 1200, height: 750 } });
    for (let record = 0; record < 12; record += 1) {
      await page.click("#publish button");
      await page.waitForTimeout(record % 3 === 0 ? 1_100 : 300);
    }
    await page.click("#cut-publish");
    await is(page, "recovered", "Recovered");
    await page.waitForTimeout(2_000);
    await page.evaluate(() => document.activeElement.blur());
    await page.mouse.move(0, 0);
    await page.screenshot({ path: more });
  },
};

/** In the page: texts that are seen, and those whose contrast is below 4.5:1. Disabled controls need none. */
function measureContrast() {
  const parse = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const [R, G, B] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * R + 0.7152 * G + 0.0722 * B;
  };
  const groundOf = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  let texts = 0;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim() !== "");
    const isField = element.matches("input, textarea, select");
    if (!(own || isField) || element.closest(":disabled, .unseen, option") || element.getClientRects().length === 0) continue;
    const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(groundOf(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    texts += 1;
    if (contrast < 4.5) poor.push(`${element.tagName} ${element.textContent.slice(0, 30)}: ${contrast.toFixed(2)}`);
  }
  const ground = getComputedStyle(document.body).backgroundColor;
  return { poor, texts, ground, wide: document.documentElement.scrollWidth > document.documentElement.clientWidth };
}

async function main() {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  try {
    await scenarios[scenario](browser);
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
