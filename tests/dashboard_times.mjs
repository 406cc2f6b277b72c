// How long dashboard.html takes in Chromium, opened from disk with networking off, and whether it says or asks anything.
//
//   npm install --prefix /tmp/driver puppeteer-core
//   NODE_PATH=/tmp/driver/node_modules node tests/dashboard_times.mjs features/dashboard.html [SCREENSHOTS]
//
// Prints one JSON object, times in ms: `ready` from the navigation until the first latent stands there; `search` from a key until the list is
// painted; `latent` from a link until the first screen of the latent is painted; `whole` until all its contexts stand there; `load` is the machine's, of the last minute. Exits with 1 where a limit is missed, the console has an error, or anything but the file
// itself is asked for. Chromium is ASSAY_CHROMIUM, or /usr/bin/chromium.
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import { loadavg } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";

const puppeteer = createRequire(process.env.NODE_PATH ? path.join(process.env.NODE_PATH, "_") : import.meta.url)("puppeteer-core");
const LIMITS = { ready: 2000, search: 100, latent: 150 };
const [file, shots] = process.argv.slice(2);
if (!file) {
  console.error("usage: node tests/dashboard_times.mjs DASHBOARD.html [DIRECTORY FOR SCREENSHOTS]");
  process.exit(2);
}
if (shots) mkdirSync(shots, { recursive: true });
const address = pathToFileURL(path.resolve(file)).href;
const browser = await puppeteer.launch({
  executablePath: process.env.ASSAY_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
  protocolTimeout: 120_000,
});
const page = await browser.newPage();
await page.setViewport({ width: 1400, height: 900 });
await page.setOfflineMode(true);
const said = [], asked = [];
page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
page.on("pageerror", (error) => said.push(`error: ${error}`));
page.on("request", (request) => {
  if (request.url().split("#")[0] !== address && !/^(blob|data):/.test(request.url())) asked.push(request.url());
});

const begun = performance.now();
await page.goto(address, { waitUntil: "domcontentloaded", timeout: 120_000 });
await page.waitForFunction(() => document.documentElement.dataset.ready, { polling: "raf", timeout: 120_000 });
const ready = performance.now() - begun;
const shot = async (name) => shots && page.screenshot({ path: path.join(shots, `${name}.png`) });
await shot("first");

const search = [];
for (const text of ["t", "th", "the", "12", "zzzz", ""]) {
  search.push(
    await page.evaluate(
      async (text) => {
        const began = performance.now(), box = document.getElementById("search");
        box.value = text;
        box.dispatchEvent(new Event("input", { bubbles: true }));
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
        return performance.now() - began;
      },
      text,
    ),
  );
  if (text === "the") await shot("search");
}
// Latents of as many shards, spread over all of them.
const latents = await page.evaluate(() => Number(/of ([\d,]+) latents/.exec(document.body.textContent)[1].replaceAll(",", "")));
// One that never fires has no contexts to show, and is not counted.
const latent = [], whole = [];
for (let at = 0; at < 240 && latent.length < 24; at++) {
  // Steps of 7/240 visit a part of the file that was not opened before.
  const wanted = Math.floor((((7 * at) % 240) + 0.5) * (latents / 240));
  const [first, all, contexts] = await page.evaluate(
    async (wanted) => {
      const began = performance.now(), shown = document.documentElement.dataset;
      location.hash = `latent=${wanted}`;
      while (shown.whole !== String(wanted)) await new Promise((done) => setTimeout(done, 1));
      // The page says when it was painted, before it builds what is below the first screen.
      const painted = Number(shown.painted);
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
      return [painted - began, performance.now() - began, document.querySelectorAll(".context").length];
    },
    wanted,
  );
  if (contexts === 0) continue;
  latent.push(first);
  whole.push(all);
  if (latent.length === 8) await shot(`latent-${wanted}`);
}
await browser.close();

const summed = (times) => {
  const sorted = times.toSorted((a, b) => a - b);
  return { median: Math.round(sorted[Math.floor(sorted.length / 2)]), most: Math.round(sorted.at(-1)) };
};
const load = Number(loadavg()[0].toFixed(1));
const found = { latents, shown: latent.length, load, ready: Math.round(ready), search: summed(search), latent: summed(latent), whole: summed(whole), console: said, requests: asked };
const missed = found.ready > LIMITS.ready || found.search.most > LIMITS.search || found.latent.most > LIMITS.latent;
console.log(JSON.stringify({ ...found, limits: LIMITS, kept: !missed }));
process.exit(missed || said.some((line) => line.startsWith("error")) || asked.length > 0 ? 1 : 0);
