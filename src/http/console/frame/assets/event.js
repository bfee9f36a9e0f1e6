// The button on an event's page that verifies its proof here, in the browser.

import { steps } from "./verify.js";

const button = document.getElementById("verify");
const list = document.getElementById("steps");
const verdict = document.getElementById("verdict");

/** The fields as the page shows them: the proof covers exactly these. */
function shown() {
  const fields = {};
  for (const element of document.querySelectorAll("[data-field]")) {
    const text = "null" in element.dataset ? null : element.textContent;
    fields[element.dataset.field] = element.dataset.field === "success" && text !== null ? text === "true" : text;
  }
  return fields;
}

async function proof() {
  const answer = await fetch(button.dataset.proof, { headers: { accept: "application/json" } });
  if (answer.redirected) throw new Error("your session has ended: reload this page");
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail ?? `the broker answered ${answer.status}`);
  return body;
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function show(step) {
  const item = document.createElement("li");
  const word = { ok: "ok", warning: "not checked", fault: "failed" }[step.state];
  item.append(element("span", `badge ${step.state}`, word), ` ${step.what}: `, element("code", "", step.detail));
  list.append(item);
}

function conclude(state, text) {
  verdict.className = `notice ${{ ok: "done" }[state] ?? state}`;
  verdict.textContent = text;
  verdict.hidden = false;
}

async function verify() {
  list.replaceChildren();
  list.hidden = false;
  verdict.hidden = true;
  if (!globalThis.crypto?.subtle) {
    return conclude("warning", "Browsers can verify events on pages with TLS only: use the command line below.");
  }
  const states = [];
  for await (const step of steps(shown(), await proof(), document.getElementById("vkey").value)) {
    show(step);
    states.push(step.state);
  }
  if (states.includes("fault")) conclude("fault", "Verification FAILED: the event or its proof was changed.");
  else if (states.includes("warning")) conclude("warning", "The event is in the tree of the checkpoint, but the signature of the checkpoint was not verified.");
  else conclude("ok", "Verified: this event is in the log that this key signed.");
}

// An event that is not sealed yet has no button.
if (button) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await verify();
    } catch (error) {
      conclude("fault", `Could not verify the event: ${error.message}`);
    }
    button.disabled = false;
  });
}
