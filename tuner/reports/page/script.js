"use strict";
(() => {
  // A page of a running search is written again and again: it is loaded anew until somebody uses it.
  const running = document.getElementById("running");
  if (running) {
    let used = false;
    for (const kind of ["pointerdown", "keydown", "wheel", "touchstart"]) {
      addEventListener(kind, () => { used = true; document.getElementById("reloads").hidden = true; }, { once: true, passive: true });
    }
    document.getElementById("reloads").hidden = false;
    document.getElementById("reload").addEventListener("click", () => location.reload());
    setInterval(() => { if (!used) location.reload(); }, 1000 * Number(running.dataset.seconds));
  }
})();
(() => {
  const data = JSON.parse(document.getElementById("table-data").textContent);
  const table = document.getElementById("leaderboard-table");
  if (!table || !data.rows.length) return;
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const tools = document.getElementById("tools"), search = document.getElementById("search");
  const selects = [...tools.querySelectorAll("select")];
  const count = document.getElementById("count"), more = document.getElementById("more");
  const STEP = 100;
  let shown = STEP, sorted = { column: 0, descending: false }, found = data.rows;
  // A row is [shown cells, numbers to sort by]; what has no number comes last, whichever way it is sorted.
  const texts = new Map(data.rows.map((row) => [row, row[0].join(" ").toLowerCase()]));
  const compare = (a, b) => {
    const isNumber = heads[sorted.column].classList.contains("number");
    const [x, y] = [a, b].map((row) => row[isNumber ? 1 : 0][sorted.column]);
    if (x === null || y === null) return (x === null) - (y === null);
    const order = isNumber ? x - y : x.localeCompare(y);
    return sorted.descending ? -order : order;
  };
  const draw = () => {
    const rows = found.slice(0, shown).map((row) => {
      const line = document.createElement("tr");
      row[0].forEach((text, index) => {
        const cell = document.createElement("td");
        cell.textContent = text;
        if (heads[index].classList.contains("number")) cell.className = "number";
        line.append(cell);
      });
      return line;
    });
    body.replaceChildren(...rows);
    more.hidden = found.length <= shown;
    more.textContent = `Show more (${(found.length - shown).toLocaleString("en")} left)`;
    count.textContent = `${found.length.toLocaleString("en")} of ${data.rows.length.toLocaleString("en")} trials`;
  };
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = selects.filter((select) => select.value).map((select) => [Number(select.dataset.column), select.value]);
    found = data.rows.filter((row) =>
      words.every((word) => texts.get(row).includes(word)) &&
      wanted.every(([column, value]) => row[0][column] === value));
    found.sort(compare);
    shown = STEP;
    draw();
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      sorted = { column, descending: sorted.column === column && !sorted.descending };
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sorted.descending ? "descending" : "ascending");
      update();
    });
  });
  heads[0].setAttribute("aria-sort", "ascending");
  search.addEventListener("input", update);
  selects.forEach((select) => select.addEventListener("change", update));
  more.addEventListener("click", () => { shown += STEP; draw(); });
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.hidden = false;
  document.getElementById("static").remove();
  update();
})();
