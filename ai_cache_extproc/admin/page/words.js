// What is said in the reader's language, and how numbers, times and sums are written in it.

const LANGUAGES = ['en', 'zh'];
let words = {};
let language = LANGUAGES[0];

export function say(word, values = {}) {
  return (words[word] ?? word).replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
}

// The language that the page came in.
export function shownLanguage() {
  return LANGUAGES.find((each) => document.documentElement.lang.startsWith(each)) ?? LANGUAGES[0];
}

export function otherLanguage() {
  return LANGUAGES.find((each) => each !== language);
}

// Load a language and say all that stands in the document in it.
export async function speak(wanted) {
  const response = await fetch(`words.${wanted}.json`, {credentials: 'omit'});
  words = await response.json();
  language = wanted;
  document.documentElement.lang = words.lang;
  document.title = words.title;
  for (const each of document.querySelectorAll('[data-word]')) each.textContent = say(each.dataset.word);
  for (const each of document.querySelectorAll('[data-label]')) each.setAttribute('aria-label', say(each.dataset.label));
  document.getElementById('language').lang = otherLanguage() === 'zh' ? 'zh-Hans' : otherLanguage();
}

function known(value) {
  return typeof value === 'number' && Number.isFinite(value);
}

export function number(value, digits = 0) {
  if (!known(value)) return say('nothing');
  return new Intl.NumberFormat(words.lang, {maximumFractionDigits: digits}).format(value);
}

export function share(value, digits = 1) {
  if (!known(value)) return say('nothing');
  return new Intl.NumberFormat(words.lang, {style: 'percent', maximumFractionDigits: digits}).format(value);
}

export function money(value, currency) {
  const digits = Math.abs(value) < 1 ? {maximumSignificantDigits: 3} : {maximumFractionDigits: 2};
  const shown = {style: 'currency', currency, currencyDisplay: 'code', ...digits};
  return new Intl.NumberFormat(words.lang, shown).format(value);
}

export function size(bytes) {
  if (!known(bytes)) return say('nothing');
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${number(bytes / 1024 ** power, power ? 1 : 0)} ${units[power]}`;
}

export function duration(seconds) {
  if (!known(seconds)) return say('nothing');
  if (seconds > 0 && seconds < 1) return say('milliseconds', {count: number(seconds * 1000, seconds < 0.01 ? 2 : 0)});
  if (seconds < 120) return say('seconds', {count: number(seconds, seconds < 10 ? 1 : 0)});
  if (seconds < 7200) return say('minutes', {count: number(seconds / 60)});
  if (seconds < 172_800) return say('hours', {count: number(seconds / 3600, 1)});
  return say('days', {count: number(seconds / 86_400, 1)});
}

export function moment(seconds, {day = false} = {}) {
  if (!known(seconds)) return say('nothing');
  const shown = day ? {dateStyle: 'medium', timeStyle: 'medium'} : {timeStyle: 'medium'};
  return new Intl.DateTimeFormat(words.lang, shown).format(new Date(seconds * 1000));
}
