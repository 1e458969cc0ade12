// Windows that somebody asked for: where each stands, what is left of it, and the way out.

import { get, of, post } from './api.js';
import { confirm, said, who } from './dialog.js';
import { icon } from './draw.js';
import { countdown, many, plain, span, time } from './format.js';
import { button } from './may.js';
import { done } from './mode.js';
import { changed, now, since, state } from './state.js';
import { h } from './view.js';

const EVERY = 2_500;
const EVERY_QUIET = 12_000;

const STAGES = {
  queued: 'Queued', capped: 'Capped', read_only: 'Reads only', draining: 'Draining', exclusive: 'Exclusive', ending: 'Ending', closed: 'Closed',
};
/** Stages that every window comes through; the others are shown when it is in one. */
const ALWAYS = ['draining', 'exclusive', 'ending', 'closed'];

let list = null;
let readAt = 0;
let timer = 0;

/** Reads the windows of the database that is shown, again and again. */
export async function lookAtWindows() {
  clearTimeout(timer);
  timer = setTimeout(lookAtWindows, current() ? EVERY : EVERY_QUIET);
  const name = state.chosen;
  if (!name || document.hidden || state.line !== 'live') return;
  try {
    const { windows } = await get(of(name, 'windows'));
    list = { database: name, windows };
    readAt = now();
    changed();
  } catch {
    // Told by the line: whatever keeps this from being read keeps the status too.
  }
}

const current = () => list?.windows.findLast((it) => it.state !== 'closed');

/** What is left of something that was so long when it was read. */
const left = (ms) => countdown(ms - (now() - readAt));

/** The card of the window that is open, or of the last one. */
export function windowCard(database) {
  if (list?.database !== database.database) return null;
  const open = list.windows.filter((it) => it.state !== 'closed');
  const last = list.windows.at(-1);
  const shown = open.length ? open : last && since(last.since) < 3_600_000 ? [last] : [];
  return shown.map(one);
}

function one(it) {
  const over = it.state === 'closed';
  return h('section', { class: 'card window', key: `window-${it.id}`, 'aria-label': `Window ${it.id}` },
    h('h2', null, over ? 'Last window' : it.mode === 'read_only' ? 'Window to write alone' : 'Window'),
    h('p', { class: 'lead' }, over ? ended(it) : `By ${it.by}${it.reason ? `: ${it.reason}` : ''}. Asked for at ${time(it.since)}.`),
    timeline(stages(it), it.state, STAGES),
    over ? null : h('div', { class: 'clocks' },
      it.left_ms === null ? null : clock(it.left_ms, 'left of the window'),
      it.lease_left_ms === null ? null : clock(it.lease_left_ms, 'until its holder must renew')),
    over ? null : h('p', { class: 'fact' }, facts(it)),
    it.detail && !over ? h('p', { class: 'hint' }, it.detail) : null,
    over || it.state === 'ending' ? null : h('div', { class: 'row' },
      button('hold', { key: 'finish', on: { click: () => finish(it) } }, 'Finish it …'),
      button('hold', { key: 'abort', class: 'danger', on: { click: () => abort(it) } }, 'Abort this window …')));
}

function ended(it) {
  return `${it.by}${it.reason ? `, ${it.reason}` : ''}: ${plain(it.why ?? 'over')}${it.after === 'stay' ? '; traffic stayed held' : ''}. Asked for at ${time(it.since)}.${it.detail ? ` ${it.detail}` : ''}`;
}

function facts(it) {
  const inside = `${many(it.connections_now, 'connection')} of it inside, ${it.connections_used} came${it.connections_allowed ? ` of ${it.connections_allowed}` : ''}`;
  const drained = it.drained_percent === null ? '' : `, ${it.drained_percent} % drained`;
  const place = it.position === null ? '' : ` ${many(it.position, 'window')} before it.`;
  return `${many(it.held, 'client waits', 'clients wait')}; ${inside}${drained}.${place} If its holder is lost, traffic ${it.on_lost === 'stay' ? 'stays held' : 'reopens'}.`;
}

const clock = (ms, text) => h('p', { class: 'until', key: text },
  h('span', { class: 'clock', role: 'timer', 'aria-live': 'off' }, left(ms)), h('span', null, text));

const stages = (it) => Object.keys(STAGES).filter((stage) => ALWAYS.includes(stage) || stage === it.state);

/** Stages in their order, as far as it has come. */
export function timeline(order, at, names, notes = {}) {
  const place = order.indexOf(at);
  return h('ol', { class: 'timeline', 'aria-label': 'Course' }, order.map((stage, index) => {
    const kind = index < place ? 'past' : index > place ? 'ahead' : 'now';
    return h('li', { key: stage, class: kind, 'aria-current': kind === 'now' ? 'step' : undefined },
      h('span', { class: 'dot', 'aria-hidden': 'true' }), h('strong', null, names[stage] ?? plain(stage)),
      notes[stage] ? h('span', { class: 'hint' }, notes[stage]) : null);
  }));
}

function finish(it) {
  confirm({
    title: `Finish the window of ${it.by}?`,
    act: 'Finish the window',
    fields: who().slice(1),
    body: () => [
      h('h3', null, 'What clients will see'),
      h('ul', { class: 'means' },
        h('li', null, `${many(it.held, 'client goes', 'clients go')} on, oldest first. This is how its holder ends it when the work is done.`),
        it.connections_now ? h('li', null, `${many(it.connections_now, 'connection')} of the window ${it.connections_now === 1 ? 'is' : 'are'} still inside: what they did not commit is rolled back, and they end with 57P01.`) : null)],
    run: async (values) => {
      await post(`/v1/windows/${encodeURIComponent(it.id)}/finish`, { term: it.term, ...said(values, 'by') });
      done();
      lookAtWindows();
    },
  });
}

function abort(it) {
  confirm({
    title: `Abort the window of ${it.by}?`,
    act: 'Abort the window',
    danger: true,
    fields: [
      { name: 'then', label: 'Traffic then', kind: 'select', value: '',
        options: [['', `as was ordered: ${it.on_lost === 'stay' ? 'stays held' : 'reopens'}`], ['reopen', 'reopens'], ['stay', 'stays held until somebody has looked']] },
      ...who().slice(1),
    ],
    body: (values) => [
      h('h3', null, 'What clients will see'),
      h('ul', { class: 'means' },
        h('li', null, `The ${many(it.connections_now, 'connection')} of the window end with 57P01; what they did not commit is rolled back.`),
        h('li', null, (values.then || it.on_lost) === 'stay' ? `${many(it.held, 'client goes', 'clients go')} on waiting.` : `${many(it.held, 'client goes', 'clients go')} on, oldest first.`))],
    run: async (values) => {
      await post(`/v1/windows/${encodeURIComponent(it.id)}/abort`, { term: it.term, ...said(values, 'then', 'by') });
      done();
      lookAtWindows();
    },
  });
}

/** How long something took, for a timeline. */
export const took = (from, to) => span(Math.max(0, new Date(to) - new Date(from)));

/** A sign that something is wrong, beside its words. */
export const wrong = (text) => h('p', { class: 'warn' }, icon('warning'), h('span', null, text));
