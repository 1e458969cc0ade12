// What statements take, while somebody measures: begun, looked at, ended.

import { get, of, put } from './api.js';
import { confirm } from './dialog.js';
import { icon } from './draw.js';
import { countdown, many, number, span } from './format.js';
import { button } from './may.js';
import { changed, state, until } from './state.js';
import { h } from './view.js';

const EVERY = 5_000;
const SHOWN = 10;
/** Buckets for each doubling of a time, as a power of two; the same as on the server. */
const FINE = 3;

let read = null;
let open = false;
let timer = 0;

/** Reads what was measured, again and again while it is shown or goes on. */
export async function lookAtMeasures() {
  clearTimeout(timer);
  timer = setTimeout(lookAtMeasures, EVERY);
  const name = state.chosen;
  if (!name || document.hidden || state.line !== 'live') return;
  const elsewhere = state.pace?.database === name && state.pace.latency_us?.slice(-10).some((it) => it !== null);
  if (read?.database === name && !open && !read.until && !elsewhere) return;
  try {
    read = await get(of(name, `statements?limit=${SHOWN}`));
    changed();
  } catch {
    // Told by the line.
  }
}

/** Until when the statements of a database are measured; nothing while they are not. */
export const measuredUntil = (name) => (read?.database === name && read.until && until(read.until) > 0 ? read.until : null);

/** Of so many transactions one is timed. */
export const oneIn = () => read?.measured.one_in ?? 1;

/** The card of what statements take. */
export function statementsCard(database) {
  const mine = read?.database === database.database ? read : null;
  const on = measuredUntil(database.database);
  return h('section', { class: 'card measures', key: 'measures', 'aria-labelledby': 'measures-title' },
    h('details', { open, on: { toggle: (event) => show(event.target.open) } },
      h('summary', null, h('h2', { id: 'measures-title' }, 'What statements take'),
        h('span', { class: 'hint' }, on ? `measured, ${countdown(until(on))} left` : 'not measured')),
      open ? [
        mine ? whole(mine, on) : h('p', { class: 'hint' }, 'Reading …'),
        h('div', { class: 'row', role: 'group', 'aria-label': 'Measuring' },
          button('hold', { key: 'measure', class: 'small', on: { click: () => measure(database) } }, on ? 'Measure longer …' : 'Measure …'),
          on ? button('hold', { key: 'stop', class: 'small', on: { click: () => stop(database) } }, 'Measure no more …') : null)] : null));
}

function show(now) {
  if (now === open) return;
  open = now;
  changed();
  if (open) lookAtMeasures();
}

function whole({ measured }, on) {
  const { latency, units, errors, one_in: every, statements } = measured;
  if (!units) return h('p', { class: 'hint' }, on ? 'Nothing has been answered since it was begun.' : 'Nobody has measured here since pgdrain started. It costs a little time of each message, and ends by itself.');
  const failed = Object.values(errors).reduce((sum, it) => sum + it, 0);
  const states = Object.entries(errors).sort((a, b) => b[1] - a[1]).slice(0, 5).map(([state, count]) => `${state} ${number(count)} times`).join(', ');
  return [
    h('p', { class: 'fact' }, `${on ? 'So far' : 'Then'} ${number(units)} were answered; ${every === 1 ? 'each' : `those of one transaction in ${number(every)}`} was timed: mean ${took(mean(latency))}, half below ${took(quantile(latency, 0.5))}, 99 of 100 below ${took(quantile(latency, 0.99))}.`),
    failed ? h('p', { class: 'warn' }, icon('warning'), h('span', null, `${many(failed, 'error')} went to clients: ${states}.`)) : null,
    h('table', { role: 'table' },
      h('caption', { class: 'unseen' }, 'Statements without their constants, those first that took most time together'),
      h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, ['Statement', ...COLUMNS].map((it) => h('th', { scope: 'col', role: 'columnheader', key: it }, it)))),
      h('tbody', { role: 'rowgroup' }, statements.slice(0, SHOWN).map((it) => row(it, latency.sum_us)))),
  ];
}

const COLUMNS = ['Timed', 'Mean', '99 of 100', 'Share'];

/** On a phone a row is a block whose cells say what they are; roles keep it a table to those who hear it. */
function row(it, all) {
  const cells = [number(it.latency.count), took(mean(it.latency)), took(quantile(it.latency, 0.99)), `${Math.round((it.latency.sum_us / (all || 1)) * 100)} %`];
  const errors = Object.entries(it.errors ?? {}).map(([state, count]) => `${state} ${number(count)} times`).join(', ');
  return h('tr', { key: it.fingerprint, role: 'row' },
    h('th', { scope: 'row', role: 'rowheader' }, h('code', null, it.text), errors ? h('span', { class: 'hint' }, ` ${errors}`) : null),
    cells.map((text, at) => h('td', { key: at, role: 'cell', 'data-what': COLUMNS[at] }, text)));
}

/** A time in milliseconds with what matters of it. */
export const took = (ms) => (ms === null ? '–' : ms < 10 ? `${ms < 1 ? ms.toFixed(2) : ms.toFixed(1)} ms` : span(ms));

const mean = ({ count, sum_us: sum }) => (count ? sum / count / 1000 : null);

/** The time below which this share of them is: the upper end of its bucket, in milliseconds. */
export function quantile({ count, buckets }, share) {
  const wanted = Math.max(1, Math.ceil(count * share));
  let seen = 0;
  for (const [bucket, many] of Object.entries(buckets).map(([at, it]) => [Number(at), it]).sort((a, b) => a[0] - b[0])) {
    seen += many;
    if (seen >= wanted) {
      const shift = (bucket >> FINE) - 1;
      return (shift < 0 ? bucket : ((bucket & 7) + 9) * 2 ** shift - 1) / 1000;
    }
  }
  return null;
}

function measure(database) {
  confirm({
    title: `Measure the statements of ${database.database}?`,
    act: 'Measure',
    fields: [
      { name: 'for', label: 'For how long', kind: 'select', value: '10m', options: [['1m', '1 minute'], ['10m', '10 minutes'], ['1h', '1 hour'], ['8h', '8 hours']] },
      { name: 'one_in', label: 'Which transactions are timed', kind: 'select', value: '', options: [['', 'as is configured'], ['1', 'each'], ['10', 'one in 10'], ['100', 'one in 100']] },
    ],
    body: () => [
      h('h3', null, 'What clients will see'),
      h('p', null, 'Nothing: pgdrain reads along for that time, which costs it a little. Statements are shown without their constants. What was measured before is forgotten.')],
    run: async (values) => {
      const body = { for: values.for, ...(values.one_in ? { one_in: Number(values.one_in) } : {}) };
      await put(of(database.database, 'statements'), body);
      read = null;
      lookAtMeasures();
    },
  });
}

function stop(database) {
  confirm({
    title: 'Measure no more?',
    act: 'Measure no more',
    body: () => h('p', null, 'What was measured stays until it is begun again.'),
    run: async () => {
      await put(of(database.database, 'statements'), { for: '0s' });
      read = null;
      lookAtMeasures();
    },
  });
}
