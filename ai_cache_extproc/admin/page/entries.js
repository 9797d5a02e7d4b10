// Entries: searched a page at a time, looked at one by one, removed, or told that they were wrong.

import {Refused, call} from './api.js';
import {byId, facts, make} from './dom.js';
import {duration, moment, number, say, size} from './words.js';

const PAGE = 20;
// A walk over a large store is made of many small calls, so that none of them holds up the sidecar: 25 000 keys at most
// until `More` is asked for.
const KEYS = 32;
const CALLS_MAX = 800;
const ACTS = ['show', 'wrong', 'remove'];

// waiting: found, and not shown until they are asked for. cursor: where the walk goes on, null at its end.
let search = begun('', 0);
let current = null;

function begun(query, number_) {
  return {query, number: number_, cursor: '', scanned: 0, listed: [], waiting: []};
}

export function watchEntries() {
  byId('search').addEventListener('submit', (event) => {
    event.preventDefault();
    find();
  });
  byId('search').addEventListener('reset', () => setTimeout(find));
  byId('more').addEventListener('click', () => goOn(search.number));
  byId('close').addEventListener('click', () => byId('entry').close());
  byId('show').addEventListener('click', () => open(current.id, current.key, {content: true}));
  byId('remove').addEventListener('click', remove);
  byId('wrong').addEventListener('click', sayWrong);
}

// Say again what is on the screen, in the language of now.
export function showEntriesAgain() {
  byId('list').tBodies[0].replaceChildren(...search.listed.map(row));
  tellFound();
}

export function forgetEntries() {
  search = begun('', search.number + 1);
  current = null;
  byId('list').tBodies[0].replaceChildren();
  byId('found').textContent = '';
}

export async function find() {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(byId('search'))) if (value.trim()) query.set(name, value.trim());
  search = begun(query.toString(), search.number + 1);
  byId('list').tBodies[0].replaceChildren();
  await goOn(search.number);
}

async function goOn(number_) {
  byId('more').hidden = true;
  try {
    for (let calls = 0; search.waiting.length < PAGE && search.cursor !== null && calls < CALLS_MAX; calls++) {
      const page = await call(`entries?${search.query}&limit=${PAGE}&keys=${KEYS}&cursor=${encodeURIComponent(search.cursor)}`);
      // Another search has begun meanwhile.
      if (search.number !== number_) return;
      search.cursor = page.cursor;
      search.scanned += page.scanned;
      search.waiting.push(...page.entries);
      byId('found').textContent = say('searching', {scanned: number(search.scanned)});
    }
    const next = search.waiting.splice(0, PAGE);
    search.listed.push(...next);
    byId('list').tBodies[0].append(...next.map(row));
    tellFound();
  } catch (error) {
    tell('found', error);
  }
}

function tellFound() {
  const shown = search.listed.length;
  const isAll = search.cursor === null && !search.waiting.length;
  byId('more').hidden = isAll;
  byId('found').textContent = say(isAll ? (shown ? 'found' : 'found_none') : 'found_more', {shown: number(shown), scanned: number(search.scanned)});
}

function tell(place, error) {
  if (!(error instanceof Refused)) throw error;
  byId(place).textContent = error.status ? say('refused', {reason: error.message}) : say('unreachable');
}

function left(entry) {
  if (entry.expires_s === null) return say('never');
  const seconds = entry.expires_s - Date.now() / 1000;
  return seconds > 0 ? duration(seconds) : say('gone');
}

function since(entry) {
  return entry.created_s > 0 ? duration(Math.max(0, Date.now() / 1000 - entry.created_s)) : say('nothing');
}

function row(entry) {
  const opener = make('button', {type: 'button', class: 'link', 'data-id': entry.id}, make('code', {}, entry.id.slice(0, 12) || say('nothing')));
  opener.addEventListener('click', () => open(entry.id, entry.key));
  const cells = [
    ['id', opener],
    ['model', entry.model],
    ['rule', entry.rule],
    ['dialect', entry.dialect],
    ['tags', entry.tags.join(', ')],
    ['age', since(entry), 'number'],
    ['expires', left(entry), 'number'],
    ['size', size(entry.bytes), 'number'],
  ];
  return make('tr', {}, cells.map(([name, value, look]) => make('td', {'data-name': say(name), class: look}, value || say('nothing'))));
}

