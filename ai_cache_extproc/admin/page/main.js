// Begins here: the token, the sections it opens, and asking again every few seconds.

import {Refused, call, holdToken, sendable} from './api.js';
import {byId} from './dom.js';
import {find, forgetEntries, showEntriesAgain, watchEntries} from './entries.js';
import {showHealth, showPlan, showRunning, showState} from './health.js';
import {showOverview} from './overview.js';
import {duration, otherLanguage, say, shownLanguage, speak} from './words.js';

const EVERY_MS = 5_000;
let isOpen = false;
let last = {};
let asking = false;

function reveal(opened) {
  isOpen = opened;
  for (const each of document.querySelectorAll('.needs-token')) each.hidden = !opened;
  byId('sign-in').hidden = opened;
}

// Health is for everyone, so it is asked for without a token too.
async function ask() {
  if (asking) return;
  asking = true;
  try {
    const seconds = byId('period').value;
    const calls = [call('readyz', {allow: [503]})];
    if (isOpen) calls.push(call('stats'), call(`overview${seconds ? `?seconds=${seconds}` : ''}`));
    const [health, stats, overview] = await Promise.all(calls);
    last = {...last, health, stats: stats ?? last.stats, overview: overview ?? last.overview};
    show();
  } catch (error) {
    fail(error);
  } finally {
    asking = false;
  }
}

function fail(error) {
  if (!(error instanceof Refused)) throw error;
  if (isOpen && (error.status === 401 || error.status === 403)) return signOut(error.message);
  byId('state').textContent = error.status ? say('refused', {reason: error.message}) : say('unreachable');
  byId('state').className = 'bad';
}

function show() {
  if (last.health) {
    showState(last.health);
    showHealth(last.health);
  }
  showRunning(isOpen && last.stats, last.stats && duration(last.stats.uptime_s));
  if (isOpen && last.overview) showOverview(last.overview, last.stats);
  if (isOpen && last.config) showPlan(last.config);
}

async function signIn(event) {
  event.preventDefault();
  const field = byId('token');
  const fault = byId('sign-in-fault');
  const typed = field.value.trim();
  fault.textContent = '';
  if (!sendable(typed)) {
    fault.textContent = say('bad_token');
    field.focus();
    return;
  }
  holdToken(typed);
  try {
    last.config = await call('config');
  } catch (error) {
    holdToken('');
    if (!(error instanceof Refused)) throw error;
    fault.textContent = error.status ? say('refused', {reason: error.message}) : say('unreachable');
    field.focus();
    return;
  }
  field.value = '';
  reveal(true);
  byId('main').focus({preventScroll: true});
  await Promise.all([ask(), find()]);
}

// Nothing that the token opened stays in the document.
function signOut(reason = '') {
  holdToken('');
  last = {};
  reveal(false);
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  for (const id of ['cards', 'config', 'facts', 'captures', 'running']) byId(id).replaceChildren();
  for (const figure of document.querySelectorAll('figure')) {
    figure.replaceChildren();
    figure.drawTable = null;
  }
  forgetEntries();
  byId('sign-in-fault').textContent = reason && say('refused', {reason});
  byId('token').focus();
}

async function turn(language) {
  try {
    await speak(language);
  } catch {
    byId('state').textContent = say('language_fault');
    return;
  }
  show();
  if (isOpen) showEntriesAgain();
}

byId('sign-in-form').addEventListener('submit', signIn);
byId('forget').addEventListener('click', () => signOut());
byId('language').addEventListener('click', () => turn(otherLanguage()));
byId('period').addEventListener('change', ask);
document.addEventListener('visibilitychange', () => document.hidden || ask());
addEventListener('resize', () => show());
watchEntries();
await turn(shownLanguage());
await ask();
setInterval(() => document.hidden || ask(), EVERY_MS);
