// The members as this node knows them -> who is there, who scrapes how much, what moved.

import {
  ago, ask, badge, cards, compact, count, fill, link, make, notice, percent, span, table,
} from "./dom.js";

const TONES = {
  participant: "good", draining: "warn", suspect: "warn", dead: "bad",
};
const SKEW_MS_BAD = 500;

export function cluster(main) {
  let now = 0;
  const notices = make("div");
  const figures = cards();
  const members = table("Members, as this node knows them", [
    { head: "Node", show: (one) => [address(one), one.isSelf ? " (this node)" : null] },
    { head: "State", show: (one) => [badge(one.state, TONES[one.state]),
      one.deadSinceMs == null ? null : make("small", { class: "quiet" },
        ` ${ago(one.deadSinceMs, now)}, by ${one.accusedBy}`)] },
    { head: "Ring", class: "nowrap", show: (one) => [
      make("progress", { max: 1, value: one.ringShare, "aria-label": `ring share of ${one.name}` }),
      percent(one.ringShare)] },
    { head: "Targets", number: true, show: (one) => count(one.targets) },
    { head: "Samples/s", number: true, show: (one) => compact(one.samplesPerSecond) },
    { head: "Weight", number: true, show: (one) => one.weight },
    { head: "Zone", show: (one) => one.zone || "–" },
    { head: "Next change", class: "nowrap", show: change },
    { head: "Heard", class: "nowrap", show: (one) => one.isSelf ? "–" : ago(one.lastContactMs, now) },
    { head: "Clock", number: true, show: skew },
    { head: "Gossip", class: "nowrap", show: (one) => one.gossipAddress || "–" },
    { head: "Release", show: (one) => one.software || "–" },
  ]);
  const moves = table("Changes of the last hour", [
    { head: "When", class: "nowrap", show: (one) => ago(one.atMs, now) },
    { head: "What", show: (one) => one.cause },
    { head: "Nodes", show: (one) => one.nodes.join(", ") },
    { head: "Targets moved", number: true, show: (one) => count(one.targets) },
    { head: "From → to", class: "break", show: (one) => one.flows.map((flow) =>
      `${flow.from || "nobody"} → ${flow.to || "nobody"}: ${count(flow.targets)}`).join("; ") },
  ]);
  const drift = make("div");
  const [finder, leaver] = [ownerForm(), whatIfForm()];
  main.append(notices, figures, make("h2", {}, "Members"), members,
    make("h2", {}, "Who scrapes a target?"), finder,
    make("h2", {}, "What if a node leaves?"), leaver.node,
    make("h2", {}, "Moves"), moves, drift);

  function address(one) {
    const isAddress = /^[A-Za-z0-9.\-:[\]]+$/.test(one.httpAddress);
    return isAddress && !one.isSelf ? link(`${location.protocol}//${one.httpAddress}/cluster`, one.name) : one.name;
  }

  function change(one) {
    if (!one.nextChange) return "–";
    const { what, atMs, isAgreed } = one.nextChange;
    return [`${what || "change"} ${ago(atMs, now)} `,
      badge(isAgreed ? "agreed" : "being agreed", isAgreed ? "good" : null)];
  }

  function skew(one) {
    if (one.clockSkewMs == null) return "–";
    const text = span(one.clockSkewMs);
    return Math.abs(one.clockSkewMs) > SKEW_MS_BAD ? badge(text, "warn") : text;
  }

  function warnings(view) {
    const list = [];
    if (!view.enabled) {
      list.push(notice("This node runs without a cluster: it scrapes all of its targets. "
        + "Start nodes with --cluster.enabled to share them."));
    }
    if (view.isIsolated) {
      list.push(notice("This node sees less than half of the members of the last hour: it keeps "
        + "its share and takes over nothing. Look at the network between the nodes.", true));
    }
    if (view.isStandingStill) {
      list.push(notice("This node stood still and scrapes nothing until a peer answers.", true));
    }
    if (view.waitsFor) list.push(notice(`Before it scrapes, this node waits for ${view.waitsFor}.`));
    if (view.targetsUnowned > 0) {
      list.push(notice(`${count(view.targetsUnowned)} targets are scraped by nobody.`, true));
    }
    if (view.drift.length > 0) {
      list.push(notice("Members have different settings of these jobs: "
        + view.drift.map((one) => one.job).join(", "), true));
    }
    return [...list, ...view.warnings.map((text) => notice(text))];
  }

  function showDrift(view) {
    if (view.drift.length === 0) return fill(drift);
    fill(drift, make("h2", {}, "Jobs whose settings differ"), view.drift.map((one) =>
      make("p", {}, make("strong", {}, one.job), one.versions.map((version) => make("span", {},
        make("br"), badge(version.isInForce ? "in force" : "owns nothing",
          version.isInForce ? "good" : "bad"),
        ` ${version.configHash || "does not have it"}: ${version.nodes.join(", ")}`)))));
  }

  async function refresh() {
    const view = await ask("/api/v1/cluster?scope=all");
    now = view.nowMs;
    fill(notices, warnings(view));
    const alive = view.members.filter((one) => !["dead", "terminating"].includes(one.state));
    const rates = view.members.map((one) => one.samplesPerSecond).filter((one) => one != null);
    figures.show([
      ["Members", count(alive.length), view.minimumSize > 0
        ? `${view.minimumSize} wanted` : `${view.members.length - alive.length} gone`],
      ["Targets", count(view.targets), `${count(view.targetsUnowned)} unowned`
        + (view.targetsRefused ? `, ${count(view.targetsRefused)} for lack of room` : "")],
      ["Samples per second", compact(rates.reduce((sum, one) => sum + one, 0)),
        `of ${rates.length} nodes`],
      ["Targets moved", count(view.moves.reduce((sum, one) => sum + one.targets, 0)),
        "in the last hour"],
      ["Cluster", view.name || "unnamed",
        view.foundedMs == null ? null : `founded ${ago(view.foundedMs, now)}`],
    ]);
    members.show(view.members, (one) => one.name, "Nobody.");
    moves.show(view.moves, (one) => one.atMs, "Nothing moved.");
    showDrift(view);
    leaver.choices(view.members.filter((one) => one.ringShare > 0).map((one) => one.name));
    return view.thisNode;
  }
  return { refresh, pause_ms: 2000 };
}

