// The console as a browser shows it: signs in at a real provider, looks at every page as everybody, and does each
// page's main task. Prints what it found wrong, a line each, and exits with 1 if there was anything.
//
//   node browser.mjs SETTINGS    (JSON: {url, chromium, images, runner, ...}; see browser.rs)

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const settings = JSON.parse(process.argv[2]);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDTHS = { phone: { width: 360, height: 740 }, desk: { width: 1280, height: 860 } };
// Each width and each theme once: a colour does not depend on the width, nor a layout on the theme.
const LOOKS = [["phone", "dark"], ["desk", "light"]];
const faults = [];

/** What is to be so; a fault otherwise. */
function expect(is, what) {
  if (!is) faults.push(what);
}

const browser = await chromium.launch({
  executablePath: settings.chromium,
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});

/** A browser of somebody's own, watched for errors and for requests to elsewhere. */
async function visitor(who, options = {}) {
  const context = await browser.newContext({ viewport: WIDTHS.desk, ...options });
  // What the provider's own pages would load from elsewhere is nobody's business here.
  await context.route((url) => url.hostname !== "127.0.0.1" && url.protocol.startsWith("http"), (route) => {
    const from = route.request().frame().url();
    expect(!from.startsWith(settings.url), `${who}: ${from} asks for ${route.request().url()}`);
    return route.abort();
  });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("pageerror", (error) => faults.push(`${who}: ${page.url()}: ${error}`));
  page.on("console", (message) => {
    const ours = message.location().url.startsWith(settings.url);
    // Whoever is kept out hears so from the browser itself.
    if (message.type() === "error" && ours && !page.isKeptOut) faults.push(`${who}: ${page.url()}: console: ${message.text()}`);
  });
  return page;
}

/** Through the provider's own pages, and back to where one wanted to go. */
async function signIn(page, login, path = "/") {
  await page.goto(settings.url + path);
  await page.getByRole("link", { name: /sign in with|continue with/i }).or(page.getByRole("button", { name: /sign in with|continue with/i })).first().click();
  await page.locator("input[name=login]").fill(login);
  await page.locator("input[name=password]").fill("any");
  await page.locator("button[type=submit]").click();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.waitForURL((url) => url.href.startsWith(settings.url) && !url.pathname.startsWith("/sign-in"));
  expect(page.url() === settings.url + path, `${login}: after signing in at ${page.url()}, not at ${path}`);
}

/** What every page has to be, at each width and in each theme. */
async function look(page, who, path, name) {
  for (const [width, colorScheme] of LOOKS) {
    await page.setViewportSize(WIDTHS[width]);
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    const answer = await page.goto(settings.url + path);
    const here = `${who}: ${path} (${width}, ${colorScheme})`;
    expect(answer.status() === 200, `${here}: ${answer.status()}`);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document));
    for (const { id, help, nodes } of violations) {
      faults.push(`${here}: axe ${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.html).join(" | ")}`);
    }
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(wider <= 0, `${here}: ${wider} px wider than the screen`);
    const title = await page.locator("h1").count();
    expect(title === 1, `${here}: ${title} first headings`);
    if (settings.images && name) {
      await page.screenshot({ path: `${settings.images}/${name}-${width}-${colorScheme}.png`, fullPage: width === "desk" });
    }
  }
  await page.setViewportSize(WIDTHS.desk);
}

/** Everything on a page can be reached and worked by the keyboard: tabbing through it meets each control once. */
async function tabThrough(page, who, path) {
  await page.goto(settings.url + path);
  const controls = await page.evaluate(() =>
    [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, [tabindex='0']")]
      .filter((element) => element.checkVisibility() && !element.disabled).length);
  const met = new Set();
  for (let step = 0; step < controls + 5; step += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const element = document.activeElement;
      if (element === document.body) return null;
      globalThis.met ??= new Map();
      if (!globalThis.met.has(element)) globalThis.met.set(element, globalThis.met.size);
      return globalThis.met.get(element);
    });
    if (at !== null) met.add(at);
  }
  // Of radio buttons of a name one is met.
  const radios = await page.locator("input[type=radio]").count();
  expect(met.size >= controls - radios, `${who}: ${path}: the keyboard meets ${met.size} of ${controls} controls`);
}

for (const task of settings.tasks) {
  const { default: run } = await import(`./browser/${task}.mjs`);
  try {
    await run({ settings, visitor, signIn, look, tabThrough, expect });
  } catch (error) {
    faults.push(error.stack);
    for (const page of browser.contexts().flatMap((context) => context.pages())) {
      faults.push(`the page was ${page.url()}: ${(await page.locator("body").innerText()).slice(0, 2000)}`);
    }
  }
}

await browser.close();
for (const fault of faults) console.log(fault);
process.exit(faults.length === 0 ? 0 : 1);
