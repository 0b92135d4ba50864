// The stored configurations -> which run, where, at which revision, and what is wrong with them.

import { ago, ask, badge, cards, count, fill, make, notice, table } from "./dom.js";

const LIMIT = 100;

export function configs(main, refreshNow) {
  let now = 0;
  // The last names of the pages before this one.
  let pages = [];
  let next = null;
  const notices = make("div");
  const figures = cards();
  const search = make("input", { type: "search", autocomplete: "off",
    placeholder: "part of a name or of an owner" });
  search.value = new URLSearchParams(location.search).get("search") || "";
  const form = make("form", { role: "search" }, make("label", { class: "wide" }, "Search", search));
  const shown = make("span", { role: "status" });
  const back = make("button", { type: "button" }, "‹ Previous");
  const on = make("button", { type: "button" }, "Next ›");
  const login = tokenForm(refreshNow);
  const list = table("Stored configurations", [
    { head: "Name", show: (one) => one.name },
    { head: "Status", show: state },
    { head: "Error", class: "error break", show: (one) =>
      [...(one.status?.refusals || []), one.status?.last_error].filter(Boolean).join("; ") },
    { head: "Revision", number: true, show: (one) => one.revision },
    { head: "Targets", number: true, show: (one) => count(one.status?.targets) },
    { head: "Up", number: true, show: (one) => count(one.status?.up) },
    { head: "Down", number: true, show: (one) => one.status?.down > 0
      ? badge(count(one.status.down), "bad") : count(one.status?.down) },
    { head: "Owners", show: owners },
    { head: "Applied", show: applied },
    { head: "Running since", class: "nowrap", show: (one) => ago(one.status?.since_ms, now) },
    { head: "Managed by", show: (one) => one.managed_by || "–" },
    { head: "Changed", class: "nowrap", show: (one) => one.changed_ms > 0
      ? [ago(one.changed_ms, now), make("br"),
        make("small", { class: "quiet" }, `by ${one.changed_by || "unknown"}`)] : "–" },
  ]);
  main.append(login, notices, figures, make("h2", {}, "In the store"), form,
    make("div", { class: "pager" }, back, on, shown), list);

  function state(one) {
    if (!one.status) return badge("not taken over yet");
    if (one.status.refusals.length > 0) {
      return badge(one.status.is_running ? "refused by some" : "refused", "bad");
    }
    return one.status.down > 0 ? badge("running", "warn") : badge("running", "good");
  }

  function owners(one) {
    const nodes = Object.entries(one.status?.owners || {});
    return nodes.map(([node, targets]) => `${node}: ${count(targets)}`).join(", ") || "–";
  }

  /** Nodes that have this revision are counted, others are named. */
  function applied(one) {
    const nodes = Object.entries(one.status?.applied || {});
    const behind = nodes.filter(([, has]) => has.revision !== one.revision);
    const text = `${nodes.length - behind.length} of ${nodes.length} nodes`;
    return [text, ...behind.map(([node, has]) => make("small", { class: "quiet" },
      make("br"), `${node}: ${has.revision ?? "none"}${has.error ? `, ${has.error}` : ""}`))];
  }

  function changed() {
    pages = [];
    refreshNow();
  }
  let typing = null;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(changed, 250);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    changed();
  });
  back.addEventListener("click", () => {
    pages.pop();
    refreshNow();
  });
  on.addEventListener("click", () => {
    if (next == null) return;
    pages.push(next);
    refreshNow();
  });

  async function refresh() {
    const wanted = new URLSearchParams({ status: true, stale: true, limit: LIMIT });
    const text = search.value.trim();
    history.replaceState(null, "", text ? `?${new URLSearchParams({ search: text })}`
      : location.pathname);
    if (text) wanted.set("search", text);
    if (pages.length > 0) wanted.set("after", pages.at(-1));
    let view = null;
    try {
      view = await ask(`/agent/api/v1/configs?${wanted}`);
    } catch (error) {
      login.hidden = error.status !== 401;
      if (error.status !== 404) throw error;
      fill(notices, notice("The scraping service is off: there is no scraping_service block in "
        + "the configuration file, or it is not enabled."));
      return undefined;
    }
    login.hidden = true;
    now = Date.now();
    next = view.next ?? null;
    const items = view.items;
    const refused = items.filter((one) => one.status?.refusals.length > 0).length;
    figures.show([
      ["Configurations", count(view.total), text ? "that fit" : "in the store"],
      ["Refused", count(refused), "on this page"],
      ["Targets", count(items.reduce((sum, one) => sum + (one.status?.targets || 0), 0)),
        "on this page"],
      ["Revision", count(view.revision), "of the store"],
    ]);
    fill(notices, view.store_error
      ? notice(`The store does not answer: ${view.store_error}. What is shown is what was known `
        + "last; what runs goes on.", true) : null);
    const first = items.length > 0 ? `${items[0].name} – ${items.at(-1).name}` : "none";
    fill(shown, first);
    back.disabled = pages.length === 0;
    on.disabled = next == null;
    list.show(items, (one) => one.name, "No configuration fits.");
    return undefined;
  }
  return { refresh, pause_ms: 2000 };
}

/** Asks for a token where the API wants one; it is kept until the browser's window is closed. */
function tokenForm(refreshNow) {
  const input = make("input", { type: "password", autocomplete: "off" });
  const form = make("form", { hidden: true },
    make("label", { class: "wide" }, "Token of the API of configurations", input),
    make("button", {}, "Use"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("token", input.value.trim());
    refreshNow();
  });
  return form;
}
