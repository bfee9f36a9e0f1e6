// Each page's main task, by who does it, with scripts.

/** What a program asks for meanwhile. */
async function provision(settings, name) {
  const answer = await fetch(`${settings.url}/api/v1/runners/jit`, {
    method: "POST",
    headers: { authorization: `Bearer ${settings.token}`, "content-type": "application/json" },
    body: JSON.stringify({ runner_name: name }),
  });
  if (answer.status !== 201) throw new Error(await answer.text());
}

async function member({ settings, visitor, signIn, expect }) {
  const page = await visitor("max", { permissions: ["clipboard-read", "clipboard-write"] });
  await signIn(page, "max", "/runners/new");
  const main = page.locator("main");

  // New runner: what is allowed shows as one types, then the command, once.
  await page.getByLabel("Name", { exact: true }).fill("browser");
  await page.getByLabel("Add a unique suffix").uncheck();
  await page.getByLabel("Labels", { exact: true }).fill("gpu");
  await page.locator("#decision").getByText("not permitted by policy").waitFor();
  await page.getByLabel("Labels", { exact: true }).fill("docker");
  await page.locator("#decision").getByText("not permitted by policy").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Create runner" }).click();
  await page.getByRole("heading", { name: "browser is ready to start" }).waitFor();
  const command = await page.locator("#shell").innerText();
  expect(command.includes("run.sh"), `max: no command to paste: ${command}`);
  await page.locator("[data-copy=shell]").click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  expect(copied.trim() === command.trim(), "max: what is copied is not what is shown");
  expect(await page.locator("#container").count() === 1, "max: nothing for a container");
  expect(await page.locator("#kubernetes").count() === 1, "max: nothing for Kubernetes");
  await page.getByRole("link", { name: "View runner" }).click();

  // A runner: its life, then it is removed.
  await page.getByRole("heading", { level: 1, name: "browser" }).waitFor();
  await main.getByText("Credential issued").waitFor();
  const own = page.url();
  expect(!(await page.content()).includes(command.slice(0, 40)), "max: the credential is shown again");

  // The overview and the list follow by themselves.
  await page.goto(`${settings.url}/`);
  const before = await page.locator("main").innerText();
  await provision(settings, "meanwhile");
  await page.waitForFunction((was) => document.querySelector("main").innerText !== was, before);
  await page.goto(`${settings.url}/runners?q=meanwhile`);
  await page.getByRole("link", { name: "meanwhile" }).waitFor();
  expect(await page.getByRole("link", { name: "ci-001" }).count() === 0, "max: the filter lets others through");

  await page.goto(own);
  await page.getByRole("link", { name: /^Remove/ }).or(page.getByRole("button", { name: /^Remove/ })).first().click();
  await page.getByRole("heading", { name: "Remove browser?" }).waitFor();
  await page.getByRole("button", { name: "Remove", exact: true }).click();
  await page.getByRole("heading", { name: "Runners removed" }).waitFor();
  await main.getByText("deleted", { exact: true }).first().waitFor();

  // Jobs: which waits for a runner that is not there.
  await page.goto(`${settings.url}/jobs?state=queued`);
  await main.getByText(/no live runner/).first().waitFor();

  // Teams: only their own, without buttons.
  await page.goto(`${settings.url}/teams`);
  await page.getByRole("link", { name: "blue" }).click();
  await page.getByRole("heading", { level: 1, name: /blue/ }).waitFor();
  expect(await page.getByRole("link", { name: /^Edit/ }).count() === 0, "max: may edit the team");
  await page.context().close();
}

