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

copying(document);
for (const link of document.querySelectorAll("[data-older]")) endless(link);