/** Runs a question of the reader's and shows its answer, or why there is none. */
async function answered(place, question) {
  fill(place, make("p", { class: "quiet" }, "…"));
  try {
    fill(place, await question());
  } catch (error) {
    fill(place, notice(error.message, true));
  }
}

function ownerForm() {
  const input = make("input", { type: "search", autocomplete: "off",
    placeholder: "URL, instance, key, or job=node,instance=10.0.0.1:9100" });
  const answer = make("div", { "aria-live": "polite" });
  const form = make("form", {}, make("label", { class: "wide" }, "Target", input),
    make("button", {}, "Find"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    answered(answer, async () => {
      const view = await ask(`/api/v1/cluster/owner?${new URLSearchParams({ target: input.value })}`);
      const list = table(`Targets that fit: ${count(view.matched)}`, [
        { head: "Target", class: "break", show: (one) => link(one.url) },
        { head: "Job", show: (one) => one.job },
        { head: "Owner", show: (one) => one.owner || badge("nobody", "bad") },
        { head: "Since", class: "nowrap", show: (one) => one.sinceMs == null
          ? "as long as is known"
          : `${ago(one.sinceMs, view.nowMs)}, before: ${one.before || "nobody"}` },
        { head: "Next", class: "nowrap", show: (one) => one.next
          ? `${one.next.owner || "nobody"} ${ago(one.next.fromMs, view.nowMs)}` : "–" },
        { head: "Why", class: "break", show: (one) => one.why },
      ]);
      list.show(view.owners, (one) => one.key, "None.");
      return list;
    });
  });
  return make("div", {}, form, answer);
}

function whatIfForm() {
  const select = make("select");
  const answer = make("div", { "aria-live": "polite" });
  const button = make("button", {}, "Show");
  const form = make("form", {}, make("label", {}, "Node", select), button);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    answered(answer, async () => {
      const view = await ask(
        `/api/v1/cluster/what-if?${new URLSearchParams({ leave: select.value })}`);
      const list = table(`If ${view.leave} leaves, ${count(view.moved)} of ${count(view.targets)} `
        + `targets move and ${count(view.unowned)} are scraped by nobody.`, [
        { head: "Node", show: (one) => one.name },
        { head: "Targets now", number: true, show: (one) => count(one.before) },
        { head: "Then", number: true, show: (one) => count(one.after) },
        { head: "Difference", number: true, show: (one) => count(one.after - one.before) },
      ]);
      list.show(view.nodes, (one) => one.name, "None.");
      return list;
    });
  });
  function choices(names) {
    const wish = select.value;
    fill(select, names.map((name) => make("option", { value: name }, name)));
    if (names.includes(wish)) select.value = wish;
    button.disabled = names.length === 0;
  }
  return { node: make("div", {}, form, answer), choices };
}
