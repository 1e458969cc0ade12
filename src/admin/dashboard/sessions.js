// Who is connected, what they run, and what can be done about one of them. A page of them at a time: there may
// be ten thousand.

import { get, of, post } from './api.js';
import { confirm, said, who } from './dialog.js';
import { icon } from './draw.js';
import { bytes, number, span, time } from './format.js';
import { button } from './may.js';
import { changed, since, state } from './state.js';
import { h } from './view.js';
import { SESSION_STATES } from './words.js';

const PAGE = 50;
const EVERY = 3_000;

const SORTS = [
  ['transaction', 'oldest transaction'], ['held', 'longest wait'], ['id', 'oldest session'],
  ['transactions', 'most transactions'], ['bytes_out', 'most bytes'], ['user', 'user'], ['application', 'application'],
];
const STATES = [['', 'any'], ...['active', 'in_transaction', 'held', 'idle', 'aborted'].map((it) => [it, SESSION_STATES[it]])];

/** How the list is looked at. The cursors lead to this page, the last one from the page before it. */
const view = { open: false, state: '', sort: 'transaction', user: '', application: '', cursors: [''] };
/** The page that was last read, and what its sessions run. */
let page = null;
let statements = new Map();
let trouble = '';
let timer = 0;
let asked = 0;

/** Reads the page of the list that is shown, and again while it is shown. */
export async function lookAtSessions() {
  clearTimeout(timer);
  timer = setTimeout(lookAtSessions, EVERY);
  const name = state.chosen;
  if (!view.open || !name || document.hidden || state.line !== 'live') return;
  const mine = ++asked;
  try {
    const read = await get(of(name, `sessions?${query()}`));
    if (mine !== asked) return;
    page = { database: name, ...read };
    trouble = '';
  } catch (error) {
    if (mine !== asked) return;
    trouble = error.message;
    // The page before may be gone by now.
    if (error.status === 400) view.cursors = [''];
  }
  changed();
  if (page) await lookAtStatements(name, page.sessions.map((it) => it.pid));
}

function query() {
  const parts = new URLSearchParams({ sort: view.sort, limit: String(PAGE) });
  for (const key of ['state', 'user', 'application']) if (view[key]) parts.set(key, view[key]);
  const cursor = view.cursors.at(-1);
  if (cursor) parts.set('cursor', cursor);
  return parts;
}

/** Asks what these run; what is known stays until it is known better. */
export async function lookAtStatements(name, pids) {
  const known = pids.filter((pid) => Number.isInteger(pid));
  if (!known.length) return;
  try {
    const answer = await get(of(name, `running?pids=${known.slice(0, 200).join(',')}`));
    if (statements.size > 1000) statements = new Map();
    for (const it of answer.statements) statements.set(it.pid, it);
    changed();
  } catch {
    // The list says who and since when; the texts are more, and may not be had.
    statements = new Map();
  }
}

/** The statement of a session, as it was last seen. */
export function statement(pid) {
  const it = statements.get(pid);
  if (!it?.text) return null;
  const blocked = it.blocked_by.length ? `, behind ${it.blocked_by.map((by) => (by === 0 ? 'a prepared transaction' : `pid ${by}`)).join(', ')}` : '';
  return h('div', { class: 'statement' },
    h('pre', { class: it.running ? '' : 'over' }, it.text, it.cut ? ' …' : ''),
    it.hidden ? h('p', { class: 'hint' }, 'without its constants: you may only look') : null,
    it.waits_for ? h('p', { class: it.blocked_by.length ? 'warn' : 'hint' }, it.blocked_by.length ? icon('warning') : null,
      h('span', null, `waits for ${it.waits_for}${blocked}`)) : it.running ? null : h('p', { class: 'hint' }, 'the last one; it has ended'));
}

/** The card of sessions. */
export function sessionsCard(database) {
  const mine = page?.database === database.database ? page : null;
  return h('section', { class: 'card sessions', key: 'sessions', 'aria-labelledby': 'sessions-title' },
    h('details', { open: view.open, on: { toggle: (event) => show(event.target.open) } },
      h('summary', null, h('h2', { id: 'sessions-title' }, `Sessions (${number(database.sessions)})`)),
      view.open ? [filters(), trouble ? h('p', { class: 'warn', role: 'status' }, icon('warning'), trouble) : null,
        mine ? list(mine) : h('p', { class: 'hint' }, 'Reading …')] : null));
}

function show(open) {
  if (open === view.open) return;
  view.open = open;
  changed();
  if (open) lookAtSessions();
}

