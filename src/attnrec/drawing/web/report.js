"use strict";
(() => {
  const announce = document.getElementById("announce");

  /** Order of two keys: numbers before words, and what has no key last whichever way round. */
  function compare(a, b, sign) {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const [x, y] = [Number(a), Number(b)];
    return sign * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y);
  }

  /** Sort the rows of a table by a column: first the largest numbers or the first words, then the other way round. */
  function sort(heading) {
    const table = heading.closest("table"), body = table.tBodies[0], column = heading.cellIndex;
    const rows = [...body.rows], key = (row) => row.cells[column].dataset.key;
    const words = rows.some((row) => key(row) !== undefined && Number.isNaN(Number(key(row))));
    const before = heading.getAttribute("aria-sort");
    const way = before ? (before === "ascending" ? "descending" : "ascending") : words ? "ascending" : "descending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", way);
    body.append(...rows.sort((a, b) => compare(key(a), key(b), way === "ascending" ? 1 : -1)));
    announce.textContent = `Sorted by ${heading.textContent}, ${way}`;
  }

  document.querySelectorAll("table.rows thead th").forEach((heading) =>
    heading.querySelector("button").addEventListener("click", () => sort(heading)),
  );

  document.querySelectorAll("button.motion").forEach((button) =>
    button.addEventListener("click", () => {
      const still = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(still));
      button.closest("section").querySelectorAll(".clips img").forEach((image) => {
        image.dataset.gif ??= image.src;
        image.src = still ? image.dataset.still : image.dataset.gif;
      });
    }),
  );

  // An address that ends in #sort=2.1 sorts the second table by its first column.
  const [, table, column] = location.hash.match(/^#sort=(\d+)\.(\d+)$/) ?? [];
  if (table) {
    const heading = document.querySelectorAll("table.rows")[table - 1]?.tHead.rows[0].cells[column - 1];
    if (heading) sort(heading);
  }
})();
