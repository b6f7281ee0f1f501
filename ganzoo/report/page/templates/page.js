"use strict";
(() => {
  const root = document.documentElement;
  const said = document.getElementById("said");

  // Sorting: a heading's button; cells carry what to sort by in data-v. What has no value stays last.
  const by = (row, column) => {
    const cell = row.cells[column];
    return cell ? (cell.dataset.v ?? cell.textContent.trim()) : "";
  };
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const button of table.tHead.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        const heading = button.closest("th");
        const down = heading.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        const column = heading.cellIndex;
        rows.sort((one, other) => {
          const a = by(one, column), b = by(other, column);
          if (a === "" || b === "") return (a === "") - (b === "");
          return down ? compare(b, a) : compare(a, b);
        });
        table.tBodies[0].append(...rows);
        said.textContent = `sorted by ${button.textContent.trim()}, ${down ? "falling" : "rising"}`;
      });
    }
  }

  // One line of the chart alone.
  const lines = [...document.querySelectorAll("[data-line]:not(button)")];
  const buttons = [...document.querySelectorAll("button[data-line]")];
  const show = () => {
    const chosen = buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.line);
    for (const line of lines) line.classList.toggle("dim", chosen.length > 0 && !chosen.includes(line.dataset.line));
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") === "true" ? "false" : "true");
      show();
    });
  }

  // Light or dark: as the system says until the button is pressed; the choice is kept where it can be.
  const theme = document.getElementById("theme");
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const kept = () => {
    try { return localStorage.getItem("ganzoo-theme"); } catch { return null; }
  };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"}`); };
  const before = kept();
  if (before === "dark" || before === "light") root.dataset.theme = before;
  theme.hidden = false;
  label();
  prefersDark.addEventListener("change", label);
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("ganzoo-theme", root.dataset.theme); } catch { /* a browser may keep nothing of a file */ }
    label();
  });

  // Copying; where the clipboard is closed to files the text is left selected.
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      const range = document.createRange();
      range.selectNodeContents(source);
      const selection = window.getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      let done = false;
      try { await navigator.clipboard.writeText(source.textContent); done = true; } catch { done = document.execCommand("copy"); }
      button.textContent = done ? "Copied" : "Press Ctrl-C";
      said.textContent = button.textContent;
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  // Printed whole.
  const opened = [];
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details:not([open])")) { part.open = true; opened.push(part); }
  });
  window.addEventListener("afterprint", () => { while (opened.length) opened.pop().open = false; });
})();
