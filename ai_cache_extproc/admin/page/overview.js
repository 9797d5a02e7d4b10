// The figures: cards, charts and rankings out of `/overview` and `/stats`.

import {histogram, overTime, ranking} from './charts.js';
import {byId, make} from './dom.js';
import {duration, money, moment, number, say, share, size} from './words.js';

const VERDICTS = ['same', 'alike', 'different', 'unsure'];

export function showOverview(overview, stats) {
  const {totals, series, times_s: times} = overview;
  const covered = duration(times.at(-1) - times[0]);
  byId('covered').textContent = say(overview.seconds ? 'covered' : 'covered_all', {covered, at: moment(times.at(-1))});
  showCards(overview, stats);
  showCharts(series, times);
  ranking(byId('bypasses'), {title: say('bypasses'), heads: [say('reason'), say('count')], rows: totals.bypasses});
  ranking(byId('stores'), {
    title: say('stores'),
    heads: [say('result'), say('reason'), say('count')],
    rows: totals.stores.map(([result, reason, count]) => [result, reason || say('nothing'), count]),
  });
  byId('models').hidden = !totals.models.length;
  ranking(byId('models'), {
    title: say('models'),
    heads: [say('provider'), say('model'), say('upstream'), say('cache')],
    texts: 2,
    rows: totals.models.map(({provider, model, upstream, cache}) => [provider || say('nothing'), model, number(upstream), cache]),
  });
  showSemantic(totals, overview.thresholds);
}

function card(id, name, value, note) {
  return make('div', {id: `card-${id}`}, make('dt', {}, name), make('dd', {class: 'figure'}, value), make('dd', {class: 'note'}, note));
}

function showCards({totals}, stats) {
  const {requests, tokens, cost} = totals;
  const lookups = requests.hit + requests.miss;
  const kinds = {input: number(tokens.input), output: number(tokens.output), cached: number(tokens.cached)};
  const sums = Object.entries(cost).map(([currency, value]) => money(value, currency));
  const layers = totals.hits;
  const hitsNote = 'semantic' in layers
    ? say('hits_note', {exact: number(layers.exact ?? 0), semantic: number(layers.semantic)})
    : say('hits_exact_note');
  const {store, near, write_queue: queue} = stats;
  const stored = store.bytes_max ? 'stored_note' : 'stored_bytes';
  byId('cards').replaceChildren(
    card('ratio', say('hit_ratio'), lookups ? share(requests.hit / lookups) : say('nothing'), say('hit_ratio_note', {lookups: number(lookups)})),
    card('hits', say('hits'), number(requests.hit), hitsNote),
    card('misses', say('misses'), number(requests.miss), ''),
    card('bypassed', say('bypassed'), number(requests.bypass), ''),
    card('tokens', say('tokens_saved'), number(tokens.input + tokens.output + tokens.cached), say('tokens_note', kinds)),
    card('money', say('money_saved'), sums.join(', ') || say('nothing'), say(sums.length ? 'money_note' : 'no_prices')),
    card('seconds', say('seconds_saved'), duration(totals.seconds), say('seconds_note')),
    card('wait', say('waited'), duration(totals.wait_s?.p50), totals.wait_s ? say('waited_note', {p95: duration(totals.wait_s.p95)}) : ''),
    card('stored', say('stored'), number(store.entries), say(stored, {bytes: size(store.bytes), bytes_max: size(store.bytes_max)})),
    card('streams', say('streams'), number(stats.streams), say('streams_note', {near: number(near.entries), queue: number(queue.entries)})),
  );
}

// What happened between two moments, as so many a minute.
function rates(values, times) {
  return (values ?? []).map((value, at) => (value * 60) / Math.max(0.5, times[at + 1] - times[at]));
}

function showCharts(series, times) {
  const of = (name, look, values) => ({name: say(name), look: `look-${look}`, values: rates(values, times)});
  overTime(byId('chart-requests'), {
    title: say('chart_requests'),
    times,
    stacked: true,
    digits: 1,
    series: [
      of('exact', 'exact', series.hits.exact),
      of('semantic_hit', 'semantic', series.hits.semantic),
      of('miss', 'miss', series.requests.miss),
      of('bypass', 'bypass', series.requests.bypass),
    ],
  });
  overTime(byId('chart-saved'), {
    title: say('chart_saved'),
    times,
    stacked: true,
    digits: 1,
    series: [
      of('input', 'exact', series.tokens.input),
      of('output', 'semantic', series.tokens.output),
      of('cached', 'miss', series.tokens.cached),
    ],
  });
  const ms = (word) => (series.wait_s[word] ?? []).map((value) => (value === null ? null : value * 1000));
  overTime(byId('chart-wait'), {
    title: say('chart_wait'),
    times,
    digits: 2,
    series: [
      {name: say('p50'), look: 'look-exact', values: ms('p50')},
      {name: say('p95'), look: 'look-semantic', values: ms('p95')},
    ],
  });
}

function showSemantic({similarity, semantic, shadow}, thresholds) {
  const bounds = similarity ? Object.values(similarity)[0].map(([bound]) => bound) : [];
  const names = bounds.map((bound, at) => (bound === null ? `> ${bounds[at - 1]}` : `≤ ${bound}`));
  const column = (result) => (similarity?.[result] ?? []).map(([, count]) => count);
  histogram(byId('chart-similarity'), {
    title: say('similarity'),
    buckets: names,
    series: [
      {name: say('hit'), look: 'look-semantic', values: column('hit')},
      {name: say('rejected'), look: 'look-miss', values: column('rejected')},
    ],
    marks: [...new Set(Object.values(thresholds))].map((value) => [placeOf(value, bounds), say('threshold', {value: number(value, 4)})]),
    absent: similarity ? 'none_yet' : 'not_here',
  });
  ranking(byId('lookups'), {
    title: say('lookups'),
    heads: [say('result'), say('count')],
    rows: Object.entries(semantic ?? {}).filter(([, count]) => count).sort(([, one], [, other]) => other - one),
    absent: semantic ? 'none_yet' : 'not_here',
  });
  showShadow(shadow);
}

// Where a similarity lies on an axis of buckets that are all as wide.
function placeOf(value, bounds) {
  const at = bounds.findIndex((bound) => bound === null || value <= bound);
  if (at < 1) return Math.max(0, at);
  const [low, high] = [bounds[at - 1], bounds[at] ?? bounds[at - 1] + 1];
  return at + (value - low) / (high - low);
}

function showShadow(shadow) {
  const figure = byId('shadow');
  const children = [make('figcaption', {}, say('shadow'))];
  const sure = (found) => ({of: number(found.of), share: share(found.share, 2), low: share(found.low, 2), high: share(found.high, 2)});
  if (shadow?.would_hit) children.push(make('p', {}, say('shadow_hits', sure(shadow.would_hit))));
  for (const [pair, {verdicts, wrong}] of Object.entries(shadow?.pairs ?? {})) {
    const name = pair === 'exact' || pair === 'semantic' ? say(`pair_${pair}`) : pair;
    const rows = VERDICTS.map((verdict) => make('tr', {}, make('th', {scope: 'row'}, say(verdict)), make('td', {class: 'number'}, number(verdicts[verdict] ?? 0))));
    children.push(
      make('table', {}, make('caption', {}, name), make('tbody', {}, rows)),
      make('p', {class: 'note'}, wrong ? say('shadow_note', sure(wrong)) : say('none_yet')),
    );
  }
  if (!shadow) children.push(make('p', {class: 'note'}, say('not_here')));
  figure.replaceChildren(...children);
}
