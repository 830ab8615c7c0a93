// The page of tests/data/captures/incident.holdup, used with pointer and keys.
import assert from "node:assert/strict";

const CANVAS = "#timeline .tl-scroll canvas";

const fragment = async (page) => {
  // What is typed is looked for a moment later, and the address is written a moment after that. These timers are set
  // after the page's own and are longer, so that they end after those, however busy the machine is.
  return page.evaluate(async () => {
    const after = (time) => new Promise((next) => setTimeout(next, time));
    const frame = () => new Promise((next) => requestAnimationFrame(next));
    await after(150);
    await frame();
    await frame();
    await after(250);
    return location.hash.replace(/^#/, "");
  });
};
const parameters = async (page) => new URLSearchParams(await fragment(page));
const span = (text) => (text ?? "").split("-").map(Number);
/** What was asked for is drawn in the next frame. */
const drawn = (page) => page.evaluate(() => new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next))));
async function title(page) {
  await drawn(page);
  return page.locator("#detail h3").innerText();
}
async function column(page, number) {
  await drawn(page);
  return page.locator(`#sites tbody tr:not([hidden]) td:nth-child(${number})`).allInnerTexts();
}

async function search(page) {
  await page.keyboard.press("/");
  await page.keyboard.type("ask_blocking");
  await page.waitForFunction(() => document.querySelector(".found").textContent === "22 matches");
  await page.keyboard.press("Enter");
  assert.match(await title(page), /ask_blocking/);
  const first = (await parameters(page)).get("s");
  await page.keyboard.press("Enter");
  const second = (await parameters(page)).get("s");
  assert.notEqual(first, second, "Enter goes on");
  await page.locator(CANVAS).focus();
  await page.keyboard.press("n");
  const third = (await parameters(page)).get("s");
  assert.ok(![first, second].includes(third), "n goes on");
  await page.keyboard.press("N");
  assert.equal((await parameters(page)).get("s"), second, "N goes back");
  await page.keyboard.press("Escape");
  assert.equal((await parameters(page)).get("q"), null, "Escape ends the search");
}

async function tables(page) {
  const before = await column(page, 10);
  const number = (text) => Number(text.replace(/,/g, ""));
  await page.locator("#sites th[data-key=waits] button").click();
  await page.waitForSelector("th[data-key=waits][aria-sort=descending]");
  const waits = (await column(page, 4)).map(number);
  assert.deepEqual(waits, [...waits].sort((a, b) => b - a), "most first");
  await page.locator("#sites th[data-key=waits] button").click();
  await page.waitForSelector("th[data-key=waits][aria-sort=ascending]");
  assert.deepEqual((await column(page, 4)).map(number), waits.reverse(), "and the other way");
  await page.locator("#site-filter").fill("ledger.rs");
  await page.waitForFunction(() => document.querySelectorAll("#sites tbody tr:not([hidden])").length === 2);
  await page.locator("#site-filter").fill("");
  await page.locator("#site-state").selectOption("pool");
  await page.waitForFunction(() => document.querySelectorAll("#sites tbody tr:not([hidden])").length === 1);
  await page.locator("#site-state").selectOption("");
  await page.waitForFunction((all) => document.querySelectorAll("#sites tbody tr:not([hidden])").length === all, before.length);
}

