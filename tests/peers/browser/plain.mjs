// Lists and forms, without scripts.

export default async function plain({ settings, visitor, signIn, expect }) {
  const page = await visitor("max without scripts", { javaScriptEnabled: false });
  await signIn(page, "max", "/runners?limit=2");
  const main = page.locator("main");

  // A list goes on by its link, and is filtered by its form.
  const first = await page.locator("[data-rows] th a").allInnerTexts();
  await page.getByRole("link", { name: "Older" }).click();
  const second = await page.locator("[data-rows] th a").allInnerTexts();
  expect(first.length === 2 && second.length === 2, `pages of ${first.length} and ${second.length}`);
  expect(!second.some((name) => first.includes(name)), `the second page repeats the first: ${second}`);
  await page.getByLabel("Name contains").fill("ci-005");
  await page.getByRole("button", { name: "Show" }).click();
  expect((await page.locator("[data-rows] th a").allInnerTexts()).join() === "ci-005", "the filter does nothing");

  // The decision comes by a button.
  await page.goto(`${settings.url}/runners/new`);
  await page.getByLabel("Name", { exact: true }).fill("plain");
  await page.getByLabel("Labels", { exact: true }).fill("gpu");
  await page.getByRole("button", { name: "Check" }).click();
  await main.getByText("not permitted by policy").waitFor();
  await page.getByLabel("Labels", { exact: true }).fill("docker");
  await page.getByRole("button", { name: "Create runner" }).click();
  await page.getByRole("heading", { name: /^plain.* is ready to start$/ }).waitFor();
  expect((await page.locator("#shell").innerText()).includes("run.sh"), "no command to paste");

  // One is removed.
  await page.goto(`${settings.url}/runners?q=plain`);
  await page.getByLabel(/^Select plain/).check();
  await page.getByRole("button", { name: "Remove selected…" }).click();
  await page.getByRole("button", { name: "Remove", exact: true }).click();
  await main.getByText("deleted", { exact: true }).first().waitFor();
  await page.context().close();

  const admin = await visitor("ada without scripts", { javaScriptEnabled: false });
  await signIn(admin, "ada", "/audit");
  await admin.getByRole("link", { name: "provisioned", exact: true }).first().click();
  expect(await admin.getByRole("button", { name: "Verify this event in your browser" }).count() === 0, "a button that does nothing");
  await admin.locator("main").getByText("Verify on the command line").waitFor();
  await admin.goto(`${settings.url}/teams/green/edit`);
  await admin.getByLabel(/^Allowed labels/).fill("gpu\ncuda-[0-9]+");
  await admin.getByRole("button", { name: "Preview" }).click();
  await admin.getByRole("button", { name: "Save" }).click();
  await admin.locator("main").getByText("cuda-[0-9]+").first().waitFor();
  await admin.goto(`${settings.url}/jobs?state=queued`);
  await admin.getByRole("link", { name: "train <b>" }).waitFor();
  await admin.context().close();
}
