// What scripts add to the pages; every page works without them.

/** Buttons that copy the text of the element they name. */
function copying(root) {
  for (const button of root.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy).textContent;
      const label = button.textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        // No permission, or no TLS: select the text for the keyboard.
        getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
        button.textContent = "Selected: press Ctrl+C";
      }
      setTimeout(() => { button.textContent = label; }, 2000);
    });
  }
}

/** Fetches the next page of a list when its link scrolls into view. */
function endless(link) {
  const seen = new IntersectionObserver(async (entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    const answer = await fetch(link.href, { headers: { accept: "text/html" } }).catch(() => null);
    // Signed out, or away: the link is still there to be followed.
    if (!answer?.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const rows = page.querySelectorAll("[data-rows] > *");
    document.querySelector("[data-rows]")?.append(...rows);
    const next = page.querySelector("[data-older]");
    if (next) {
      link.href = next.getAttribute("href");
      endless(link);
    } else {
      link.parentElement.remove();
    }
  }, { rootMargin: "400px" });
  seen.observe(link);
}

/** A relative time, in the same words as the server writes it. */
function ago(at) {
  const apart = Math.round((Date.now() - at) / 1000);
  const seconds = Math.abs(apart);
  const units = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [14 * 86400, 86400, "d"]];
  const unit = units.find(([below]) => seconds < below);
  if (!unit) return null;
  if (seconds < 1) return "now";
  const number = `${Math.floor(seconds / unit[1])} ${unit[2]}`;
  return apart >= 0 ? `${number} ago` : `in ${number}`;
}

function updateTimes() {
  for (const time of document.querySelectorAll("time[title]")) {
    const text = ago(Date.parse(time.dateTime));
    if (text && text !== time.textContent) time.textContent = text;
  }
}

/** A checkbox that selects all rows of its list. */
function selectAll(label) {
  label.hidden = false;
  const box = label.querySelector("input");
  const ticks = () => label.closest("[data-rows-from]").querySelectorAll("td.tick input");
  box.addEventListener("change", () => { for (const one of ticks()) one.checked = box.checked; });
}

/** Keeps a second click from sending a form again. */
function once(form) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
  // After a return to this page.
  addEventListener("pageshow", () => { delete form.dataset.sent; });
}

copying(document);
setInterval(updateTimes, 10_000);
for (const label of document.querySelectorAll("[data-tick-all]")) selectAll(label);
for (const form of document.querySelectorAll("form[data-once]")) once(form);
for (const host of document.querySelectorAll("[data-events]")) import("./live.js").then(({ watch }) => watch(host));
for (const box of document.querySelectorAll("[data-chart]")) import("./chart.js").then(({ draw }) => draw(box));
for (const form of document.querySelectorAll("[data-decide]")) import("./new-runner.js").then(({ decide }) => decide(form));
for (const link of document.querySelectorAll("[data-older]")) endless(link);
