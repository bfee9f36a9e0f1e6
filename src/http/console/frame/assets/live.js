// Keeps an open page as things are. The stream says what changed, or that something did; the page's parts are exchanged
// by their ids, and only where they differ, so that focus, ticks and opened details stay.

const PAUSE = 15_000;

/** A page of ours, asked for by nobody's hand. */
async function fetchPage(url) {
  const answer = await fetch(url, { headers: { accept: "text/html", "x-by-itself": "1" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) return null;
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

/** What an element says, but for how long ago things were. */
function said(element) {
  const copy = element.cloneNode(true);
  for (const time of copy.querySelectorAll("time")) time.textContent = "";
  for (const fresh of copy.querySelectorAll(".fresh")) fresh.classList.remove("fresh");
  return copy.innerHTML;
}

/** Exchanges the content of one element; the focus stays on the link or button that leads to the same place. */
function exchange(old, now) {
  if (said(old) === said(now)) return false;
  const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  old.replaceChildren(...now.childNodes);
  if (focused) old.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  return true;
}

/** Takes over the parts of a page, by their ids. */
export function takeParts(page) {
  let changed = false;
  for (const now of page.querySelectorAll("[data-part]")) {
    const old = document.getElementById(now.id);
    if (old && exchange(old, now)) changed = true;
  }
  if (changed) document.dispatchEvent(new Event("parts"));
}

/** Takes over the cells of rows, by the rows' ids; ticks stay. */
function takeRows(page) {
  for (const now of page.querySelectorAll("tr[id]")) {
    const old = document.getElementById(now.id);
    if (!old) continue;
    [...now.cells].forEach((cell, at) => {
      const shown = old.cells[at];
      if (!shown || (cell.classList.contains("tick") && shown.querySelector("input") && cell.querySelector("input"))) return;
      if (exchange(shown, cell)) shown.classList.add("fresh");
    });
  }
}

function inSight(row) {
  const { top, bottom } = row.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

/** Looks again at what this page shows. */
async function lookAgain(host) {
  if (host.dataset.partsFrom) {
    const page = await fetchPage(host.dataset.partsFrom);
    if (page) takeParts(page);
  } else if (host.dataset.rowsFrom) {
    const ids = [...host.querySelectorAll("[data-rows] > tr[id]")].filter(inSight).slice(0, 100);
    if (ids.length === 0) return;
    const query = new URLSearchParams(ids.map((row) => ["id", row.id.replace(/^r-/, "")]));
    const page = await fetchPage(`${host.dataset.rowsFrom}?${query}`);
    if (page) takeRows(page);
  }
}

export function watch(host) {
  const state = document.querySelector("[data-live-state]");
  const say = (text) => { if (state) { state.hidden = false; state.textContent = text; } };
  let stream = null;
  let wasLost = false;

  function open() {
    if (stream || document.hidden) return;
    stream = new EventSource(host.dataset.events);
    stream.addEventListener("open", () => {
      say("Updates by itself");
      if (wasLost) lookAgain(host);
      wasLost = false;
    });
    stream.addEventListener("parts", (event) => takeParts(new DOMParser().parseFromString(event.data, "text/html")));
    stream.addEventListener("look", () => lookAgain(host));
    stream.addEventListener("error", () => {
      wasLost = true;
      if (stream?.readyState !== EventSource.CLOSED) return say("Connection lost; trying again …");
      // Signed out, or too many pages are open: no more tries of the browser's own.
      say("No updates: load the page again");
      close();
      setTimeout(open, PAUSE);
    });
  }

  function close() {
    stream?.close();
    stream = null;
  }

  // A browser has six connections to a host, and pages in the background need none.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      wasLost = true;
      close();
    } else {
      open();
    }
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  // Whether a runner is busy is no event.
  setInterval(() => { if (!document.hidden && stream) lookAgain(host); }, PAUSE);
  open();
}
