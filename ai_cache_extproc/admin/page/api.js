// Calls of the admin API. The token lives in this module's memory and nowhere else.

const WAIT_MS = 30_000;
let token = '';

// What the sidecar said no with; status 0 where it did not answer.
export class Refused extends Error {
  constructor(status, reason, answer = null) {
    super(reason);
    this.status = status;
    this.answer = answer;
  }
}

// Whether a text can be sent as a token.
export function sendable(text) {
  return /^[\x21-\x7e]+$/.test(text);
}

export function holdToken(text) {
  token = text;
}

// Answers are documents: 503 of a health page is one too, so it is for the caller to allow.
export async function call(path, {method = 'GET', body, allow = []} = {}) {
  const headers = {accept: 'application/json'};
  if (token) headers.authorization = `Bearer ${token}`;
  const options = {method, headers, cache: 'no-store', credentials: 'omit', redirect: 'error', referrerPolicy: 'no-referrer'};
  if (body !== undefined) options.body = JSON.stringify(body);
  let response, answer;
  try {
    response = await fetch(new URL(`../${path}`, document.baseURI), {...options, signal: AbortSignal.timeout(WAIT_MS)});
    answer = await response.json();
  } catch {
    throw new Refused(response ? response.status : 0, response ? String(response.status) : '');
  }
  if (!response.ok && !allow.includes(response.status)) {
    throw new Refused(response.status, String(answer.error ?? response.status), answer);
  }
  return answer;
}
