"use strict";
(() => {
  const scale = { k: 1e3, M: 1e6, "%": 1, "": 1 };
  // The number that a cell begins with; what is undefined or never reached comes last.
  const number = (text) => {
    const found = /^[<≤]?\s*([+\-−]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s?([kM%]?)/.exec(text);
    return found ? Number(found[1].replace("−", "-")) * scale[found[2]] : NaN;
  };
  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    if (Number.isNaN(x) && Number.isNaN(y)) return a < b ? -1 : a > b ? 1 : 0;
    return Number.isNaN(x) ? 1 : -1;
  };
  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const text = (row) => row.cells[column].textContent;
        const sign = descending ? -1 : 1;
        body.append(...[...rows].sort((a, b) => sign * compare(text(a), text(b))));
      });
    });
    if (rows.length < 6) continue;
    const filter = document.createElement("input");
    filter.type = "search";
    filter.placeholder = "Filter rows: all words must occur";
    filter.setAttribute("aria-label", filter.placeholder);
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const cells = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
        row.hidden = !words.every((word) => cells.includes(word));
      }
    });
    table.parentElement.before(filter);
  }
  // A link into a folded table opens it.
  const open = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", open);
  open();
})();
