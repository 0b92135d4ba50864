// The fleet's targets -> a filtered list, one page at a time, whoever scrapes them.

import { ago, ask, badge, count, fill, labels, link, make, notice, span, table } from "./dom.js";

const LIMIT = 100;
const STATES = ["", "up", "down", "unknown", "unowned", "moving"];
const TONES = { up: "good", down: "bad" };

export function targets(main, refreshNow) {
  const given = new URLSearchParams(location.search);
  let offset = Math.max(0, Number.parseInt(given.get("offset") || "0", 10) || 0);
  let now = 0;
  const search = make("input",
    { type: "search", placeholder: "part of a URL or of a label's value", autocomplete: "off" });
  const [job, node, state] = [make("select"), make("select"), make("select")];
  fill(state, STATES.map((word) => make("option", { value: word }, word || "any")));
  search.value = given.get("search") || "";
  state.value = STATES.includes(given.get("state")) ? given.get("state") : "";
  // Until the lists of jobs and nodes are known, what was asked for stands in them.
  for (const [select, name] of [[job, "job"], [node, "node"]]) {
    const wish = given.get(name) || "";
    fill(select, ["", wish].map((value) => make("option", { value }, value || "any")));
    select.value = wish;
  }
  const form = make("form", { role: "search" },
    make("label", { class: "wide" }, "Search", search), make("label", {}, "Job", job),
    make("label", {}, "Node", node), make("label", {}, "State", state));
  const notices = make("div");
  const shown = make("span", { role: "status" });
  const back = make("button", { type: "button" }, "‹ Previous");
  const on = make("button", { type: "button" }, "Next ›");
  const list = table("Targets", [
    { head: "Target", class: "break", show: (one) => link(one.url) },
    { head: "Health", show: (one) => badge(one.health?.health || "not asked",
      TONES[one.health?.health]) },
    { head: "Job", show: (one) => one.job },
    { head: "Owner", class: "nowrap", show: owner },
    { head: "Labels", class: "break", show: (one) => labels(one.labels) },
    { head: "Last scrape", class: "nowrap", show: (one) => ago(one.health?.lastScrapeMs, now) },
    { head: "Took", number: true, show: (one) =>
      one.health?.lastScrapeMs == null ? "–" : span(one.health.lastDurationS * 1000) },
    { head: "Error", class: "error", show: (one) =>
      (one.health?.health === "down" && one.health.lastError) || "" },
  ]);
  main.append(form, notices, make("div", { class: "pager" }, back, on, shown), list);

  function owner(one) {
    if (!one.owner) {
      return [badge("nobody", "bad"), make("br"), make("small", { class: "quiet" }, one.whyUnowned)];
    }
    if (!one.next) return one.owner;
    return [one.owner, make("br"), make("small", { class: "quiet" },
      `→ ${one.next.owner || "nobody"} ${ago(one.next.fromMs, now)}`)];
  }

  function parameters() {
    const wanted = { search: search.value.trim(), job: job.value, node: node.value,
      state: state.value, offset: offset || "" };
    return new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== ""));
  }

  function changed() {
    offset = 0;
    refreshNow();
  }
  let typing = null;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(changed, 250);
  });
  for (const select of [job, node, state]) select.addEventListener("change", changed);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    changed();
  });
  back.addEventListener("click", () => {
    offset = Math.max(0, offset - LIMIT);
    refreshNow();
  });
  on.addEventListener("click", () => {
    offset += LIMIT;
    refreshNow();
  });

  function choices(select, names) {
    const wish = select.value;
    const all = names.includes(wish) || wish === "" ? names : [...names, wish];
    fill(select, ["", ...all].map((value) => make("option", { value }, value || "any")));
    select.value = wish;
  }

  let nodes = [];
  let rounds = 0;
  async function refresh() {
    const wanted = parameters();
    const text = wanted.toString();
    history.replaceState(null, "", text ? `?${text}` : location.pathname);
    wanted.set("limit", LIMIT);
    wanted.set("scope", "all");
    if (rounds++ % 10 === 0) {
      nodes = (await ask("/api/v1/cluster")).members.map((member) => member.name);
    }
    const view = await ask(`/api/v1/cluster/targets?${wanted}`);
    // What was asked for has changed meanwhile: the next answer is on its way.
    if (parameters().toString() !== text) return view.thisNode;
    now = view.nowMs;
    choices(job, view.jobs.map((one) => one.name));
    choices(node, nodes);
    const last = offset + view.targets.length;
    fill(shown, view.matched === 0 ? `none of ${count(view.total)}`
      : `${count(offset + 1)}–${count(last)} of ${count(view.matched)}`
        + (view.matched < view.total ? ` (${count(view.total)} in all)` : ""));
    back.disabled = offset === 0;
    on.disabled = last >= view.matched;
    list.show(view.targets, (one) => one.key, "No target fits.");
    fill(notices, view.warnings.map((text) => notice(text)));
    if (view.matched > 0 && view.targets.length === 0) changed();
    return view.thisNode;
  }
  return { refresh, pause_ms: 3000 };
}
