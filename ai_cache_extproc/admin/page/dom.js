// Elements out of texts. Nothing here, or anywhere on this page, makes markup of a text: what a prompt says stays words.

const SVG = 'http://www.w3.org/2000/svg';

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  // Texts become text nodes.
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

export function byId(id) {
  return document.getElementById(id);
}

// A table with a head; numbers are the columns from the second on, unless it is told otherwise.
export function table(heads, rows, {texts = 1, caption} = {}) {
  const kind = (index) => (index >= texts ? {class: 'number'} : {});
  const head = make('tr', {}, heads.map((text, index) => make('th', {scope: 'col', ...kind(index)}, text)));
  const body = rows.map((row) =>
    make('tr', {}, row.map((cell, index) => make(index ? 'td' : 'th', index ? kind(index) : {scope: 'row'}, cell))),
  );
  return make('table', {}, caption ? make('caption', {}, caption) : null, make('thead', {}, head), make('tbody', {}, body));
}

export function facts(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, value]) => [make('dt', {}, name), make('dd', {}, value)]));
}
