// Drives a report.html in headless Chromium as a reader would, and stops at the first thing that is not as it should be.
//
//     npm install --no-save puppeteer-core && node scripts/check_report.mjs runs/ioi-toy-4l/report.html [folder for pictures]
//
// CHROMIUM says which browser, if not /usr/bin/chromium.

import { resolve } from "node:path";
import { mkdirSync } from "node:fs";
import puppeteer from "puppeteer-core";

const [page_path, pictures] = process.argv.slice(2);
if (!page_path) { console.error("which report.html?"); process.exit(2); }
if (pictures) mkdirSync(pictures, { recursive: true });
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--allow-file-access-from-files"],
});
const page = await browser.newPage();
await page.setViewport({ width: 1400, height: 1000 });
const messages = [], requests = [];
page.on("console", (message) => messages.push(message.text()));
page.on("pageerror", (error) => messages.push(String(error)));
page.on("request", (request) => requests.push(request.url()));

function check(what, holds, seen) {
  if (!holds) { console.error(`not so: ${what}`, seen ?? ""); process.exit(1); }
  console.log(`${what}${seen === undefined ? "" : `: ${JSON.stringify(seen)}`}`);
}
const shot = async (name) => { if (pictures) await page.screenshot({ path: `${pictures}/${name}.png` }); };
const stage = (key) => page.$eval("#stage", (stage, key) => Number(stage.dataset[key]), key);
const text = (selector) => page.$eval(selector, (element) => element.textContent);
const settle = () => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));

await page.goto(`file://${resolve(page_path)}`);
await page.waitForSelector("html[data-ready]");
const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? performance.now());
check("first paint under 2 s", paint < 2000, `${Math.round(paint)} ms`);
const ready = await page.evaluate(() => performance.now());
check("drawn under 2 s", ready < 2000, `${Math.round(ready)} ms`);
await settle();
await shot("first");
const edges = await stage("edges"), says = await text("#says");
check("edges are drawn", edges > 0, edges);

// The slider changes the graph and the number.
await page.focus("#size");
await page.keyboard.press("Home");
await settle();
check("the slider shows fewer edges", (await stage("edges")) < edges, await stage("edges"));
check("and another number", (await text("#says")) !== says, await text("#says"));
await page.keyboard.press("End");
await settle();
check("or more", (await stage("edges")) >= edges, await stage("edges"));
await shot("slider");
const circuit = await page.evaluate(() => data.circuit);
await page.$eval("#size", (input, value) => { input.value = value; input.dispatchEvent(new Event("input")); }, circuit);
await settle();
check("back at the circuit", (await stage("edges")) === edges);

// Pointing at a node lights its way.
const head = await page.evaluate(() => nodes.findIndex((node, index) => node.kind === "head" && leaving[index].some(shown)));
const place = await page.evaluate((index) => {
  const box = nodes[index].element.querySelector("rect").getBoundingClientRect();
  return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
}, head);
const before = await page.evaluate(() => performance.now());
await page.mouse.move(place.x, place.y);
await settle();
const lag = (await page.evaluate(() => performance.now())) - before;
check("and names it", (await text("#tip")).length > 0, await text("#tip"));
check("pointing at a head lights a path", (await stage("lit")) > 0, await stage("lit"));
check("without lag", lag < 200, `${Math.round(lag)} ms`);
await shot("hover");
await page.mouse.click(place.x, place.y);
await settle();
const name = await page.evaluate((index) => nodes[index].name, head);
check("a click shows the node's card", (await text("#card h2")) === name, await text("#card h2"));
await shot("card");
await page.mouse.move(5, 5);

// An edge under the pointer is named.
const tip = await page.evaluate(() => {
  const edge = edges.filter(shown).at(-1), box = edge.box, view = state.view;
  const rect = document.getElementById("stage").getBoundingClientRect();
  for (let i = 0; i < 4000; i++) {
    const x = box[0] - 1 + ((i % 40) / 39) * (box[2] - box[0] + 2), y = box[1] + (Math.floor(i / 40) / 99) * (box[3] - box[1]);
    const px = x * view.scale + view.x, py = y * view.scale + view.y;
    point(px, py);
    if (!document.getElementById("tip").hidden) return document.getElementById("tip").textContent;
  }
  return "";
});
check("an edge under the pointer is named", tip.includes("->"), tip);

// What the numbers support is there where it was measured.
const measured = await page.evaluate(() => edges.some((edge) => edge.selected !== null));
if (await page.$(".verdict")) {
  const standings = await page.$$eval(".verdict .standing", (cells) => cells.map((cell) => cell.textContent));
  check("every claim has its standing in words", standings.length > 0 && standings.every((words) => words.length > 0), standings);
}
const columns = await page.$$eval("#edge-heads th", (cells) => cells.map((cell) => cell.textContent));
check("edges have intervals where these were measured", columns.includes("selected") === measured, columns);
const widths = await page.$$eval("#edge-rows tr", (rows) => rows.map((row) => row.children.length));
check("and as many cells as the head", widths.every((width) => width === columns.length));

// Search, and the keyboard alone.
await page.keyboard.press("Escape");
await page.keyboard.press("/");
await page.keyboard.type(name);
check("search finds a head", (await text("#hits")).includes("found"), await text("#hits"));
await page.keyboard.press("Enter");
await settle();
check("and shows it", (await text("#card h2")) === name);
check("with the focus on it", await page.evaluate((index) => document.activeElement === nodes[index].element, head));
await page.keyboard.press("ArrowUp");
await settle();
check("an arrow follows an edge", await page.evaluate((index) => document.activeElement !== nodes[index].element && document.activeElement.classList.contains("node"), head));
await page.keyboard.press("Enter");
await settle();
check("Enter opens the card there", (await text("#card h2")) !== name, await text("#card h2"));
await page.keyboard.press("Escape");

// Dark mode.
await page.click("#theme");
await settle();
const paper = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
check("dark mode has a dark page", paper.match(/\d+/g).every((part) => Number(part) < 60), paper);
await shot("dark");
await page.evaluate(() => window.scrollTo(0, document.body.scrollHeight));
await settle();
await shot("tables");
check("every node can be named by a screen reader", await page.evaluate(() => [...document.querySelectorAll(".node")].every((node) => node.getAttribute("aria-label"))));
check("no message on the console", messages.length === 0, messages);
check("no request but the page", requests.length === 1, requests);
await browser.close();
