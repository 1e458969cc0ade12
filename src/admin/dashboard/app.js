// The page: asks how things are, hears of what is done, and draws.

import { Refused, follow, get, of, token } from './api.js';
import { icon } from './draw.js';
import { drainCard, drains } from './drain.js';
import { askForToken, tokenField, tokenUsed, typedToken, useToken } from './dialog.js';
import { KEPT, eventsCard } from './events.js';
import { figures } from './figures.js';
import { number, span, time } from './format.js';
import { migrationCard } from './migrate.js';
import { lookAtMe } from './may.js';
import { everywhere, lookBy, modeCard } from './mode.js';
import { lookAtRuns } from './runs.js';
import { actions, lookAtSessions, lookAtStatements, sessionsCard, statement } from './sessions.js';
import { settingsCard } from './settings.js';
import { lookAtMeasures, statementsCard } from './statements.js';
import { changed, chosen, say, state, whenChanged } from './state.js';
import { h, patch } from './view.js';
import { lookAtWindows, windowCard } from './windows.js';
import { MODES } from './words.js';

/** How often the status is asked for: often enough to be trusted, seldom enough not to be felt. */
const EVERY = 2_000;
const EVERY_UNSEEN = 15_000;
const PACE_EVERY = 5_000;
const PAUSE_MAX = 15_000;

const at = (id) => document.getElementById(id);

// --- asking -------------------------------------------------------------------------------------

let asking = false;
let askAgain = false;
let timer = 0;

/** Looks at once; a look that is under way is followed by another. */
async function look() {
  if (asking) {
    askAgain = true;
    return;
  }
  asking = true;
  clearTimeout(timer);
  try {
    takeIn(await get('/v1/status'));
    reached();
    lookAtBlockers();
  } catch (error) {
    lost(error);
  }
  asking = false;
  const pause = askAgain ? 50 : document.hidden ? EVERY_UNSEEN : EVERY;
  askAgain = false;
  // Where a token is asked for, only a person can go on.
  if (state.line !== 'locked') timer = setTimeout(look, pause);
  changed();
}

function takeIn(status) {
  const before = state.status;
  const modes = new Map((before?.databases ?? []).map((it) => [it.database, it.mode]));
  for (const it of status.databases) {
    const was = modes.get(it.database);
    if (was && was !== it.mode) say(`${it.database} is now ${MODES[it.mode].name.toLowerCase()}.`);
  }
  speed(before, status);
  state.status = status;
  state.skew = new Date(status.started_at).getTime() + status.uptime_ms - Date.now();
  choose(fromHash());
}

/** Transactions a second since the last answer. */
function speed(before, status) {
  const name = state.chosen;
  const find = (of) => of?.databases.find((it) => it.database === name);
  const [was, is] = [find(before), find(status)];
  const ms = before?.started_at === status.started_at ? status.uptime_ms - before.uptime_ms : 0;
  if (!was || !is || ms < 500) return;
  state.rate = { database: name, value: Math.max(0, is.transactions_total - was.transactions_total) / (ms / 1000) };
}

let paceTimer = 0;
async function lookAtPace() {
  clearTimeout(paceTimer);
  const name = state.chosen;
  if (name && !document.hidden && state.line === 'live') {
    try {
      state.pace = await get(of(name, 'pace'));
      changed();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    }
  }
  paceTimer = setTimeout(lookAtPace, PACE_EVERY);
}

/** What those run who are in the way, also while the list of sessions is shut. */
function lookAtBlockers() {
  const database = chosen();
  const pids = database ? drains(database).flatMap((it) => [...it.in_the_way, ...it.bypass]).map((it) => it.pid) : [];
  if (pids.length) lookAtStatements(database.database, [...new Set(pids)]);
}

// --- the line -----------------------------------------------------------------------------------

let stream = null;
let pause = 1_000;
let again = 0;

function reached() {
  if (state.line === 'lost') {
    say('Connected again.');
    listen();
  }
  if (state.line === 'connecting' || state.line === 'locked') listen();
  if (state.line === 'live') return;
  state.line = 'live';
  lookAtMe();
  lookAtAll();
}