async function admin({ settings, visitor, signIn, expect }) {
  const page = await visitor("ada");
  await signIn(page, "ada", "/runners?q=ci-00&status=pending");
  const main = page.locator("main");

  // Many runners go, with a comment.
  for (const name of ["ci-001", "ci-002"]) await page.getByLabel(`Select ${name}`).check();
  await page.getByRole("button", { name: "Remove selected…" }).click();
  await page.getByRole("heading", { name: "Remove 2 runners?" }).waitFor();
  await page.getByLabel("Comment for the audit log").fill("made by mistake this morning");
  await page.getByRole("button", { name: "Remove", exact: true }).click();
  await page.getByText("2 runners removed.").waitFor();

  // A team is edited, with a preview of what changes for whom.
  await page.goto(`${settings.url}/teams/blue/edit`);
  await page.getByLabel(/^Max. live runners/).fill("7");
  await page.getByRole("button", { name: "Preview" }).click();
  await page.getByRole("heading", { name: "Changes" }).waitFor();
  await main.getByText(/max_runners: 50 → 7/).waitFor();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("heading", { level: 1, name: /^(Team )?blue/ }).waitFor();
  await main.getByText(/of 7/).first().waitFor();

  // An event is verified in the browser.
  await page.goto(`${settings.url}/audit?event_type=team_updated`);
  await page.getByRole("link", { name: "team updated" }).first().click();
  await page.getByRole("heading", { level: 1, name: /team updated/ }).waitFor();
  const button = page.getByRole("button", { name: "Verify this event in your browser" });
  for (let tries = 0; tries < 40 && await button.count() === 0; tries += 1) {
    await page.waitForTimeout(500);
    await page.reload();
  }
  await button.click();
  await page.locator("#verdict").waitFor();
  const verdict = await page.locator("#verdict").innerText();
  expect(verdict.startsWith("Verified"), `ada: the event is not verified: ${verdict} ${await page.locator("#steps").innerText()}`);
  // The same with a field that somebody changed on the way.
  await page.evaluate(() => { document.querySelector("[data-field=user_identity]").textContent = "somebody else"; });
  await button.click();
  await page.getByText("Verification FAILED").waitFor();

  // Security, and the system's health.
  await page.goto(`${settings.url}/security`);
  await page.getByRole("link", { name: "label policy violation" }).first().waitFor();
  await page.goto(`${settings.url}/system`);
  await main.getByText("Postgres").first().waitFor();
  expect(!(await page.content()).includes("console-secret"), "ada: the system's page shows a secret");

  // Somebody is deactivated, and the session with them.
  const max = await visitor("max again");
  await signIn(max, "max");
  max.isKeptOut = true;
  await page.goto(`${settings.url}/identities?q=max`);
  await page.getByRole("link", { name: "Deactivate…" }).click();
  await page.getByLabel(/^Comment/).fill("left the company today");
  await page.getByRole("button", { name: "Deactivate" }).click();
  await main.locator(".badge", { hasText: "deactivated" }).waitFor();
  await max.goto(`${settings.url}/runners`);
  expect(await max.getByRole("heading", { level: 1, name: "Runners" }).count() === 0, "max: still sees runners");
  await max.context().close();

  // Signed out is signed out.
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByText("You are signed out here").waitFor();
  await page.goto(`${settings.url}/runners`);
  expect(page.url().includes("/sign-in"), `ada: after signing out at ${page.url()}`);
  await page.context().close();
}

async function auditor({ settings, visitor, signIn, expect }) {
  const page = await visitor("otto");
  await signIn(page, "otto", "/audit");
  for (const path of ["/runners", "/runners/ci-005", "/teams", "/teams/blue", "/identities"]) {
    await page.goto(settings.url + path);
    const offered = await page.locator("main form[method=post]").count();
    expect(offered === 0, `otto: ${path} offers ${offered} changes`);
  }
  await page.goto(`${settings.url}/audit`);
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: /JSON/i }).or(page.getByRole("button", { name: /JSON/i })).first().click(),
  ]);
  const stream = await download.createReadStream();
  let text = "";
  for await (const chunk of stream) text += chunk;
  expect(text.includes("provisioned"), "otto: the export holds no event");
  await page.context().close();
}

async function teamless({ settings, visitor, signIn, expect }) {
  const page = await visitor("tess");
  await signIn(page, "tess", "/");
  await page.getByRole("heading", { name: "You are in no team yet" }).waitFor();
  const member = await page.locator("#member").innerText();
  expect(member.includes("[[team.member]]") && member.includes("sales"), `tess: nothing to send along: ${member}`);
  await page.context().close();
}

export default async function tasks(hands) {
  await member(hands);
  await auditor(hands);
  await teamless(hands);
  await admin(hands);
}
