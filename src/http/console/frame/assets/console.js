// What pages gain where scripts run; all of them work without.

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
        // No permission, or no TLS: select it, so that the keyboard can.
        getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
        button.textContent = "Selected: press Ctrl+C";
      }
      setTimeout(() => { button.textContent = label; }, 2000);
    });
  }
}

/** A list whose next page is fetched when its link comes into sight. */
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

/** Times go on while a page is open: in the words of the server. */
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

function tellTimes() {
  for (const time of document.querySelectorAll("time[title]")) {
    const text = ago(Date.parse(time.dateTime));
    if (text && text !== time.textContent) time.textContent = text;
  }
}

/** A box that ticks all of its form. */
function tickingAll(label) {
  label.hidden = false;
  const box = label.querySelector("input");
  const ticks = () => label.closest("[data-rows-from]").querySelectorAll("td.tick input");
  box.addEventListener("change", () => { for (const one of ticks()) one.checked = box.checked; });
}

/** A form that a second click does not send again. */
function once(form) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
  // Back from where it led.
  addEventListener("pageshow", () => { delete form.dataset.sent; });
}

copying(document);
setInterval(tellTimes, 10_000);
for (const label of document.querySelectorAll("[data-tick-all]")) tickingAll(label);
for (const form of document.querySelectorAll("form[data-once]")) once(form);
for (const host of document.querySelectorAll("[data-events]")) import("./live.js").then(({ watch }) => watch(host));
for (const box of document.querySelectorAll("[data-chart]")) import("./chart.js").then(({ draw }) => draw(box));
for (const form of document.querySelectorAll("[data-decide]")) import("./new-runner.js").then(({ decide }) => decide(form));
for (const link of document.querySelectorAll("[data-older]")) endless(link);
