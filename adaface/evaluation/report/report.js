// Sort a table by the column whose heading is pressed; a second press turns the order round. The page reads without it.
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const table = heading.closest("table");
    const headings = [...table.querySelectorAll("thead th[data-kind]")];
    // Order of the headings as they stand over the cells: the first, those of the second line, then the last.
    const own = headings.filter((one) => one.parentElement.rowIndex === 0);
    const columns = [own[0], ...headings.filter((one) => one.parentElement.rowIndex === 1), ...own.slice(1)];
    const at = columns.indexOf(heading);
    const numeric = heading.dataset.kind === "number";
    const before = heading.getAttribute("aria-sort");
    const ascending = before === "none" ? !numeric : before === "descending"; // numbers start with the largest
    const value = (row) => row.cells[at].dataset.value ?? row.cells[at].textContent.trim();
    const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
    rows.sort(([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === ""); // no value: last in either order
      const order = numeric ? Number(a) - Number(b) : a.localeCompare(b);
      return ascending ? order : -order;
    });
    for (const other of headings) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    table.tBodies[0].append(...rows.map(([, row]) => row));
  });
}
