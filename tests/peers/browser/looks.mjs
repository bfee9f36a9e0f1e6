// Every page, as everybody, at each width and in each theme.

const EVERYBODY = ["/", "/runners", "/runners/ci-004", "/jobs", "/teams", "/audit", "/system"];
const MEMBERS = [...EVERYBODY, "/runners/new", "/teams/blue"];
const ALL = [...EVERYBODY, "/security", "/identities", "/teams/blue"];
const PAGES = { ada: [...ALL.slice(1), "/runners/new", "/new-team", "/teams/blue/edit", "/roles", "/denials", "/"], max: MEMBERS, otto: ALL, tess: ["/", "/runners/new", "/teams"] };

/** What a picture of a page is called; those of the admin are for the documentation. */
function nameOf(who, path) {
  if (who === "tess") return path === "/" ? "no-team" : undefined;
  if (who === "max") return path === "/runners/new" ? "new-runner" : undefined;
  if (who !== "ada" || ["/runners/new", "/denials"].includes(path)) return undefined;
  const name = path === "/" ? "overview" : path.slice(1).replaceAll("/", "-");
  return { "runners-ci-004": "runner", "runners-new": "new-runner", "teams-blue": "team" }[name] ?? name;
}

export default async function looks({ settings, visitor, signIn, look, tabThrough, expect }) {
  const nobody = await visitor("nobody");
  await look(nobody, "nobody", "/sign-in", "sign-in");
  await nobody.context().close();
  for (const [who, paths] of Object.entries(PAGES)) {
    const page = await visitor(who);
    await signIn(page, who, "/teams");
    for (const path of paths) await look(page, who, path, nameOf(who, path));
    for (const path of paths) await tabThrough(page, who, path);
    const event = page.locator("a[href^='/audit/']").first();
    if (who !== "tess") {
      await page.goto(`${settings.url}/audit`);
      const path = await event.getAttribute("href");
      await look(page, who, path, who === "ada" ? "event" : undefined);
    }
    expect(!(await page.title()).includes("taken over"), `${who}: a stored script ran`);
    await page.context().close();
  }
}
