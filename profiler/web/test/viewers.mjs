// Opens a file in the page of the program that it is for, in Chromium, and prints what is seen there, as JSON.
//
//   node viewers.mjs speedscope|perfetto FILE PAGES CHROMIUM
//
// PAGES is the folder with the program's pages. With HOLDUP_KEEP_PAGES set to a folder, pictures go there.
import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { chromium } from "playwright-core";

const [way, file, pages, executablePath] = process.argv.slice(2);
const kept = process.env.HOLDUP_KEEP_PAGES;
const TYPES = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".png": "image/png",
  ".wasm": "application/wasm",
  ".woff2": "font/woff2",
};

/** The pages and the file, for this machine alone. */
async function serve() {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const served = pathname === "/file" ? file : path.join(pages, pathname === "/" ? "index.html" : path.normalize(pathname));
    const there = await stat(served).catch(() => null);
    if (!there?.isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "content-type": TYPES[path.extname(served)] ?? "application/octet-stream" });
    createReadStream(served).pipe(response);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return server;
}

async function picture(page, name) {
  if (kept) await page.screenshot({ path: path.join(kept, `${way}-${name}.png`) });
}

/** A page of its own in which every error is noted, and which gets nothing from any other machine. */
async function open(browser, origin, fragment) {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(error.stack ?? error.message));
  page.on("console", (message) => {
    if (message.type() === "error") wrong.push(`${message.text()} ${message.location().url}`);
  });
  await page.route((url) => url.origin !== origin, (route) => route.abort());
  await page.goto(`${origin}/${fragment}`);
  return { page, wrong };
}

/** The profiles by name, and the frames of the one that is chosen first, each with its time as it is written there. */
async function speedscope(browser, origin) {
  const { page, wrong } = await open(browser, origin, "#profileURL=/file");
  const tables = () =>
    page.evaluate(() => {
      const cells = (row) => [...row.cells].map((cell) => cell.textContent.trim());
      const rows = (table) => [...table.querySelectorAll("tr:has(td)")].map(cells);
      return [...document.querySelectorAll("table")].map(rows);
    });
  await page.getByText("Time Order").waitFor();
  const [profiles] = await tables();
  await picture(page, "time-order");
  await page.getByText("Sandwich").click();
  await page.getByText("Symbol Name").waitFor();
  await picture(page, "sandwich");
  const frames = (await tables()).at(-1);
  assert.deepEqual(wrong, [], "nothing goes wrong on the page");
  return { title: await page.title(), profiles, frames };
}

const QUERIES = {
  slices: "select name, count(*) as count, sum(dur) as nanoseconds from slice group by name order by name",
  tracks:
    "select process.name as process, process.pid, thread.name, thread.tid, count(*) as slices, max(depth) as depth from slice " +
    "join thread_track on slice.track_id = thread_track.id join thread using (utid) join process using (upid) group by utid order by tid",
  problems: "select name, value from stats where value > 0 and severity != 'info'",
  open: "select name from slice where dur < 0",
  arguments: "select distinct key from args join slice using (arg_set_id) order by key",
};

/** What Perfetto's trace processor answers, in the page that is for people. */
async function perfetto(browser, origin) {
  const { page, wrong } = await open(browser, origin, `#!/?url=${origin}/file`);
  await page.waitForFunction(() => globalThis.app?.trace?.engine, null, { timeout: 60_000 });
  const answers = await page.evaluate(async (queries) => {
    const answers = {};
    for (const [name, query] of Object.entries(queries)) {
      const result = await globalThis.app.trace.engine.query(query);
      const columns = result.columns();
      answers[name] = [];
      for (const row = result.iter({}); row.valid(); row.next()) {
        const value = (column) => (typeof row.get(column) === "bigint" ? Number(row.get(column)) : row.get(column));
        answers[name].push(Object.fromEntries(columns.map((column) => [column, value(column)])));
      }
    }
    return answers;
  }, QUERIES);
  // Process and threads are drawn as well.
  await page.waitForFunction((name) => document.body.innerText.includes(name), answers.tracks[0]?.name, { timeout: 30_000 });
  await picture(page, "timeline");
  // The page asks for what is not there when it has no network, and for its own server's extras.
  const own = wrong.filter((said) => !/Failed to load resource|LiveReload|Content-Security-Policy/.test(said));
  assert.deepEqual(own, [], "nothing goes wrong on the page");
  return answers;
}

const server = await serve();
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const look = { speedscope, perfetto }[way];
  console.log(JSON.stringify(await look(browser, `http://127.0.0.1:${server.address().port}`)));
} finally {
  await browser.close();
  server.closeAllConnections();
  server.close();
}
