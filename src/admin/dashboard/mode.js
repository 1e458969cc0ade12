// The mode of a database: what it is, why, until when; and the ways to another one.

import { get, of, put } from './api.js';
import { capButtons, capped } from './cap.js';
import { confirm, said, who } from './dialog.js';
import { icon } from './draw.js';
import { countdown, many, number, plain, span, time } from './format.js';
import { barred, button } from './may.js';
import { forecast, precheck } from './precheck.js';
import { changed, since, until } from './state.js';
import { h } from './view.js';
import { HOLDERS, LADDERS, LADDER_MEANS, MODES } from './words.js';

/** What is done when something was asked for: the page looks at once. */
let look = () => {};
export const lookBy = (then) => { look = then; };

/** The card that says how traffic is. */
export function modeCard(database) {
  const mode = MODES[database.mode];
  return h('section', { class: 'card mode', 'data-mode': database.mode, 'aria-labelledby': 'mode-title' },
    h('h2', { id: 'mode-title' }, icon(mode.icon), h('span', null, mode.name)),
    h('p', { class: 'lead' }, lead(database)),
    database.holds.map(hold),
    (database.scopes ?? []).map(scope),
    capped(database),
    database.fence ? h('p', { class: 'fact' }, `The server keeps new sessions out (a fence is up)${database.fence.parked ? `; ${many(database.fence.parked, 'client waits', 'clients wait')} to connect` : ''}.`) : null,
    buttons(database),
    h('div', { class: 'row more', role: 'group', 'aria-label': 'Before and beside it' },
      h('button', { key: 'look', class: 'quiet small', on: { click: () => precheck(database) } }, 'Precheck …'), capButtons(database)),
    barred('hold'));
}

function lead(database) {
  const waits = database.held
    ? ` ${many(database.held, 'client waits', 'clients wait')}, the oldest for ${span(database.oldest_wait_ms)}.`
    : database.mode === 'open' ? '' : ' Nobody waits.';
  return MODES[database.mode].lead + waits;
}

function hold(it) {
  const where = HOLDERS[it.holder];
  return h('div', { class: 'hold', key: `${it.holder}-${it.generation}` },
    h('dl', null,
      pair('Since', `${time(it.since)}, ${span(since(it.since))} ago`),
      pair('By', `${it.by}${where ? ` (${where})` : ''}`),
      pair('Why', it.reason || 'no reason was given'),
      pair('Blocked', it.blocked === 'queue' ? 'wait in line' : 'are refused at once')),
    it.until ? h('p', { class: 'until' },
      h('span', { class: 'clock', role: 'timer', 'aria-live': 'off' }, countdown(until(it.until))),
      h('span', null, it.then === 'open' ? `until it opens by itself, at ${time(it.until)}` : `until ${time(it.until)}; then it stays, and is overdue`)) : null,
    it.overdue ? h('p', { class: 'warn' }, icon('warning'), 'Its time has passed and it stays. Somebody has to open.') : null,
    it.stays ? h('p', { class: 'warn' }, icon('warning'), it.stays) : null,
    it.enforcement ? h('p', { class: 'fact' },
      `The server refuses writes in ${many(it.enforcement.enforced, 'session')}; ${number(it.enforcement.pending)} to come, ${number(it.enforcement.exempt)} exempt.`) : null);
}

const pair = (name, text) => h('div', { key: name }, h('dt', null, name), h('dd', null, text));

function scope(it) {
  const whom = Object.entries(it.scope).filter(([, value]) => value).map(([name, value]) => `${plain(name)} ${value}`).join(', ');
  return h('p', { class: 'fact', key: `scope-${whom}` },
    `Also ${it.holds.map((one) => MODES[one.mode].name.toLowerCase()).join(', ')} for ${whom}: ${many(it.held, 'client waits', 'clients wait')}.`);
}

function buttons(database) {
  const { mode } = database;
  return h('div', { class: 'actions', role: 'group', 'aria-label': `Mode of ${database.database}` },
    mode !== 'open' ? button('open', { key: 'open', class: 'primary', on: { click: () => open(database) } }, icon('open'), 'Open …') : null,
    button('hold', { key: 'read_only', on: { click: () => close(database, 'read_only') } }, icon('read_only'), mode === 'read_only' ? 'Read only again …' : 'Read only …'),
    button('hold', { key: 'hold', on: { click: () => close(database, 'hold') } }, icon('hold'), mode === 'hold' ? 'Hold again …' : 'Hold …'));
}

/** For how long traffic is kept waiting. */
export const TIMES = [['1m', '1 minute'], ['2m', '2 minutes'], ['5m', '5 minutes'], ['10m', '10 minutes'], ['30m', '30 minutes']];

