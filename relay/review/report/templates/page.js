// Sorts a table by the column whose heading was pressed: by value where cells have one, else by text.
for (const button of document.querySelectorAll('th button')) button.addEventListener('click', () => {
  const head = button.parentElement, body = head.closest('table').tBodies[0], column = head.cellIndex;
  const up = head.getAttribute('aria-sort') === 'descending' || (!head.hasAttribute('aria-sort') && !head.classList.contains('n'));
  const value = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
  const order = (one, other) => head.classList.contains('s') ? value(one) - value(other) : value(one).localeCompare(value(other));
  const rows = [...body.rows].sort((one, other) => up ? order(one, other) : order(other, one));
  for (const other of head.parentElement.cells) other.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  body.append(...rows);
});