function filters() {
  const set = (key) => (event) => {
    view[key] = event.target.value.trim();
    view.cursors = [''];
    lookAtSessions();
  };
  const choice = (key, label, options) => h('div', { class: 'field', key },
    h('label', { for: `by-${key}` }, label),
    h('select', { id: `by-${key}`, value: view[key], on: { change: set(key) } }, options.map(([value, text]) => h('option', { value }, text))));
  const text = (key, label) => h('div', { class: 'field', key }, h('label', { for: `by-${key}` }, label),
    h('input', { id: `by-${key}`, type: 'search', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none', on: { change: set(key) } }));
  return h('div', { class: 'filters', role: 'search', 'aria-label': 'Sessions' },
    choice('state', 'State', STATES), choice('sort', 'First', SORTS), text('user', 'User'), text('application', 'Application'));
}

function list(mine) {
  const { cursors } = view;
  const first = (cursors.length - 1) * PAGE;
  const total = mine.total ?? mine.sessions.length;
  const turn = (to) => () => {
    view.cursors = to;
    lookAtSessions();
  };
  return [
    mine.sessions.length ? h('ul', { class: 'people' }, mine.sessions.slice(0, PAGE).map(row)) : h('p', { class: 'hint' }, 'No such session.'),
    total > PAGE || cursors.length > 1 ? h('div', { class: 'row pages', role: 'group', 'aria-label': 'Pages' },
      h('button', { class: 'small', disabled: cursors.length === 1, on: { click: turn(cursors.slice(0, -1)) } }, 'Before'),
      h('span', { class: 'hint' }, `${number(first + 1)} to ${number(first + Math.min(PAGE, mine.sessions.length))} of ${number(total)}`),
      h('button', { class: 'small', disabled: !mine.next, on: { click: turn([...cursors, mine.next]) } }, 'Next')) : null,
  ];
}

function row(it) {
  const age = it.held_ms !== null ? ` for ${span(it.held_ms)}` : it.transaction_age_ms !== null ? `, its transaction open for ${span(it.transaction_age_ms)}` : '';
  return h('li', { key: it.id, class: 'session' },
    h('div', { class: 'top' },
      h('p', null, h('strong', null, `pid ${it.pid ?? '?'}`), ` ${it.user}`, it.application_name ? ` · ${it.application_name}` : '', ` · ${it.client}`),
      h('p', { class: `state ${it.state}` }, SESSION_STATES[it.state] ?? it.state, age)),
    it.replication ? h('p', { class: 'hint' }, `replication, ${it.replication}`) : null,
    it.window ? h('p', { class: 'hint' }, `works in window ${it.window}`) : null,
    it.state === 'active' || it.state === 'in_transaction' ? statement(it.pid) : null,
    h('p', { class: 'hint' }, `since ${time(it.connected_at)} (${span(since(it.connected_at))}), ${number(it.transactions)} transactions, ${bytes(it.bytes_in)} in, ${bytes(it.bytes_out)} out`),
    actions({ session: it.id, ...it }));
}

const ACTS = {
  cancel: {
    label: 'Cancel', fits: (it) => it.state === 'active' || it.state === 'held',
    sees: 'What it runs fails with 57014 (query_canceled); the transaction that it is in fails with it. What waits at the gate is not executed. The connection lives.',
  },
  abort: {
    label: 'Abort', fits: (it) => it.state === 'in_transaction',
    sees: 'If its transaction sits idle, it is rolled back: its next statement fails with 40001, which says that it may be run again. The connection lives.',
  },
  terminate: {
    label: 'Terminate', fits: () => true,
    sees: 'It gets 57P01 and the connection ends. What it did not commit is rolled back; the application has to connect again.',
  },
};

/** What can be done about a session: `session` is its number, without which there is none. */
export function actions(it) {
  if (it.session === null || it.session === undefined) return null;
  const fitting = Object.entries(ACTS).filter(([, act]) => act.fits(it));
  return h('div', { class: 'row', role: 'group', 'aria-label': `Session of pid ${it.pid}` },
    fitting.map(([name, act]) => button('hold', { key: name, class: 'small', 'aria-label': `${act.label} the session of pid ${it.pid}`,
      on: { click: () => askFor(name, act, it) } }, `${act.label} …`)));
}

function askFor(name, act, it) {
  confirm({
    title: `${act.label} pid ${it.pid ?? '?'}?`,
    act: act.label,
    danger: true,
    fields: who(),
    body: () => [
      h('p', null, `${it.user}${it.application_name ? ` · ${it.application_name}` : ''} · ${it.client}`),
      h('p', { class: 'hint' }, `${SESSION_STATES[it.state] ?? it.state}${it.transaction_age_ms !== null && it.transaction_age_ms !== undefined ? `, its transaction open for ${span(it.transaction_age_ms)}` : ''}`),
      statement(it.pid),
      h('h3', null, 'What its client will see'), h('p', null, act.sees)],
    run: async (values) => {
      const acted = await post(`/v1/sessions/${it.session}/${name}`, said(values, 'reason', 'by'));
      result(name, acted);
      lookAtSessions();
    },
  });
}

/** What came of it is not always what was asked for. */
function result(name, acted) {
  setTimeout(() => confirm({
    title: `pid ${acted.pid ?? '?'}: ${String(acted.effect ?? name).replaceAll('_', ' ')}`,
    body: () => h('p', null, acted.client_sees ?? 'It was asked to.'),
  }), 0);
}