/** Asks, and then holds or lets only reads in. */
export function close(database, mode) {
  const everywhere = database.database === '*';
  const name = everywhere ? 'every database' : database.database;
  const reads = mode === 'read_only';
  let found = null;
  const condition = unchanged(database, reads ? 'Read only' : 'Hold');
  confirm({
    ...condition.question,
    title: reads ? `Let only reads into ${name}?` : `Hold ${name}?`,
    fields: [
      { name: 'for', label: 'For how long', kind: 'select', options: TIMES, value: '5m' },
      { name: 'then', label: 'When that time is over', kind: 'select', value: 'open',
        options: [['open', 'open by itself'], ['stay', 'stay, and say that it is overdue']] },
      { name: 'blocked', label: reads ? 'What writes' : 'Whoever begins a transaction', kind: 'select', value: 'queue',
        options: [['queue', 'waits in line'], ['reject', `is refused at once with ${reads ? '25006' : '55P03'}`]] },
      { name: 'ladder', label: 'Those who are inside', kind: 'select', value: 'gentle', options: LADDERS },
      ...who(),
    ],
    body: (values) => [
      h('h3', null, 'What clients will see'),
      h('ul', { class: 'means' }, inside(database, reads), LADDER_MEANS[values.ladder].map((text) => h('li', null, text)),
        h('li', null, waits(values, reads)),
        h('li', null, 'If somebody is still inside at the end, traffic is opened again and you are told who.')),
      everywhere ? null : forecast(found, values.ladder)],
    run: async (values) => {
      const { blocked, ladder, then } = values;
      const rule = reads ? { mode, writes: blocked } : { mode, blocked };
      await condition.put({ ...rule, ladder, then, for: values.for, ...said(values, 'reason', 'by') });
    },
    opened: (again) => {
      condition.look();
      if (everywhere) return;
      const query = reads ? '?mode=read_only' : '';
      get(of(database.database, `precheck${query}`)).then((it) => { found = it; }, (error) => { found = { error }; }).finally(again);
    },
  });
}

function inside(database, reads) {
  if (database.database === '*') return h('li', null, 'Every database is meant, those that clients have not asked for yet too.');
  const sessions = many(database.sessions, 'client is', 'clients are');
  const text = `${sessions} connected, ${number(database.in_transaction)} of them in a transaction${reads ? '; reads among them go on' : ''}.`;
  return h('li', null, text);
}

function waits(values, reads) {
  const whom = reads ? 'What writes' : 'Whoever begins a transaction';
  const end = values.then === 'open' ? 'until you open or the time is over' : 'until you open';
  return values.blocked === 'queue'
    ? `${whom} waits ${end}, without an error, but no longer than one client may (hold.client_deadline); then it gets ${reads ? '25006' : '55P03'}, which says that nothing was executed.`
    : `${whom} gets ${reads ? '25006' : '55P03'} at once. Nothing of it is executed.`;
}

/**
 * Changes the mode only if it is still the one that the question was about. Whoever changed it meanwhile is named, and it
 * is asked again: the button then says that it is done all the same, to what there is by then.
 */
function unchanged(database, act) {
  let tag = database.tag ?? null;
  let changedBy = null;
  return {
    question: {
      act: () => (changedBy ? `${act} all the same` : act),
      wrong: (error) => (error.code === 'changed' && changedBy ? h('ul', { class: 'means' }, changedBy.map((text) => h('li', { key: text }, text))) : null),
    },
    /** Of all databases together only the server has a name. */
    look: () => {
      if (tag === null) get(of(database.database, 'mode')).then((it) => { tag = it.tag; }, () => {});
    },
    put: async (body) => {
      try {
        await put(of(database.database, 'mode'), body, tag ? { more: { 'if-match': `"${tag}"` } } : {});
      } catch (error) {
        if (error.code !== 'changed' || !error.present) throw error;
        tag = error.present.tag;
        changedBy = error.present.databases.map(present);
        error.message = 'Somebody else changed it while you were asked. This is how it is now; look again whether you still want it.';
        look();
        throw error;
      }
      look();
    },
  };
}

/** How a database is, for somebody who thought that it was otherwise. */
function present(it) {
  const holds = it.holds.map((hold) => `${MODES[hold.mode].name.toLowerCase()} by ${hold.by}${hold.reason ? ` (${hold.reason})` : ''} since ${time(hold.since)}${hold.until ? `, until ${time(hold.until)}` : ''}`);
  const some = it.scopes.length ? `; also ${many(it.scopes.length, 'hold')} for some clients` : '';
  return `${it.database}: ${holds.length ? holds.join('; ') : 'open'}${some}.`;
}

/** Asks, and then opens. */
export function open(database) {
  const everywhere = database.database === '*';
  const windows = (database.holds ?? []).some((it) => it.holder === 'window');
  const condition = unchanged(database, 'Open');
  confirm({
    ...condition.question,
    title: `Open ${everywhere ? 'every database' : database.database}?`,
    fields: who(),
    body: () => [
      h('h3', null, 'What clients will see'),
      h('ul', { class: 'means' },
        h('li', null, everywhere ? 'Whoever waits goes on, oldest first.'
          : `${many(database.held, 'client goes', 'clients go')} on, oldest first; newcomers come in behind them.`),
        h('li', null, 'No statement is lost: what waited is executed now, once.'),
        database.migration ? h('li', null, 'A migration runs. Opening does not stop it; pgdrain refuses while its window needs to be alone.') : null,
        windows && !database.migration ? h('li', null, 'A window holds it. Opening is refused as long as somebody works in it.') : null)],
    opened: condition.look,
    run: (values) => condition.put({ mode: 'open', ...said(values, 'reason', 'by') }),
    otherwise: (error) => (error.code !== 'held' ? null : {
      label: 'Open by force',
      run: (values) => condition.put({ mode: 'open', force: true, ...said(values, 'reason', 'by') }),
    }),
  });
}

/** The same for all at once. */
export function everywhere() {
  const all = { database: '*', holds: [], sessions: 0, in_transaction: 0 };
  return h('div', { class: 'everywhere', role: 'group', 'aria-label': 'Every database' },
    button('hold', { class: 'quiet', on: { click: () => close(all, 'hold') } }, 'Hold all …'),
    button('open', { class: 'quiet', on: { click: () => open(all) } }, 'Open all …'));
}

/** After something was done elsewhere on the page. */
export const done = () => {
  look();
  changed();
};
