// Five figures, each with its last minutes.

import { spark } from './draw.js';
import { many, number, rate, span } from './format.js';
import { state } from './state.js';
import { measuredUntil, oneIn, took } from './statements.js';
import { h } from './view.js';

/** How many points a line has; more than a phone can show would be lost. */
const POINTS = 100;

/** The section of figures of a database. */
export function figures(database) {
  const pace = state.pace?.database === database.database ? state.pace : null;
  const series = pace ? read(pace) : null;
  const speed = state.rate?.database === database.database ? state.rate.value : series?.lastSpeed ?? null;
  const minutes = pace ? `in the last ${span(pace.running.length * pace.every_ms)}` : '';
  const longest = pace?.longest_ms.at(-1) ?? null;
  return h('section', { class: 'figures', key: 'figures', 'aria-label': 'Figures' },
    tile('Transactions', speed === null ? '–' : rate(speed), 'a second', series?.speed, `Transactions a second ${minutes}`),
    latency(database.database, pace, series, minutes),
    tile('In a transaction', number(database.in_transaction), `of ${many(database.sessions, 'client')}`, series?.running, `Transactions at once ${minutes}`),
    tile('Longest now', span(longest), 'transaction', series?.longest, `The longest transaction ${minutes}`),
    tile('Waiting', number(database.held), database.held ? `the oldest for ${span(database.oldest_wait_ms)}` : 'nobody waits', series?.waiting, `Clients waiting ${minutes}`, database.held ? 'waits' : ''));
}

/** What a statement takes where that is measured; else what a transaction must take by how many there are, which is told. */
function latency(name, pace, series, minutes) {
  const measured = pace?.latency_us?.some((it) => it !== null) ? pace.latency_us.map((us) => (us === null ? null : us / 1000)) : null;
  // It may have been begun elsewhere, and this page not have heard of it yet.
  const lately = pace?.latency_us?.slice(-OVER).some((it) => it !== null);
  if (measured && (lately || measuredUntil(name))) {
    const some = oneIn() === 1 ? 'measured' : `measured, 1 in ${number(oneIn())}`;
    const last = measured.findLast((it) => it !== null);
    return tile('A statement takes', took(last), some, thin(measured, POINTS), `Mean time of a statement as measured ${minutes}`, 'measured');
  }
  const estimate = series ? estimates(pace) : null;
  const last = estimate?.findLast((it) => it !== null) ?? null;
  return tile('A transaction takes', last === null ? '–' : `≈ ${took(last)}`, 'estimated, not measured', estimate && thin(estimate, POINTS), `Mean time of a transaction as estimated ${minutes}`, 'estimated');
}

/**
 * How long a transaction takes, in milliseconds: how many are inside is how often one comes times how long it stays
 * (Little's law). Over as many looks as lie between two counts, at least.
 */
export function estimates({ running, transactions, every_ms: every }) {
  const speed = speeds({ transactions, every_ms: every });
  return running.map((_, at) => {
    if (at + 1 < OVER || !speed[at]) return null;
    const inside = running.slice(at + 1 - OVER, at + 1).reduce((sum, it) => sum + it, 0) / OVER;
    return (inside / speed[at]) * 1000;
  });
}

const OVER = 10;

function tile(name, value, more, values, label, kind = '') {
  return h('div', { class: `tile ${kind}`, key: name },
    h('h3', null, name), h('p', { class: 'value' }, value), h('p', { class: 'hint' }, more), spark(values ?? [], label));
}

function read(pace) {
  const speed = speeds(pace);
  return {
    speed: thin(speed, POINTS),
    running: thin(pace.running, POINTS),
    longest: thin(pace.longest_ms, POINTS),
    waiting: thin(pace.waiting, POINTS),
    lastSpeed: speed.at(-1) ?? null,
  };
}

/** Transactions a second, from totals that are counted now and then. */
export function speeds({ transactions, every_ms: every }) {
  const out = transactions.map(() => null);
  let before = -1;
  transactions.forEach((total, at) => {
    if (total === null) return;
    if (before >= 0) {
      const speed = Math.max(0, total - transactions[before]) / (((at - before) * every) / 1000);
      for (let i = before + 1; i <= at; i += 1) out[i] = speed;
    }
    before = at;
  });
  // What came behind the last count is not known yet; it went on as before, as far as anybody can tell.
  for (let i = before + 1; before > 0 && i < out.length; i += 1) out[i] = out[before];
  return out;
}

/** At most so many values: each is the largest of those it stands for. */
export function thin(values, points) {
  if (values.length <= points) return values;
  const out = [];
  for (let i = 0; i < points; i += 1) {
    const part = values.slice(Math.floor((i * values.length) / points), Math.floor(((i + 1) * values.length) / points)).filter((it) => it !== null);
    out.push(part.length ? Math.max(...part) : null);
  }
  return out;
}