function lost(error) {
  if (!(error instanceof Refused)) throw error;
  // 429: too many wrong tokens came from here. Asking on and on would be more of the same.
  if (error.status === 401 || error.status === 429 || (error.status === 403 && !state.status)) {
    state.line = 'locked';
    state.trouble = error.message;
    hush();
    return;
  }
  if (state.line !== 'lost') {
    state.lostAt = Date.now();
    say('The connection to pgdrain is lost.');
  }
  state.line = 'lost';
  state.trouble = error.message;
}

/** Lets the stream go: a browser has six connections to an origin, for all its tabs. */
function hush() {
  stream?.abort();
  stream = null;
  clearTimeout(again);
}

/** Follows the events for as long as the page is seen. */
async function listen() {
  hush();
  if (document.hidden) return;
  const mine = new AbortController();
  stream = mine;
  try {
    await forgetForeignNumbers();
    await follow('/v1/events', state.seen, {
      signal: mine.signal,
      opened: () => { pause = 1_000; changed(); },
      told,
    });
  } catch (error) {
    if (mine.signal.aborted) return;
    if (error instanceof Refused && error.status === 403) return;
  }
  if (mine.signal.aborted) return;
  // A look finds out whether only the stream has ended, or all is gone.
  look();
  state.againAt = Date.now() + pause;
  again = setTimeout(listen, pause);
  pause = Math.min(PAUSE_MAX, pause * 2);
  changed();
}

/** A pgdrain with another state directory counts from one again; ours would be numbers of the future. */
async function forgetForeignNumbers() {
  if (!state.seen) return;
  const { last } = await get(`/v1/events?after=${state.seen}`);
  if (last < state.seen) {
    state.seen = 0;
    state.events = [];
  }
}

function told(id, kind, data) {
  if (kind === 'gap') {
    state.gap = true;
  } else {
    state.seen = id;
    state.events.unshift(data);
    state.events.length = Math.min(state.events.length, KEPT);
  }
  soon();
}

let soonTimer = 0;
/** Many events may come at once. */
function soon() {
  clearTimeout(soonTimer);
  soonTimer = setTimeout(() => {
    look();
    lookAtWindows();
    lookAtRuns();
  }, 100);
  changed();
}

// --- choosing -----------------------------------------------------------------------------------

const fromHash = () => {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return '';
  }
};

function choose(name) {
  const names = state.status?.databases.map((it) => it.database) ?? [];
  const next = names.includes(name) ? name : names.includes(state.chosen) ? state.chosen : busiest();
  if (next === state.chosen) return;
  state.chosen = next;
  state.rate = null;
  if (next) lookAtAll();
  changed();
}

/** What belongs to the chosen database alone. */
function lookAtAll() {
  lookAtPace();
  lookAtWindows();
  lookAtRuns();
  lookAtSessions();
  lookAtMeasures();
}

/** What a person who is called most likely came for: who waits, what is closed, where most is going on. */
function busiest() {
  const rank = (it) => [it.held, it.mode === 'open' ? 0 : 1, it.sessions];
  const sorted = [...(state.status?.databases ?? [])].sort((a, b) => {
    const [x, y] = [rank(a), rank(b)];
    return y[0] - x[0] || y[1] - x[1] || y[2] - x[2];
  });
  return sorted[0]?.database ?? null;
}

// --- drawing ------------------------------------------------------------------------------------

function draw() {
  const { status } = state;
  document.body.dataset.line = state.line;
  patch(at('upstream'), status ? `in front of ${status.upstream}` : '');
  patch(at('line'), line());
  patch(at('trouble'), trouble());
  if (state.line === 'locked') {
    patch(at('databases'));
    patch(at('main'), locked());
    document.title = 'pgdrain asks for a token';
    return;
  }
  if (!status) return;
  patch(at('databases'), status.databases.length > 1 ? tabs(status.databases) : null);
  const database = chosen();
  patch(at('main'), database ? whole(database) : nobody(status));
  patch(at('about'), about(status));
  document.title = database ? title(database) : 'pgdrain';
}

function title(database) {
  const waiting = database.held ? `, ${number(database.held)} waiting` : '';
  return `${MODES[database.mode].name}${waiting} · ${database.database} · pgdrain`;
}

function line() {
  const said = { connecting: 'connecting', live: 'live', lost: 'lost', locked: 'locked' }[state.line];
  return [icon(state.line === 'live' ? 'live' : state.line === 'lost' ? 'lost' : 'unknown'), h('span', null, said)];
}