// key: where the entry is known to be; without one the store is gone through.
async function open(id, key, {content = false} = {}) {
  const dialog = byId('entry');
  byId('entry-said').textContent = '';
  try {
    const first = key ? `key=${encodeURIComponent(key)}` : '';
    current = await goneThrough(`entries/${encodeURIComponent(id)}?content=${content}`, {first});
  } catch (error) {
    tell(dialog.open ? 'entry-said' : 'found', error);
    return;
  }
  facts(byId('facts'), factsOf(current));
  byId('captures').replaceChildren(...current.captures.map(capture), content || !current.captures.length ? '' : make('p', {class: 'note'}, say('content_note')));
  for (const each of ACTS) byId(each).disabled = false;
  byId('show').disabled = content;
  // Only what another question was asked for can be the wrong answer to this one; what was answered itself is removed.
  byId('wrong').hidden = !current.answered_by;
  byId('show').hidden = !current.captures.length;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

// A store that is too large for one call is gone through with several.
async function goneThrough(path, {first = '', ...options} = {}) {
  let place = first;
  for (let calls = 0; ; calls++) {
    try {
      return await call(place ? `${path}${path.includes('?') ? '&' : '?'}${place}` : path, options);
    } catch (error) {
      const cursor = error.answer?.cursor;
      if (error.status !== 404 || !cursor || calls >= CALLS_MAX) throw error;
      place = `cursor=${encodeURIComponent(cursor)}`;
    }
  }
}

function factsOf(entry) {
  return [
    [say('id'), make('code', {}, entry.id)],
    [say('key'), make('code', {}, entry.key ?? say('nothing'))],
    [say('scope'), make('code', {}, entry.scope || say('nothing'))],
    [say('epoch'), String(entry.epoch)],
    [say('model'), entry.model || say('nothing')],
    [say('rule'), entry.rule || say('nothing')],
    [say('dialect'), entry.dialect],
    [say('tags'), entry.tags.join(', ') || say('nothing')],
    [say('created'), entry.created_s > 0 ? moment(entry.created_s, {day: true}) : say('nothing')],
    [say('expires'), left(entry)],
    ...(entry.answered_by ? [[say('answered_by'), answeredBy(entry.answered_by)]] : []),
    ...(typeof entry.asked === 'string' ? [[say('asked'), make('pre', {tabindex: 0}, entry.asked)]] : []),
  ];
}

// Another entry, whose question was taken for the same.
function answeredBy({id, similarity}) {
  const opener = make('button', {type: 'button', class: 'link'}, make('code', {}, id));
  opener.addEventListener('click', () => open(id, ''));
  return [opener, make('span', {}, ` ${say('similarity_short')} ${number(similarity, 4)}`)];
}

function capture(captured) {
  const list = make('dl', {class: 'facts'});
  facts(list, [
    [say('mode'), captured.mode],
    [say('content_type'), captured.content_type],
    [say('size'), size(captured.bytes)],
    [say('sha256'), make('code', {}, captured.sha256)],
    [say('elapsed'), duration(captured.elapsed_s)],
  ]);
  const content = captured.content === undefined ? [] : [make('h3', {}, say('content')), make('pre', {class: 'content', tabindex: 0}, captured.content)];
  return make('section', {}, list, ...content);
}

// Ask first. Escape is a no.
function sure(title, what) {
  const dialog = byId('sure');
  byId('sure-title').textContent = title;
  byId('sure-what').textContent = what;
  dialog.returnValue = '';
  return new Promise((resolve) => {
    byId('yes').onclick = () => dialog.close('yes');
    byId('no').onclick = () => dialog.close();
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), {once: true});
    dialog.showModal();
    byId('no').focus();
  });
}

async function remove() {
  if (!(await sure(say('sure_remove'), say('sure_remove_what')))) return;
  await act(async () => {
    // Other programs' entries are nobody's but a purge's.
    if (current.key === null) return purgeForeign();
    const {removed} = await goneThrough(`entries/${encodeURIComponent(current.id)}`, {method: 'DELETE'});
    return say('removed', {count: number(removed)});
  });
}

async function purgeForeign() {
  let removed = 0;
  let cursor = '';
  do {
    const answer = await call('purge', {method: 'POST', body: {filter: {id: current.id, foreign: true}, dry_run: false, cursor}});
    removed += answer.removed;
    cursor = answer.cursor;
  } while (cursor);
  return say('removed', {count: number(removed)});
}

async function sayWrong() {
  if (!(await sure(say('sure_wrong'), say('sure_wrong_what')))) return;
  await act(async () => {
    await goneThrough(`entries/${encodeURIComponent(current.id)}/wrong`, {method: 'POST'});
    return say('wrong_done');
  });
}

async function act(work) {
  const buttons = ACTS.map(byId);
  for (const each of buttons) each.disabled = true;
  try {
    byId('entry-said').textContent = await work();
    byId('close').focus();
    find();
  } catch (error) {
    tell('entry-said', error);
    for (const each of buttons) each.disabled = false;
  }
}
