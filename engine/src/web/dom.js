// Values from the network -> nodes of the page. Text is set as text only, never read as markup.

/** Makes an element: attributes, then children; texts become text nodes, null is left out. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, String(value));
  }
  node.append(...children.flat().filter((child) => child != null).map(asNode));
  return node;
}

function asNode(child) {
  return child instanceof Node ? child : document.createTextNode(String(child));
}

/** Sets the children of a node, and leaves it alone if they are the same as before. */
export function fill(node, ...children) {
  const fresh = children.flat().filter((child) => child != null).map(asNode);
  const same = node.childNodes.length === fresh.length
    && fresh.every((child, index) => child.isEqualNode(node.childNodes[index]));
  if (!same) node.replaceChildren(...fresh);
}

/** A table that is told its rows again and again; rows that stay keep their nodes. */
export function table(caption, columns) {
  const heads = columns.map((column) =>
    make("th", { scope: "col", class: column.number ? "number" : null }, column.head));
  const body = make("tbody");
  const node = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    make("table", {}, make("caption", {}, caption),
      make("thead", {}, make("tr", {}, heads)), body));
  const rows = new Map();
  node.show = (items, keyOf, none) => {
    const wanted = new Map();
    for (const item of items) {
      const key = keyOf(item);
      let row = rows.get(key);
      if (!row) {
        const cells = columns.map((column, index) => make(index === 0 ? "th" : "td",
          { scope: index === 0 ? "row" : null, class: classOf(column) }));
        row = { node: make("tr", {}, cells), cells };
      }
      columns.forEach((column, index) => fill(row.cells[index], column.show(item)));
      wanted.set(key, row);
    }
    rows.clear();
    for (const [key, row] of wanted) rows.set(key, row);
    const nodes = [...rows.values()].map((row) => row.node);
    if (nodes.length === 0) {
      nodes.push(make("tr", {}, make("td", { colspan: columns.length, class: "quiet" }, none)));
    }
    const same = body.childNodes.length === nodes.length
      && nodes.every((row, index) => row === body.childNodes[index]);
    if (!same) body.replaceChildren(...nodes);
  };
  return node;
}

function classOf(column) {
  return column.number ? "number" : column.class || null;
}

/** Figures under headings. */
export function cards() {
  const node = make("dl", { class: "cards" });
  node.show = (list) => fill(node, list.map(([head, value, note]) => make("div", { class: "card" },
    make("dt", {}, head), make("dd", {}, value, note ? make("small", {}, note) : null))));
  return node;
}

export function badge(text, tone) {
  return make("span", { class: tone ? `badge ${tone}` : "badge" }, text);
}

export function notice(text, isBad) {
  return make("p", { class: isBad ? "notice bad" : "notice", role: isBad ? "alert" : null }, text);
}

/** A link, if the address is one of the web; else its text. */
export function link(address, text = address) {
  return /^https?:\/\/[^\s]+$/.test(address)
    ? make("a", { href: address, rel: "noreferrer noopener" }, text) : text;
}

export function labels(map) {
  return Object.entries(map).map(([name, value]) =>
    make("span", { class: "label" }, `${name}="${value}"`));
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "compact" });

export function count(number) {
  return number == null ? "–" : whole.format(number);
}

export function compact(number) {
  return number == null ? "–" : number < 10_000 ? whole.format(number) : short.format(number);
}

export function percent(share) {
  return `${(share * 100).toFixed(1)} %`;
}

/** A span of time in its two largest units. */
export function span(ms) {
  const sign = ms < 0 ? "−" : "";
  let rest = Math.abs(Math.round(ms));
  if (rest < 1000) return `${sign}${rest} ms`;
  if (rest < 10_000) return `${sign}${(rest / 1000).toFixed(1)} s`;
  rest = Math.round(rest / 1000);
  for (const [size, unit, below, lower] of
    [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (rest >= size) {
      const second = Math.floor((rest % size) / below);
      return `${sign}${Math.floor(rest / size)} ${unit}${second ? ` ${second} ${lower}` : ""}`;
    }
  }
  return `${sign}${rest} s`;
}

/** How long before the node's `now` a time lies; what is to come is `in …`. */
export function ago(ms, now) {
  if (ms == null) return "–";
  const age = now - ms;
  return age < -500 ? `in ${span(-age)}` : `${span(Math.max(0, age))} ago`;
}

/** Asks the API; an error carries what the answer says, and its status. */
export async function ask(path) {
  const headers = { Accept: "application/json" };
  const token = sessionStorage.getItem("token");
  if (token && path.startsWith("/agent/")) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { headers });
  const text = await response.text();
  let answer = null;
  try { answer = JSON.parse(text); } catch { /* Not every error is JSON. */ }
  if (!response.ok || answer?.status !== "success") {
    const words = answer?.error || answer?.data?.error || text.trim();
    throw Object.assign(new Error(words || `status ${response.status}`),
      { status: response.status });
  }
  return answer.data;
}
