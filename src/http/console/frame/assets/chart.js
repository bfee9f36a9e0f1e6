// A chart of a table's numbers: columns of hours, stacked by what the table's columns count.

import uPlot from "./uPlot.esm.js";

/** The table's rows, oldest first: times, then a list of numbers for each column. */
function numbers(table) {
  const rows = [...table.tBodies[0].rows].reverse();
  const times = rows.map((row) => Number(row.cells[0].dataset.at));
  const columns = [...table.tHead.rows[0].cells].slice(1).map((head, at) => ({
    name: head.textContent,
    colour: head.dataset.colour,
    values: rows.map((row) => Number(row.cells[at + 1].textContent)),
  }));
  return { times, columns };
}

/** Each column upon those before it; the highest is drawn first. */
function stacked({ times, columns }) {
  const sums = [];
  columns.reduce((below, { values }) => {
    const sum = values.map((value, at) => value + below[at]);
    sums.push(sum);
    return sum;
  }, times.map(() => 0));
  return [times, ...sums.reverse()];
}

/** As in the table: UTC. */
const clock = (at) => new Date(at * 1000).toISOString().slice(11, 16);

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export function draw(box) {
  const table = document.getElementById(box.dataset.chart);
  const legend = box.parentElement.querySelector("[data-chart-legend]");
  box.hidden = false;
  if (legend) legend.hidden = false;
  let shown = numbers(table);
  let plot = null;

  /** The legend: each colour with its name and, for the hour under the pointer, its number. */
  function showLegend(at) {
    if (!legend) return;
    const { times, columns } = shown;
    const isHour = at != null && times[at] !== undefined;
    const entries = columns.map(({ name, colour, values }) => {
      const entry = document.createElement("span");
      const swatch = document.createElement("span");
      entry.className = "legend-entry";
      swatch.className = `swatch ${colour}`;
      entry.append(swatch, isHour ? `${name}: ${values[at]}` : name);
      return entry;
    });
    legend.replaceChildren(...(isHour ? [`${clock(times[at])} UTC `] : []), ...entries);
  }

  function build() {
    plot?.destroy();
    const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 } };
    const bars = uPlot.paths.bars({ size: [0.8, 60] });
    const series = [...shown.columns].reverse().map(({ name, colour: of }) => ({
      label: name, fill: colour(of), stroke: colour(of), width: 0, paths: bars, points: { show: false },
    }));
    plot = new uPlot({
      width: box.clientWidth,
      height: 220,
      legend: { show: false },
      cursor: { y: false, drag: { setScale: false, x: false, y: false } },
      scales: { y: { range: (_, __, most) => [0, Math.max(4, Math.ceil((most ?? 0) * 1.1))] } },
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      axes: [{ ...axis, values: (_, times) => times.map(clock) }, { ...axis, size: 52, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000, 100000] }],
      series: [{}, ...series],
      hooks: { setCursor: [(of) => showLegend(of.cursor.idx)] },
    }, stacked(shown), box);
    showLegend(null);
  }

  build();
  new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: 220 })).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
  document.addEventListener("parts", () => {
    shown = numbers(table);
    plot.setData(stacked(shown));
  });
}
