// Charts as SVG, each with its name, a sentence for who does not see it, and its figures as a table.

import {draw, make, table} from './dom.js';
import {moment, number, say} from './words.js';

const HEIGHT = 180, LEFT = 44, RIGHT = 8, TOP = 10, BOTTOM = 22;
const WIDTH_MIN = 260;

// A round number at or above a value, so that the axis reads well.
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

// The figure's parts that stay: a table that was opened stays open when its chart is drawn again.
function parts(figure, title) {
  if (!figure.firstChild) {
    const details = make('details', {}, make('summary'));
    figure.append(make('figcaption'), make('div', {class: 'legend'}), make('div', {class: 'plot'}), details);
    details.addEventListener('toggle', () => details.open && figure.drawTable?.());
  }
  const [caption, legend, plot, details] = figure.children;
  caption.textContent = title;
  details.firstChild.textContent = say('as_table');
  return {legend, plot, details, width: Math.max(WIDTH_MIN, Math.round(figure.clientWidth) - 2)};
}

function offerTable(figure, details, build) {
  figure.drawTable = () => details.replaceChildren(details.firstChild, make('div', {class: 'scrolls', tabindex: 0}, build()));
  details.hidden = false;
  if (details.open) figure.drawTable();
}

function nothing(figure, {legend, plot, details}, word) {
  legend.replaceChildren();
  plot.replaceChildren(make('p', {class: 'note'}, say(word)));
  details.hidden = true;
  figure.drawTable = null;
}

function legendOf(series) {
  return series.map(({name, look}) =>
    make('span', {}, draw('svg', {class: 'swatch', 'aria-hidden': 'true', viewBox: '0 0 12 12'}, draw('rect', {class: look, width: 12, height: 12, rx: 2})), name),
  );
}

function frame(width, top, label, digits) {
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
  const marks = [0, top / 2, top].flatMap((value) => [
    draw('line', {class: 'grid', x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value)}),
    draw('text', {class: 'mark', x: LEFT - 6, y: y(value) + 4, 'text-anchor': 'end'}, number(value, digits)),
  ]);
  return {y, svg: draw('svg', {role: 'img', 'aria-label': label, viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT}, marks)};
}

function digitsFor(top) {
  return top >= 20 ? 0 : top >= 2 ? 1 : 3;
}

// Series over time. times: one more than values, for each value is of what is between two of them. A value may be null.
// stacked: areas on each other; else lines.
export function overTime(figure, {title, times, series, stacked = false, digits = 0}) {
  const own = parts(figure, title);
  const seen = series.filter(({values}) => values.some((value) => value));
  if (times.length < 2 || !seen.length) return nothing(figure, own, 'none_yet');
  const count = times.length - 1;
  const sums = Array.from({length: count}, (_, at) => seen.reduce((sum, {values}) => sum + (values[at] ?? 0), 0));
  const peak = stacked ? Math.max(...sums) : Math.max(...seen.flatMap(({values}) => values.map((value) => value ?? 0)));
  const top = ceiling(peak);
  const label = `${title}. ${seen.map(({name, values}) => `${name}: ${number(values.findLast((value) => value !== null) ?? 0, digits)}`).join(', ')}`;
  const {y, svg} = frame(own.width, top, label, digitsFor(top));
  const span = times[count] - times[0] || 1;
  const x = (time) => LEFT + ((time - times[0]) / span) * (own.width - LEFT - RIGHT);
  const below = new Array(count).fill(0);
  for (const {values, look} of seen) {
    if (stacked) {
      const up = [], down = [];
      for (let at = 0; at < count; at++) {
        const from = below[at], to = from + (values[at] ?? 0);
        up.push(`${x(times[at])},${y(to)}`, `${x(times[at + 1])},${y(to)}`);
        down.unshift(`${x(times[at + 1])},${y(from)}`, `${x(times[at])},${y(from)}`);
        below[at] = to;
      }
      svg.append(draw('polygon', {class: look, points: [...up, ...down].join(' ')}));
    } else {
      let run = [];
      const flush = () => run.length && svg.append(draw('polyline', {class: `line ${look}`, points: run.join(' ')}));
      for (let at = 0; at < count; at++) {
        if (values[at] === null) {
          flush();
          run = [];
        } else {
          run.push(`${x(times[at])},${y(values[at])}`, `${x(times[at + 1])},${y(values[at])}`);
        }
      }
      flush();
    }
  }
  for (const [time, anchor] of [[times[0], 'start'], [times[count], 'end']]) {
    svg.append(draw('text', {class: 'mark', x: x(time), y: HEIGHT - 6, 'text-anchor': anchor}, moment(time)));
  }
  own.legend.replaceChildren(...legendOf(seen));
  own.plot.replaceChildren(svg);
  offerTable(figure, own.details, () =>
    table(
      [say('until'), ...seen.map(({name}) => name)],
      Array.from({length: count}, (_, at) => [moment(times[at + 1]), ...seen.map(({values}) => number(values[at], Math.max(digits, 1)))]).reverse(),
    ),
  );
}

