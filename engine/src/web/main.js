// The address -> one of the pages, asked anew as long as somebody looks at it.

import { cluster } from "./cluster.js";
import { configs } from "./configs.js";
import { make } from "./dom.js";
import { overview } from "./overview.js";
import { targets } from "./targets.js";

const pages = {
  "/cluster": ["Cluster", cluster], "/targets": ["Targets", targets],
  "/configs": ["Configurations", configs],
};
const [title, build] = pages[location.pathname] || ["Overview", overview];
const main = document.getElementById("main");
const live = document.getElementById("live");

document.title = `${title} · ringscrape`;
for (const link of document.querySelectorAll("nav a")) {
  const here = link.pathname === (pages[location.pathname] ? location.pathname : "/");
  if (here) link.setAttribute("aria-current", "page");
}
main.replaceChildren(make("h1", {}, title));

let timer = null;
let isAsking = false;
let isWanted = false;
let failures = 0;

/** Asks now, and again after the page's pause; at most one question is under way. */
async function refresh() {
  clearTimeout(timer);
  if (isAsking) {
    isWanted = true;
    return;
  }
  isAsking = true;
  try {
    const node = await page.refresh();
    failures = 0;
    say(true, "live");
    if (node) document.getElementById("node").textContent = node;
  } catch (error) {
    failures += 1;
    say(false, `no answer: ${error.message}`);
  }
  isAsking = false;
  const pause = isWanted ? 0 : page.pause_ms * Math.min(8, 2 ** failures);
  isWanted = false;
  if (!document.hidden) timer = setTimeout(refresh, pause);
}

function say(isLive, text) {
  if (live.textContent !== text) live.textContent = text;
  live.classList.toggle("off", !isLive);
}

const page = build(main, refresh);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
refresh();
