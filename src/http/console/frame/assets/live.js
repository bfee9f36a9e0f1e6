// Keeps an open page up to date. The stream sends changed parts, or says that something changed. Parts are replaced by
// id, and only where they differ, so that focus, ticks and opened details are kept.

const RETRY_AFTER = 15_000;

/** Fetches a page of ours; the header says that no person asked for it. */
async function fetchPage(url) {
  const answer = await fetch(url, { headers: { accept: "text/html", "x-by-itself": "1" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) return null;
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

/** The content of an element without relative times. */
function contentOf(element) {
  const copy = element.cloneNode(true);
  for (const time of copy.querySelectorAll("time")) time.textContent = "";
  for (const fresh of copy.querySelectorAll(".fresh")) fresh.classList.remove("fresh");
  return copy.innerHTML;
}

/** Replaces the content of one element; the focus stays on the link with the same address. */
function replace(old, now) {
  if (contentOf(old) === contentOf(now)) return false;
  const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  old.replaceChildren(...now.childNodes);
  if (focused) old.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  return true;
}

/** Replaces the parts of this page by those of `page`, by id. */
export function takeParts(page) {
  let changed = false;
  for (const now of page.querySelectorAll("[data-part]")) {
    const old = document.getElementById(now.id);
    if (old && replace(old, now)) changed = true;
  }
  if (changed) document.dispatchEvent(new Event("parts"));
}

/** Replaces the cells of rows, by the id of the row; ticks are kept. */
function takeRows(page) {
  for (const now of page.querySelectorAll("tr[id]")) {
    const old = document.getElementById(now.id);
    if (!old) continue;
    [...now.cells].forEach((cell, at) => {
      const shown = old.cells[at];
      if (!shown || (cell.classList.contains("tick") && shown.querySelector("input") && cell.querySelector("input"))) return;
      if (replace(shown, cell)) shown.classList.add("fresh");
    });
  }
}

function isVisible(row) {
  const { top, bottom } = row.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

/** Fetches again what this page shows. */
async function refresh(host) {
  if (host.dataset.partsFrom) {
    const page = await fetchPage(host.dataset.partsFrom);
    if (page) takeParts(page);
  } else if (host.dataset.rowsFrom) {
    const ids = [...host.querySelectorAll("[data-rows] > tr[id]")].filter(isVisible).slice(0, 100);
    if (ids.length === 0) return;
    const query = new URLSearchParams(ids.map((row) => ["id", row.id.replace(/^r-/, "")]));
    const page = await fetchPage(`${host.dataset.rowsFrom}?${query}`);
    if (page) takeRows(page);
  }
}

export function watch(host) {
  const state = document.querySelector("[data-live-state]");
  const showState = (text) => { if (state) { state.hidden = false; state.textContent = text; } };
  let stream = null;
  let wasLost = false;

  function open() {
    if (stream || document.hidden) return;
    stream = new EventSource(host.dataset.events);
    stream.addEventListener("open", () => {
      showState("Live");
      if (wasLost) refresh(host);
      wasLost = false;
    });
    stream.addEventListener("parts", (event) => takeParts(new DOMParser().parseFromString(event.data, "text/html")));
    stream.addEventListener("look", () => refresh(host));
    stream.addEventListener("error", () => {
      wasLost = true;
      if (stream?.readyState !== EventSource.CLOSED) return showState("Reconnecting…");
      // Signed out, or too many open pages: the browser does not try again by itself.
      showState("No live updates: reload the page");
      close();
      setTimeout(open, RETRY_AFTER);
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
  // No event says whether a runner is busy.
  setInterval(() => { if (!document.hidden && stream) refresh(host); }, RETRY_AFTER);
  open();
}
