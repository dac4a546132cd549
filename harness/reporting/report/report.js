"use strict";
/* Tables with the class "sortable" get a filter and headings to sort by; a link to a run opens it. Every row is a tbody
   of its own, of one to three lines, so that the lines of a model stay together; a tbody "block" is a heading. */
(() => {
  const NUMBER = /^[<~≈]?\s*([+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)(?![\d.,-])/i;

  const textOf = (row, column) => (row.rows[0].cells[column] ? row.rows[0].cells[column].textContent.trim() : "");
  const plain = (text) => text.toLowerCase().replace(/\s+/g, "");
  const valueOf = (text) => {
    const found = NUMBER.exec(text.replace(/−/g, "-"));
    return found ? parseFloat(found[1].replace(/,/g, "")) : NaN;
  };

  function compare(a, b) {
    const [x, y] = [valueOf(a), valueOf(b)];
    if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    return a.localeCompare(b, "en", { numeric: true });
  }

  function sorted(rows, column, direction) {
    const texts = new Map(rows.map((row) => [row, textOf(row, column)]));
    const numeric = rows.filter((row) => !Number.isNaN(valueOf(texts.get(row)))).length > rows.length / 3;
    // what is no number in a column of numbers comes last either way
    const last = (row) => texts.get(row) === "" || texts.get(row) === "–" ||
      (numeric && Number.isNaN(valueOf(texts.get(row))));
    return rows.slice().sort((a, b) =>
      last(a) - last(b) || (last(a) ? 0 : direction * compare(texts.get(a), texts.get(b))));
  }

  function prepare(table) {
    const rows = [...table.tBodies].filter((body) => body.classList.contains("row"));
    const original = [...table.tBodies];
    const headings = [...table.tHead.rows[0].cells];
    const labels = headings.map((cell) => plain(cell.textContent));
    const blocks = new Map();
    let block = "";
    for (const body of original) {
      if (body.classList.contains("block")) block = body.textContent;
      else blocks.set(body, `${block} ${body.textContent}`.toLowerCase());
    }
    let query = "";
    let isSorted = false;

    function matches(row, word) {
      const [, label, wanted] = /^([^:]+):(.*)$/.exec(word) || [];
      const column = label === undefined ? -1 : labels.indexOf(label);
      return column < 0 ? blocks.get(row).includes(word) : plain(textOf(row, column)).startsWith(wanted);
    }

    function show(count) {
      const words = query.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        row.hidden = !words.every((word) => matches(row, word));
        shown += row.hidden ? 0 : 1;
      }
      for (const body of original) {
        if (body.classList.contains("block")) body.hidden = isSorted || words.length > 0;
      }
      count.textContent = words.length ? `${shown} of ${rows.length}` : `${rows.length} rows`;
    }

    const tools = document.createElement("div");
    tools.className = "tools";
    const field = document.createElement("input");
    field.type = "search";
    field.placeholder = "Filter, as bihm or dataset:adult";
    if (!labels.includes("dataset")) field.placeholder = "Filter rows";
    field.setAttribute("aria-label", "Filter rows");
    const count = document.createElement("span");
    field.addEventListener("input", () => { query = field.value; show(count); });
    tools.append(field, count);
    if (table.classList.contains("all")) {
      const box = document.createElement("input");
      box.type = "checkbox";
      box.addEventListener("change", () => table.classList.toggle("more", box.checked));
      const label = document.createElement("label");
      label.append(box, " all columns");
      tools.append(label);
    }
    table.parentElement.before(tools);
    table.filterBy = (text) => { field.value = query = text; show(count); };

    headings.forEach((cell, column) => {
      if (!cell.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort: up, down, as it was";
      button.append(...cell.childNodes);
      cell.append(button);
      cell.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" }[cell.getAttribute("aria-sort")];
        for (const each of headings) if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", "none");
        cell.setAttribute("aria-sort", next);
        isSorted = next !== "none";
        table.append(...(isSorted ? sorted(rows, column, next === "ascending" ? 1 : -1) : original));
        show(count);
      });
    });
    show(count);
  }

  function open() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
    if (target) target.scrollIntoView();
  }

  for (const table of document.querySelectorAll("table.sortable")) prepare(table);
  for (const link of document.querySelectorAll("a[data-filter]")) {
    link.addEventListener("click", () => document.getElementById(link.dataset.table).filterBy(link.dataset.filter));
  }
  for (const image of document.querySelectorAll("figure img")) {
    image.addEventListener("click", () => image.closest("figure").classList.toggle("whole"));
  }
  // a copy of the page elsewhere has no runs beside it: there, their files are named, not linked
  const here = decodeURIComponent(location.pathname).split("/").slice(-3, -1).join("/");
  if (here !== document.body.dataset.home) {
    for (const link of document.querySelectorAll("a.file")) link.replaceWith(link.title);
  }
  addEventListener("hashchange", open);
  addEventListener("click", (event) => { if (event.target.closest('a[href^="#"]')) setTimeout(open); });
  open();
})();
