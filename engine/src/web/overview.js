// What this process does -> the page of one node, with or without a cluster.

import {
  ago, ask, badge, cards, compact, count, fill, link, make, notice, span, table,
} from "./dom.js";

const DOWN_SHOWN = 20;

export function overview(main) {
  const notices = make("div");
  const figures = cards();
  const endpoints = table("Where samples are sent", [
    { head: "Endpoint", show: (one) => one.name },
    { head: "URL", class: "break", show: (one) => one.url },
    { head: "Lag", number: true, show: (one) => lag(one.lagMs) },
    { head: "Left in the log", number: true, show: (one) => compact(one.leftSamples) },
    { head: "Caught up in", number: true, show: (one) => left(one) },
    { head: "Waiting", number: true, show: (one) => compact(one.pending) },
    { head: "Sent", number: true, show: (one) => compact(one.sent) },
    { head: "Refused", number: true, show: (one) => bad(one.failed) },
    { head: "Repeated", number: true, show: (one) => compact(one.retried) },
  ]);
  const down = table("Targets of this node whose last scrape failed", [
    { head: "Target", class: "break", show: (one) => link(one.url) },
    { head: "Job", show: (one) => one.job },
    { head: "Last scrape", class: "nowrap", show: (one) => ago(one.health?.lastScrapeMs, now) },
    { head: "Error", class: "error", show: (one) => one.health?.lastError || "" },
  ]);
  let now = 0;
  main.append(notices, figures, make("h2", {}, "Remote write"), endpoints,
    make("h2", {}, "Targets that are down"), down);

  async function refresh() {
    const [view, list] = await Promise.all([
      ask("/api/v1/overview"), ask(`/api/v1/cluster/targets?state=down&limit=${DOWN_SHOWN}`),
    ]);
    now = view.nowMs;
    const failed = Object.entries(view.scrapes).filter(([result]) => result !== "ok");
    const scrapes = Object.values(view.scrapes).reduce((sum, one) => sum + one, 0);
    const failures = failed.reduce((sum, [, one]) => sum + one, 0);
    figures.show([
      ["Targets", count(view.targets), `${count(list.matched)} down`],
      ["Samples per second", compact(view.samplesPerSecond),
        `${compact(view.samplesTotal)} since the start`],
      ["Scrapes", compact(scrapes), `${compact(failures)} failed`],
      ["Missed slots", count(view.slotsMissed), "since the start"],
      ["Samples lost", count(view.samplesLost), "deleted unsent"],
      ["Running for", span(now - view.startedMs),
        `version ${view.version}, ${view.shards} shards`],
    ]);
    endpoints.show(view.endpoints, (one) => one.name, "No remote_write is configured.");
    down.show(list.targets, (one) => one.key, "None.");
    const late = view.endpoints.filter((one) => one.lagMs > 60_000);
    fill(notices, late.map((one) => notice(
      `${one.name} is ${span(one.lagMs)} behind: it is slow or does not answer.`, true)),
    list.matched > DOWN_SHOWN
      ? notice(`${count(list.matched)} targets are down; the first ${DOWN_SHOWN} are shown.`)
      : null);
    return list.thisNode;
  }
  return { refresh, pause_ms: 5000 };
}

function lag(ms) {
  return ms > 60_000 ? badge(span(ms), "bad") : ms > 15_000 ? badge(span(ms), "warn") : span(ms);
}

function left(one) {
  return one.leftSeconds === null ? badge("falls behind", "warn")
    : one.leftSeconds === 0 ? "" : span(one.leftSeconds * 1000);
}

function bad(number) {
  return number > 0 ? badge(compact(number), "bad") : "0";
}
