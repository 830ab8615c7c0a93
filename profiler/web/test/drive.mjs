// Opens a page of a report in Chromium and uses it as a reader would.
//
//   node drive.mjs use|look|measure PAGE CHROMIUM
//
// With HOLDUP_KEEP_PAGES set to a folder, pictures of what was seen go there.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { use } from "./use.mjs";

const [way, file, executablePath] = process.argv.slice(2);
const address = pathToFileURL(path.resolve(file)).href;
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const kept = process.env.HOLDUP_KEEP_PAGES;

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });

/** A page in which nothing may go wrong: no error, and nothing asked of any network. */
async function open(options = {}, fragment = "", before = async () => {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 1000 }, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) wrong.push(message.text());
  });
  page.on("pageerror", (error) => wrong.push(error.stack ?? error.message));
  page.on("request", (request) => {
    if (!request.url().startsWith("file:")) wrong.push(`asked for ${request.url()}`);
  });
  page.on("dialog", (dialog) => wrong.push(`a dialog: ${dialog.message()}`));
  await before(page, context);
  await page.goto(address + (fragment ? `#${fragment}` : ""));
  if (options.javaScriptEnabled !== false) await page.waitForSelector("html[data-finished]", { timeout: 60_000 });
  const close = async () => {
    assert.deepEqual(wrong, [], "nothing goes wrong on the page");
    await context.close();
  };
  return { page, close };
}

async function picture(page, name) {
  if (kept) await page.screenshot({ path: path.join(kept, `${path.basename(file, ".html")}-${name}.png`) });
}

/** What axe finds wrong. The policy of the page would not let it in. */
async function accessible(colorScheme, prepare, name) {
  const { page, close } = await open({ colorScheme, bypassCSP: true });
  await prepare(page);
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const said = found.violations.map((of) => `${of.id}: ${of.help}\n${of.nodes.map((node) => `  ${node.html.slice(0, 200)} ${node.failureSummary}`).join("\n")}`);
  assert.deepEqual(said, [], `axe finds nothing (${colorScheme}, ${name})`);
  assert.ok(found.passes === undefined || found.violations.length === 0);
  await picture(page, `${name}-${colorScheme}`);
  await close();
}

/** What can be read where no script runs. */
async function withoutScript() {
  const { page, close } = await open({ javaScriptEnabled: false });
  assert.ok((await page.locator("#verdict p").first().innerText()).length > 10, "the verdict is there");
  assert.ok(await page.locator("#sites tbody tr").first().isVisible(), "the sites are there");
  assert.ok(!(await page.locator("#timeline").isVisible()), "what needs a script is not");
  await page.locator("#sites summary").first().click();
  assert.ok(await page.locator("#sites details dl").first().isVisible(), "a site opens");
  await picture(page, "without-script");
  await close();
}

async function look() {
  const { page, close } = await open();
  await page.keyboard.press("ArrowRight");
  await page.locator("#sites summary").first().click();
  await close();
  for (const theme of ["light", "dark"]) await accessible(theme, async () => {}, "first");
}

/** What a page of a million waits may take to be drawn, in milliseconds. */
const OPENS = 2_000;
/** How far apart frames are that a display shows sixty times a second, with the clock's own error. */
const FRAME = 16.8;
/** What the script may take for one of them: half of it, since the browser has to put it together. */
const SCRIPT = 8;
/** The same in CPU time of a machine on which others work, too: they take its caches away. */
const SCRIPT_BESIDE_OTHERS = 10;
/** How often a machine on which others work, too, is asked. */
const TRIES = 5;

