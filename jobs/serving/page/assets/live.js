// Refreshes what is marked data-live, every few seconds, from the page's own address. Without it all else works.
"use strict";

const EVERY_MS = 5000;

function refreshed(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(old.id);
    if (now === null || old.innerHTML === now.innerHTML || old.contains(document.activeElement)) continue;
    const open = [...old.querySelectorAll("details")].map((details) => details.open);
    now.querySelectorAll("details").forEach((details, number) => { details.open = open[number] === true; });
    old.innerHTML = now.innerHTML;
  }
}

function begin() {
  const button = document.createElement("button");
  const note = document.getElementById("made");
  let runs = true;
  button.type = "button";
  button.className = "quiet";
  button.textContent = "Pause refreshing";
  button.addEventListener("click", () => {
    runs = !runs;
    button.textContent = runs ? "Pause refreshing" : "Refresh by itself";
  });
  note.after(button);
  setInterval(async () => {
    if (!runs || document.hidden) return;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.ok && !answer.redirected) refreshed(await answer.text());
      else note.textContent = "The service does not answer: this page is not fresh.";
    } catch {
      note.textContent = "The service does not answer: this page is not fresh.";
    }
  }, EVERY_MS);
}

if (document.querySelector("[data-live]") !== null) begin();
