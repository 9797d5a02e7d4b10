// How the components are, and the configuration in effect.

import {byId, make} from './dom.js';
import {say} from './words.js';

export function showState(health) {
  const state = byId('state');
  const ready = health.status === 'ok';
  state.textContent = say(ready ? 'ready' : 'not_ready');
  state.className = ready ? 'good' : 'bad';
}

// stats: nothing where there is no token.
export function showRunning(stats, uptime) {
  if (!stats) return byId('running').replaceChildren();
  const workers = stats.workers ? `, ${say('workers', {count: stats.workers})}` : '';
  byId('running').textContent = say('running', {version: stats.version, uptime}) + workers;
}

export function showHealth(health) {
  const rows = Object.entries(health.components).map(([name, condition]) => row(name, condition));
  for (const worker of health.workers ?? []) rows.push(row(`worker ${worker.worker} (${worker.pid ?? say('nothing')})`, worker.status));
  byId('components').tBodies[0].replaceChildren(...rows);
}

function row(name, condition) {
  // `draining` is a yes or no, of which no is the good one.
  const good = condition === 'ok' || condition === false;
  const words = typeof condition === 'boolean' ? say(condition ? 'yes_value' : 'no_value') : String(condition);
  return make('tr', {}, make('th', {scope: 'row'}, name), make('td', {}, make('span', {class: good ? 'good' : 'bad'}, words)));
}

export function showPlan(config) {
  const plain = Object.entries(config).filter(([, value]) => !isNested(value));
  const nested = Object.entries(config).filter(([, value]) => isNested(value));
  byId('config').replaceChildren(
    listOf(plain),
    ...nested.map(([name, value]) => make('details', {}, make('summary', {}, name), tree(value))),
  );
}

function isNested(value) {
  return value !== null && typeof value === 'object' && Object.keys(value).length > 0;
}

function tree(value) {
  if (!isNested(value)) return make('code', {}, JSON.stringify(value));
  if (Array.isArray(value)) {
    return make('ol', {}, value.map((each) => make('li', {}, tree(each))));
  }
  return listOf(Object.entries(value));
}

function listOf(pairs) {
  return make('dl', {class: 'facts'}, pairs.flatMap(([name, value]) => [make('dt', {}, name), make('dd', {}, tree(value))]));
}
