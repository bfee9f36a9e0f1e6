// Shows the decision of the policy while the form for a new runner is being filled in.

import { takeParts } from "./live.js";

const DEBOUNCE = 400;

export function decide(form) {
  let timer = 0;
  let asked = 0;

  async function check() {
    const own = (asked += 1);
    const body = new URLSearchParams(new FormData(form));
    if (!body.get("name")) return;
    const answer = await fetch(form.dataset.decide, { method: "POST", body, headers: { accept: "text/html" } }).catch(() => null);
    if (!answer?.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    // Unless a newer request was sent meanwhile.
    if (own === asked) takeParts(page);
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(check, DEBOUNCE);
  }

  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  form.addEventListener("submit", () => {
    asked += 1;
    clearTimeout(timer);
  });

  // Shows the permissions of the selected team only.
  const team = form.querySelector("select[name=team]");
  const rules = document.querySelectorAll("[data-team]");
  const choose = () => { for (const of of rules) of.hidden = of.dataset.team !== team.value; };
  if (team) {
    team.addEventListener("change", choose);
    choose();
  }
}
