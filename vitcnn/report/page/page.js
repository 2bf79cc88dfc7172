"use strict";
// Charts with their controls, and tables that sort. Specifications are Vega-Lite; the page makes no request.

const specs = JSON.parse(document.getElementById("specs").textContent);

// `ast`: expressions are interpreted, not compiled. Vega would warn where no model is chosen: only errors (level 1) are logged.
const OPTIONS = { actions: false, renderer: "svg", ast: true, logLevel: 1 };

/** The chosen values of a form by parameter: a list for checkboxes, one value for a select. */
function chosen(form) {
  const values = {};
  for (const input of form.elements) {
    if (input.type === "checkbox") (values[input.name] ??= []).push(...(input.checked ? [JSON.parse(input.value)] : []));
    else if (input.tagName === "SELECT") values[input.name] = JSON.parse(input.value);
  }
  return values;
}

/** Makes every logarithmic axis of n linear, from 0. */
function linear(part) {
  if (Array.isArray(part)) part.forEach(linear);
  else if (part && typeof part === "object")
    for (const [key, value] of Object.entries(part))
      if (key === "x" && value.scale?.type === "log") value.scale = { ...value.scale, type: "linear", domain: [0, value.scale.domain[1]] };
      else if (key !== "datasets") linear(value);
}

/** Draws a chart; a change of its controls sets parameters, or draws it again. */
async function chart(figure) {
  const form = figure.querySelector("form"), plot = figure.querySelector(".plot");
  const initial = specs[figure.dataset.chart];
  let drawn;
  async function draw() {
    const values = chosen(form), spec = structuredClone(initial);
    if (values.scale === "linear") linear(spec);
    for (const param of spec.params ?? []) if (param.name in values) param.value = values[param.name];
    drawn?.finalize();
    drawn = await vegaEmbed(plot, spec, OPTIONS);
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  async function update(event) {
    if (event.target.name === "scale") return draw();
    for (const [name, value] of Object.entries(chosen(form))) if (name !== "scale") drawn.view.signal(name, value);
    await drawn.view.runAsync();
  }
  let last = draw();
  form.addEventListener("change", (event) => {
    plot.setAttribute("aria-busy", "true");
    const mine = (last = last.then(() => update(event)));
    mine.then(() => { if (mine === last) plot.removeAttribute("aria-busy"); });
  });
  await last;
}

/** A button in each heading that sorts by its column: up, then down. */
function sortable(table) {
  const headings = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const order = new Intl.Collator("en", { numeric: true });
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1, number = heading.classList.contains("number");
      const key = (row) => { const cell = row.cells[column]; return number ? cell.dataset.value : cell.textContent; };
      const compare = (a, b) => {
        if (a === "" || b === "") return (a === "") - (b === ""); // what is missing comes last
        return sign * (number ? a - b : order.compare(a, b));
      };
      body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
    });
  });
}

document.querySelectorAll("table.sortable").forEach(sortable);
Promise.all([...document.querySelectorAll("[data-chart]")].map(chart)).then(() => {
  document.documentElement.dataset.drawn = "yes";
});
