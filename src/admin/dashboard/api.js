// The admin HTTP: questions, answers, and the stream of events.
//
// The stream is read by fetch and not by EventSource, which cannot send a token.

const KEY = 'pgdrain.token';

/** Something that the API refused, or that did not reach it. */
export class Refused extends Error {
  constructor(status, code, message, said) {
    super(message);
    this.status = status;
    this.code = code;
    this.results = said?.results ?? [];
    /** How the mode is that was to be changed, and what is wrong with a configuration. */
    this.present = said?.present ?? null;
    this.problems = said?.problems ?? [];
  }
}

/** The token of this tab; it is gone when the tab is closed. */
export const token = {
  get: () => sessionStorage.getItem(KEY) ?? '',
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

function headers(more) {
  const known = token.get();
  return known ? { authorization: `Bearer ${known}`, ...more } : { ...more };
}

/** Asks, and gives the JSON of the answer. Throws `Refused`. */
export async function ask(method, path, body, { signal, patience = 20_000, more } = {}) {
  const late = AbortSignal.timeout(patience);
  let answer;
  let text;
  try {
    answer = await fetch(path, {
      method,
      headers: headers(body === undefined ? more : { 'content-type': 'application/json', ...more }),
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, late]) : late,
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
    });
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    const why = late.aborted ? 'pgdrain did not answer in time' : 'pgdrain cannot be reached';
    throw new Refused(0, 'unreachable', `${why}.`);
  }
  let json = null;
  try {
    json = text ? JSON.parse(text) : null;
  } catch {
    throw new Refused(answer.status, 'no_json', `The answer (status ${answer.status}) is not of pgdrain.`);
  }
  if (answer.ok) return json;
  const said = json?.error;
  throw new Refused(answer.status, said?.code ?? 'unknown', said?.message ?? `Status ${answer.status}.`, json);
}

export const get = (path, options) => ask('GET', path, undefined, options);
export const put = (path, body, options) => ask('PUT', path, body, options);
export const post = (path, body, options) => ask('POST', path, body, options);

/** The path of something of a database. */
export const of = (database, rest) => `/v1/databases/${encodeURIComponent(database)}/${rest}`;

// The server fills silence every 15 s; so long after the last byte the line counts as dead.
const SILENCE = 40_000;

/**
 * Reads server-sent events until the stream ends; throws when it breaks. `seen` is the number of the last
 * event that is known. Only what pgdrain sends is understood: `id`, `event`, `data` in one line, comments.
 */
export async function follow(path, seen, { opened, told, signal }) {
  const broken = new AbortController();
  let dog = setTimeout(() => broken.abort(), SILENCE);
  const alive = () => {
    clearTimeout(dog);
    dog = setTimeout(() => broken.abort(), SILENCE);
  };
  try {
    const answer = await fetch(path, {
      headers: headers({ accept: 'text/event-stream', ...(seen ? { 'last-event-id': String(seen) } : {}) }),
      signal: AbortSignal.any([signal, broken.signal]),
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
    });
    if (!answer.ok) throw new Refused(answer.status, 'no_stream', `The events are refused: status ${answer.status}.`);
    opened();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      const blocks = (rest + value).split('\n\n');
      rest = blocks.pop();
      for (const block of blocks) understand(block, told);
    }
  } finally {
    clearTimeout(dog);
  }
}

function understand(block, told) {
  const event = { id: 0, kind: '', data: '' };
  for (const line of block.split('\n')) {
    if (line.startsWith('id: ')) event.id = Number(line.slice(4));
    else if (line.startsWith('event: ')) event.kind = line.slice(7);
    else if (line.startsWith('data: ')) event.data = line.slice(6);
  }
  if (event.kind) told(event.id, event.kind, JSON.parse(event.data));
}