/** A click on the worst stall, found by its place in the picture. */
async function stall(page) {
  await page.locator(CANVAS).focus();
  await page.keyboard.press("f");
  const seen = [];
  for (let step = 0; step < 4; step++) {
    await page.keyboard.press("ArrowRight");
    seen.push((await parameters(page)).get("s"));
  }
  assert.equal(new Set(seen).size, 4, `each key goes to another stall: ${seen}`);
  for (let step = 0; step < 3; step++) await page.keyboard.press("ArrowLeft");
  assert.equal((await parameters(page)).get("s"), seen[0], "and back");
  assert.match(await page.locator("#timeline .group .found").nth(1).innerText(), /^1 of \d+$/);
  // The twelfth round is the longest.
  assert.match(await page.locator("#detail .lead").innerText(), /90\.\d ms/);
  const starved = seen.find((of) => of.startsWith("x")) ?? (await firstStarved(page));
  const [from, to] = span(starved.split(".")[1]);
  await page.keyboard.press("Escape");
  await page.keyboard.press("f");
  await drawn(page);
  const box = await page.locator(CANVAS).boundingBox();
  const end = 8e9;
  await page.mouse.click(box.x + ((from + to) / 2 / end) * box.width, box.y + 10);
  await page.waitForFunction(() => document.querySelector("#detail .kind")?.textContent === "Stall");
  assert.match(await title(page), /No task of rt0 could run/);
  assert.match(await page.locator("#detail .lead").innerText(), /all 4 workers were blocked at once/);
  assert.equal(await page.locator("#detail .links li").count(), 4, "each worker's wait is named");
  // From the stall to a wait, and along its chain of blame.
  await page.locator("#detail .links button", { hasText: "reserve" }).first().click();
  assert.match(await title(page), /ledger::reserve/);
  assert.match(await page.locator("#detail .chain").innerText(), /tokio-rt-worker 4250[^]*flush[^]*fsync|flush/);
  await page.locator("#detail .chain button").first().click();
  assert.match(await title(page), /ledger::flush/);
  assert.match(await page.locator("#detail dl").innerText(), /ledger\.db/);
}

async function firstStarved(page) {
  for (let step = 0; step < 80; step++) {
    await page.keyboard.press("ArrowRight");
    const selected = (await parameters(page)).get("s");
    if (selected.startsWith("x")) return selected;
  }
  throw new Error("no stall of a runtime");
}

async function range(page) {
  await page.locator(CANVAS).focus();
  await page.keyboard.press("f");
  const before = await column(page, 4);
  const box = await page.locator(CANVAS).boundingBox();
  await page.mouse.move(box.x + box.width * 0.25, box.y + 60);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.4, box.y + 60, { steps: 5 });
  await page.mouse.move(box.x + box.width * 0.5, box.y + 60, { steps: 5 });
  await page.mouse.up();
  const [from, to] = span((await parameters(page)).get("r"));
  assert.ok(Math.abs(from - 2e9) < 2e7 && Math.abs(to - 4e9) < 2e7, `${from} to ${to}`);
  const within = await column(page, 4);
  // A quarter of the time, and so of the waits.
  const sum = (texts) => texts.map(Number).reduce((a, b) => a + b, 0);
  assert.ok(Math.abs(sum(within) / sum(before) - 0.25) < 0.05, `${within} of ${before}`);
  assert.match(await page.locator("#flame h2").innerText(), /in the range/);
  assert.match(await page.locator("article.runtime h3").first().innerText(), /from 2\.0/);
  await page.getByRole("button", { name: "All of the recording", exact: true }).click();
  assert.deepEqual(await column(page, 4), before, "all of it again");
}

