const {charts, busyHours} = JSON.parse(document.getElementById("data").textContent);
const DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

// Colours are the page's variables: an SVG follows the theme without being drawn again.
const config = {
  background: null,
  font: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
  view: {stroke: null},
  axis: {
    labelColor: "var(--muted)", labelFontSize: 12, gridColor: "var(--line)",
    domainColor: "var(--line)", tickColor: "var(--line)",
  },
  legend: {labelColor: "var(--ink)", labelFontSize: 12, symbolStrokeWidth: 0, offset: 8},
  text: {fontSize: 12},
};

// The reader's time zone is known here alone.
function busyCells() {
  const counts = DAYS.map(() => Array(24).fill(0));
  for (const [hour, messages] of busyHours) {
    const when = new Date(hour * 3_600_000);
    counts[(when.getDay() + 6) % 7][when.getHours()] += messages;
  }
  return counts;
}

function showBusyHours(spec) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const counts = busyCells();
  const cells = counts.flatMap((hours, day) => hours.map((messages, hour) => ({
    day: DAYS[day], hour, messages,
    when: `${DAYS[day]}, ${String(hour).padStart(2, "0")}:00`,
  })));
  const busiest = cells.reduce((a, b) => (b.messages > a.messages ? b : a));
  const words = `Messages received, by the hour of the week, ${zone}. The busiest: `
    + `${busiest.when}, ${busiest.messages.toLocaleString("en")}.`;
  spec.data.values = cells;
  spec.description = words;
  // Whole numbers between the steps, however few there are.
  spec.encoding.color.scale.domain = [0, Math.max(busiest.messages, 6)];
  document.getElementById("busy-words").textContent = words;
  const table = document.getElementById("busy-table");
  table.tHead.rows[0].cells[0].textContent = zone;
  counts.forEach((hours, day) => hours.forEach((messages, hour) => {
    table.tBodies[0].rows[day].cells[hour + 1].textContent = messages.toLocaleString("en");
  }));
}

if (charts.busy) showBusyHours(charts.busy);
const drawn = Object.entries(charts).map(([id, spec]) => window.vegaEmbed(
  document.getElementById(id), spec,
  {mode: "vega-lite", renderer: "svg", actions: false, config, tooltip: {theme: "page"}},
));
for (const {view} of await Promise.all(drawn)) {
  // Read out is the sentence that says what it shows, and no mark: the numbers are in the table.
  view.container().setAttribute("role", "img");
  view.container().querySelector("svg").setAttribute("aria-hidden", "true");
}
document.documentElement.dataset.drawn = drawn.length;