/** The times of frames while the wheel turns. */
async function zoom(page) {
  return page.evaluate(async () => {
    const canvas = document.querySelector("#timeline .tl-scroll canvas");
    const box = canvas.getBoundingClientRect();
    const between = [];
    const busy = [];
    let last = 0;
    for (let turn = 0; turn < 180; turn++) {
      await new Promise((next) => requestAnimationFrame(next));
      const now = performance.now();
      if (last > 0) between.push(now - last);
      last = now;
      const deltaY = turn % 90 < 45 ? -60 : 60;
      canvas.dispatchEvent(new WheelEvent("wheel", { deltaY, clientX: box.left + box.width / 2, clientY: box.top + 50, cancelable: true }));
      // What the wheel asked for is drawn in the next frame, before this one's turn: at its end it is done.
      await new Promise((next) => requestAnimationFrame(next));
      busy.push(performance.now() - document.timeline.currentTime);
    }
    const of = (times, share) => times.sort((a, b) => a - b)[Math.floor((times.length - 1) * share)];
    return {
      // Of two frames one has something to draw.
      drawn: busy.length,
      between: of(between, 0.5) / 2,
      between95: of(between, 0.95) / 2,
      busy: of(busy, 0.5),
      busy95: of(busy, 0.95),
    };
  });
}

/** The times of the first picture and of frames while the wheel turns. */
async function measure() {
  let session = null;
  const { page, close } = await open({}, "", async (page, context) => {
    session = await context.newCDPSession(page);
    await session.send("Performance.enable", { timeDomain: "threadTicks" });
  });
  // CPU time of the page's thread, whoever else is at work.
  const cpuTime = async (of) => {
    const { metrics } = await session.send("Performance.getMetrics");
    return 1_000 * metrics.find((metric) => metric.name === of).value;
  };
  const cpu = await cpuTime("TaskDuration");
  const drawn = Number(await page.evaluate(() => document.documentElement.dataset.drawn));
  const finished = Number(await page.evaluate(() => document.documentElement.dataset.finished));
  let frames = null;
  let cpuOfFrame = Infinity;
  for (let n = 0; n < TRIES && !(frames?.between <= FRAME && cpuOfFrame <= SCRIPT); n++) {
    const before = await cpuTime("ScriptDuration");
    const tried = await zoom(page);
    cpuOfFrame = Math.min(cpuOfFrame, ((await cpuTime("ScriptDuration")) - before) / tried.drawn);
    if (frames === null || tried.between < frames.between) frames = tried;
  }
  const search = await page.evaluate(async () => {
    const input = document.querySelector("#search");
    const begin = performance.now();
    input.value = "store";
    input.dispatchEvent(new Event("input"));
    while (document.querySelector(".found").textContent === "") await new Promise((next) => requestAnimationFrame(next));
    return performance.now() - begin;
  });
  await picture(page, "zoomed");
  const ms = (time) => `${time.toFixed(1)} ms`;
  console.log(
    `first picture after ${drawn} ms, all of it after ${finished} ms, for ${ms(cpu)} of CPU time; zooming: a frame every ${ms(frames.between)} ` +
      `(95 %: ${ms(frames.between95)}), of which drawn in ${ms(frames.busy)} (95 %: ${ms(frames.busy95)}), with ${ms(cpuOfFrame)} of script; ` +
      `search ${ms(search)}`,
  );
  // CPU time is nearly the same whoever else is at work; the rest is promised of a machine that is not busy.
  assert.ok(cpu > 100 && cpu <= OPENS, `${cpu} ms of CPU time to be drawn`);
  assert.ok(cpuOfFrame > 0.1 && cpuOfFrame <= SCRIPT_BESIDE_OTHERS, `${cpuOfFrame} ms of script for a frame`);
  if (process.env.HOLDUP_MEASURED !== undefined) {
    assert.ok(cpuOfFrame <= SCRIPT, `${cpuOfFrame} ms of script for a frame`);
    assert.ok(finished <= OPENS, `${finished} ms until all is drawn`);
    assert.ok(frames.between <= FRAME, `a frame every ${frames.between} ms`);
  }
  await page.keyboard.press("f");
  await picture(page, "whole");
  await close();
}

try {
  if (way === "use") {
    await withoutScript();
    await use({ open, accessible, picture });
  } else if (way === "look") {
    await withoutScript();
    await look();
  } else if (way === "measure") {
    await measure();
  } else {
    throw new Error(`no way ${way}`);
  }
} finally {
  await browser.close();
}