function trouble() {
  if (state.line !== 'lost') return null;
  const known = state.status ? ` What you see is from ${time(state.lostAt)} and may be wrong by now.` : '';
  const left = state.againAt - Date.now();
  return h('div', { class: 'banner', role: 'alert' }, icon('lost'),
    h('p', null, h('strong', null, 'The connection is lost.'), ` ${state.trouble}${known} Holds end by their own time, whether you see it or not.`),
    h('button', { on: { click: () => { pause = 1_000; look(); } } }, left > 0 ? 'Try now' : 'Trying …'));
}

function tabs(databases) {
  return h('ul', null, databases.map((it) => h('li', { key: it.database },
    h('a', { href: `#${encodeURIComponent(it.database)}`, 'data-mode': it.mode, 'aria-current': it.database === state.chosen ? 'page' : undefined },
      icon(MODES[it.mode].icon), h('span', { class: 'name' }, it.database),
      h('span', { class: 'hint' }, it.held ? `${number(it.held)} wait` : MODES[it.mode].name.toLowerCase())))));
}

function whole(database) {
  return h('div', { class: 'database', key: database.database },
    h('h1', null, database.database),
    modeCard(database),
    figures(database),
    drainCard(database, (it) => [statement(it.pid), actions(it)]),
    windowCard(database),
    migrationCard(database),
    sessionsCard(database),
    statementsCard(database),
    eventsCard(database.database, changed),
    settingsCard());
}

function nobody(status) {
  return h('section', { class: 'card', key: 'nobody' },
    h('h1', null, 'No clients yet'),
    (status.standing ?? []).map((hold) => h('p', { class: 'standing' }, standing(hold))),
    h('p', null, `Databases appear here when somebody connects to them. Clients connect to ${status.listen.join(', ')}.`));
}

/** A hold that nobody has met yet. */
function standing(hold) {
  const mode = hold.mode === 'read_only' ? 'Read-only' : 'Held';
  const why = hold.reason ? ` (${hold.reason})` : '';
  const end = hold.until ? `until ${time(hold.until)}` : 'until somebody opens';
  const what = hold.blocked === 'reject' ? 'is refused' : 'waits';
  return `${mode} for everybody since ${time(hold.since)} by ${hold.by}${why}, ${end}: whoever comes ${what}.`;
}

function about(status) {
  const former = status.former ? h('p', null, 'An older process still serves its sessions.') : null;
  return [everywhere(), h('button', { class: 'quiet', on: { click: () => askForToken(look) } }, token.get() ? 'Another token …' : 'Give a token …'), former, h('p', { class: 'hint', key: 'me' }, me()), h('p', { class: 'hint' }, `pgdrain ${status.version}, up for ${span(status.uptime_ms)}`)];
}

/** Who is looking, as pgdrain knows it. */
function me() {
  if (!state.me) return '';
  return state.me.name ? `You are ${state.me.name} (${state.me.role}).` : 'You have shown no token.';
}

function locked() {
  return h('section', { class: 'card', key: 'locked' },
    h('h1', null, 'A token, please'),
    h('p', null, `This pgdrain says: ${state.trouble}`),
    h('form', { on: { submit: unlock } }, tokenField('token'),
      h('div', { class: 'row' }, h('button', { type: 'submit', class: 'primary' }, 'Go on'))));
}

function unlock(event) {
  event.preventDefault();
  useToken(typedToken('token'));
  at('token').value = '';
  look();
}

// --- beginning ----------------------------------------------------------------------------------

whenChanged(draw);
lookBy(look);
tokenUsed(lookAtMe);
window.addEventListener('hashchange', () => choose(fromHash()));
window.addEventListener('online', () => { if (state.line !== 'locked') look(); });
window.addEventListener('pagehide', hush);
window.addEventListener('pageshow', (event) => { if (event.persisted) wake(); });
document.addEventListener('visibilitychange', () => {
  if (document.hidden) hush();
  else wake();
});

/** Somebody looks again. */
function wake() {
  if (state.line === 'locked') return;
  look();
  lookAtAll();
  listen();
}
// Countdowns go on between two answers.
setInterval(() => { if (!document.hidden) changed(); }, 1_000);
look();