// Counts by bucket, one bar on the other. marks: [where between two buckets, 0 to their number; its words].
export function histogram(figure, {title, buckets, series, marks = [], absent = 'none_yet'}) {
  const own = parts(figure, title);
  const sums = buckets.map((_, at) => series.reduce((sum, {values}) => sum + (values[at] ?? 0), 0));
  if (!sums.some((sum) => sum)) return nothing(figure, own, absent);
  const top = ceiling(Math.max(...sums));
  const label = `${title}. ${buckets.map((name, at) => `${name}: ${number(sums[at])}`).join(', ')}. ${marks.map(([, words]) => words).join(', ')}`;
  const {y, svg} = frame(own.width, top, label, digitsFor(top));
  const wide = (own.width - LEFT - RIGHT) / buckets.length;
  const every = Math.ceil(44 / wide);
  buckets.forEach((name, at) => {
    let below = 0;
    for (const {values, look, name: what} of series) {
      const value = values[at] ?? 0;
      if (!value) continue;
      const bar = {class: look, x: LEFT + at * wide + 1, width: Math.max(1, wide - 2), y: y(below + value), height: y(below) - y(below + value)};
      svg.append(draw('rect', bar, draw('title', {}, `${name}: ${what} ${number(value)}`)));
      below += value;
    }
    if (at % every === 0) svg.append(draw('text', {class: 'mark', x: LEFT + (at + 0.5) * wide, y: HEIGHT - 6, 'text-anchor': 'middle'}, name));
  });
  for (const [place, words] of marks) {
    const x = LEFT + place * wide;
    const before = place > buckets.length / 2;
    svg.append(
      draw('line', {class: 'threshold', x1: x, x2: x, y1: TOP - 4, y2: HEIGHT - BOTTOM}),
      draw('text', {class: 'mark', x: before ? x - 4 : x + 4, y: TOP + 4, 'text-anchor': before ? 'end' : 'start'}, words),
    );
  }
  own.legend.replaceChildren(...legendOf(series));
  own.plot.replaceChildren(svg);
  offerTable(figure, own.details, () =>
    table([title, ...series.map(({name}) => name)], buckets.map((name, at) => [name, ...series.map(({values}) => number(values[at] ?? 0))])),
  );
}

// A table whose rows have bars. rows: [cells..., count]. texts: how many of its columns, from the first, are words.
export function ranking(figure, {title, heads, rows, texts = heads.length - 1, absent = 'none_yet'}) {
  const caption = make('figcaption', {}, title);
  if (!rows.length) {
    figure.replaceChildren(caption, make('p', {class: 'note'}, say(absent)));
    return;
  }
  const most = Math.max(...rows.map((row) => row.at(-1)));
  const shown = rows.map((row) => [
    ...row.slice(0, -1),
    [bar(row.at(-1) / (most || 1)), make('span', {}, number(row.at(-1)))],
  ]);
  figure.replaceChildren(caption, table(heads, shown, {texts}));
}

function bar(part) {
  const inner = draw('rect', {class: 'look-exact', width: Math.max(1, 60 * part), height: 8, x: 60 - Math.max(1, 60 * part), rx: 1});
  return draw('svg', {class: 'bar', 'aria-hidden': 'true', viewBox: '0 0 60 8'}, inner);
}
