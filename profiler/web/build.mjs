// Builds the page's script and style into the renderer's folder, or into the folder that is the first
// argument: the same bytes on every machine.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import path from "node:path";

const here = path.dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? path.join(here, "../src/render/html");

async function bundle(entry, loader) {
  const result = await build({
    absWorkingDir: here,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format: "iife",
    target: ["chrome123", "firefox120", "safari17.5"],
    charset: "utf8",
    legalComments: "none",
    write: false,
    loader,
  });
  return result.outputFiles[0].text;
}

function hash(text) {
  return createHash("sha256").update(text, "utf8").digest("base64");
}

const script = await bundle("src/main.ts", {});
const style = await bundle("src/page.css", {});
for (const text of [script, style]) {
  // Within the page these would end the element, or begin a comment in it.
  if (/<\/script|<\/style|<!--/i.test(text)) {
    throw new Error("the script or the style cannot stand in a page");
  }
}
const policy = [
  "default-src 'none'",
  `script-src 'sha256-${hash(script)}'`,
  `style-src 'sha256-${hash(style)}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");
await writeFile(path.join(out, "page.js"), script);
await writeFile(path.join(out, "page.css"), style);
await writeFile(path.join(out, "page.policy"), policy + "\n");

// What is built is what is written: nothing may be lost on the way.
for (const [name, text] of [["page.js", script], ["page.css", style]]) {
  if ((await readFile(path.join(out, name), "utf8")) !== text) {
    throw new Error(`${name} was not written whole`);
  }
}