async function keyboard(page) {
  await page.reload();
  await page.waitForSelector("html[data-finished]");
  // Everything can be reached with the key for it.
  let reached = false;
  for (let step = 0; step < 60 && !reached; step++) {
    await page.keyboard.press("Tab");
    reached = await page.evaluate((canvas) => document.activeElement === document.querySelector(canvas), CANVAS);
  }
  assert.ok(reached, "Tab reaches the timeline");
  await page.keyboard.press("f");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await page.keyboard.press("w");
  const [from, to] = span((await parameters(page)).get("t"));
  assert.ok(to - from < 8e9 && from > 0, "w zooms in");
  await page.keyboard.press("d");
  assert.ok(span((await parameters(page)).get("t"))[0] > from, "d moves");
  await page.keyboard.press("a");
  const wide = span((await parameters(page)).get("t"));
  await page.keyboard.press("s");
  const wider = span((await parameters(page)).get("t") ?? "0-8000000000");
  assert.ok(wider[1] - wider[0] > wide[1] - wide[0], "s zooms out");
  await page.keyboard.press("w");
  const before = (await parameters(page)).get("t");
  await page.keyboard.press("f");
  assert.equal((await parameters(page)).get("t"), null, "f fits");
  await page.keyboard.press("z");
  assert.equal((await parameters(page)).get("t"), before, "z goes back");
  await page.keyboard.press("f");
  await page.keyboard.press("ArrowDown");
  const one = (await parameters(page)).get("s");
  await page.keyboard.press(".");
  assert.notEqual((await parameters(page)).get("s"), one, ". goes to the next wait");
  await page.keyboard.press(",");
  assert.equal((await parameters(page)).get("s"), one, "and , back");
  await page.keyboard.press("Enter");
  assert.notEqual((await parameters(page)).get("t"), null, "Enter zooms to it");
  await page.keyboard.press("r");
  assert.equal((await parameters(page)).get("r"), (await parameters(page)).get("t"), "r takes what is in view");
  await page.keyboard.press("?");
  assert.ok(await page.locator("dialog").isVisible(), "? helps");
  await page.keyboard.press("Escape");
  assert.ok(!(await page.locator("dialog").isVisible()), "Escape closes");
  await page.locator("#flame canvas").focus();
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Enter");
  assert.match((await parameters(page)).get("flame"), /^\d+\.\d+$/, "the flamegraph zooms");
  await page.keyboard.press("Backspace");
  assert.match((await parameters(page)).get("flame"), /^\d+$/, "and goes back");
}

/** A link shows what its sender saw. */
async function link(page, open) {
  await page.locator("#search").fill("flush");
  await page.locator("#site-filter").fill("ledger");
  await page.locator("#sites th[data-key=max] button").click();
  await page.locator(".chip", { hasText: "network" }).click();
  await page.getByRole("button", { name: /\d other thread/ }).click();
  const sent = await fragment(page);
  for (const key of ["t", "r", "s", "q", "filter", "sort", "hide", "others", "flame"]) {
    assert.ok(new URLSearchParams(sent).has(key), `${key} is in ${sent}`);
  }
  const other = await open({}, sent);
  for (const what of ["#detail", "#sites table", "#timeline .range", "#timeline h2", "#flame h2", "article.runtime"]) {
    const of = (on) => on.locator(what).first().innerText();
    assert.equal(await of(other.page), await of(page), what);
  }
  await other.page.keyboard.press("f");
  assert.notEqual(await fragment(other.page), sent);
  await other.page.keyboard.press("z");
  assert.equal(await fragment(other.page), sent, "the address is the same again");
  await other.close();
  // Anybody may write a link.
  const bad = await open({}, "t=9-1&r=x&s=w99999999&q=%3Cscript%3E&site=99&hide=99.-1&sort=__proto__.down&flame=1.2.3&filter=%27&state=%22");
  assert.equal(await bad.page.locator("#timeline .range").innerText(), "");
  await bad.close();
}

async function readyForAxe(page) {
  await page.locator(CANVAS).focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("r");
  await page.locator("#sites summary").first().click();
  await page.locator("#search").fill("flush");
  await fragment(page);
}

export async function use({ open, accessible, picture }) {
  const { page, close } = await open();
  await picture(page, "first");
  for (const part of [search, tables, stall, range, keyboard]) await part(page);
  await link(page, open);
  await picture(page, "last");
  await close();
  for (const theme of ["light", "dark"]) {
    await accessible(theme, async () => {}, "first");
    await accessible(theme, readyForAxe, "selected");
    await accessible(theme, (of) => of.keyboard.press("?"), "help");
  }
  for (const width of [1_000, 420]) {
    const narrow = await open({ viewport: { width, height: 900 } }, "s=w100");
    const box = await narrow.page.locator(CANVAS).boundingBox();
    assert.ok(box.height > 100 && box.width > 150 && box.width < width, `the timeline is there at ${width} pixels`);
    await picture(narrow.page, `at-${width}`);
    await narrow.close();
  }
  // The button changes the theme that the system has.
  const dark = await open({ colorScheme: "dark" });
  const background = () => dark.page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const before = await background();
  await dark.page.locator("#theme").click();
  assert.notEqual(await background(), before, "the button changes the theme");
  await dark.close();
}
