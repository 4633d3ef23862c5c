"use strict";
// The page is whole without this: it sorts tables, says what stands behind a number, and makes figures interactive.
document.documentElement.classList.add("js");

const read = (id) => JSON.parse(document.getElementById(id).textContent);

function element(tag, text, attributes = {}) {
  const made = Object.assign(document.createElement(tag), attributes);
  if (text) made.textContent = text;
  return made;
}

// Sorting: largest first, smallest first, as it was; what has no value comes last.

function key(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.sort ?? cell.textContent.trim();
  return { text, number: text === "" ? NaN : Number(text) };
}

function compare(one, other, column) {
  const [a, b] = [key(one, column), key(other, column)];
  if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) return a.number - b.number;
  return a.text.localeCompare(b.text, undefined, { numeric: true });
}

function order(rows, column, direction) {
  const empty = (row) => key(row, column).text === "";
  const sign = direction === "ascending" ? 1 : -1;
  return [...rows].sort((one, other) => empty(one) - empty(other) || sign * compare(one, other, column));
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], rows = [...body.rows];
  const next = { none: "descending", descending: "ascending", ascending: "none" };
  heads.forEach((head, column) => {
    const button = element("button", "", { type: "button", className: "sort" });
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const direction = next[head.getAttribute("aria-sort")];
      for (const one of heads) one.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", direction);
      body.append(...(direction === "none" ? rows : order(rows, column, direction)));
    });
  });
}

// Provenance.

function facts(pairs) {
  const list = element("dl");
  for (const [name, value] of pairs) if (value) list.append(element("dt", name), element("dd", value));
  return list;
}

function parameters(rows, here, first) {
  if (!rows.length) return [element("p", `The first row, ${first}. Parameters of the other rows are compared with it.`, { className: "soft" })];
  const box = element("div", "", { className: "scroll", tabIndex: 0 }), table = element("table"), body = element("tbody");
  const head = element("tr");
  head.append(...["Parameter", here, first].map((text) => element("th", text, { scope: "col" })));
  for (const [name, own, other] of rows) {
    const row = element("tr");
    row.append(element("th", name, { scope: "row" }), element("td", own), element("td", other));
    body.append(row);
  }
  table.append(element("thead"), body);
  table.tHead.append(head);
  box.append(table);
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "Parameters that differ");
  return [element("p", `Frozen parameters that differ from those of ${first}:`), box];
}

function makeProvenance() {
  const dialog = document.getElementById("provenance"), behind = read("behind");
  const [title, body] = [dialog.querySelector("h2"), dialog.querySelector(".facts")];
  for (const button of document.querySelectorAll("button.cell")) {
    button.addEventListener("click", () => {
      const { table, run, set, metric, value, difference } = button.dataset;
      title.textContent = `${run}: ${metric}`;
      const found = [["Value", value], ["Difference", difference], ...behind.runs[run], ...behind.sets[set]];
      body.replaceChildren(facts(found), ...parameters(behind.differ[table][run], run, behind.first[table]));
      dialog.showModal();
      dialog.scrollTop = 0;
    });
  }
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

// Figures.

async function draw(id, spec) {
  const place = document.getElementById(id);
  place.hidden = false;
  if (spec.config.legend) spec.config.legend.columns = Math.max(1, Math.floor(place.clientWidth / 180));
  if (spec.facet) spec.columns = Math.max(1, Math.floor((place.clientWidth - 40) / (spec.spec.width + 50)));
  await vegaEmbed(place, spec, { mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false });
  if (spec.facet) { // few panels would be as wide as many, their text the larger
    const drawing = place.querySelector("svg");
    drawing.style.width = `min(100%, ${drawing.getAttribute("width")}px)`;
  }
  const still = place.nextElementSibling;
  if (still?.classList.contains("fallback")) still.hidden = true;
}

// Where one is, in the contents.

function follow() {
  const links = new Map([...document.querySelectorAll("nav.contents a")].map((one) => [one.hash.slice(1), one]));
  const places = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  const mark = () => {
    const above = places.filter((one) => one.getBoundingClientRect().top < innerHeight / 3);
    for (const [id, link] of links) link.toggleAttribute("aria-current", id === above.at(-1)?.id);
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
}

follow();
document.querySelectorAll("table.sortable").forEach(makeSortable);
makeProvenance();
Promise.all(Object.entries(read("charts")).map(([id, spec]) => draw(id, spec))).then(() => {
  document.documentElement.dataset.drawn = "yes";
});
