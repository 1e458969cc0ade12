// A drain: the ladder it climbs, who is in the way, and the ways up and down.

import { of, put } from './api.js';
import { confirm, said, who } from './dialog.js';
import { icon } from './draw.js';
import { countdown, many, number, span, time } from './format.js';
import { button } from './may.js';
import { done } from './mode.js';
import { until } from './state.js';
import { h } from './view.js';
import { LADDERS, LADDER_MEANS, OUTCOMES, SESSION_STATES, STEPS } from './words.js';

/** The drains of a database, in the order of its holds. */
export const drains = (database) => [...database.holds, ...(database.scopes ?? []).flatMap((it) => it.holds)]
  .map((hold) => hold.drain).filter(Boolean);

/** The card of a drain; `actions(pid)` are buttons for who is in the way. */
export function drainCard(database, actions) {
  const [drain] = drains(database);
  if (!drain) return null;
  const going = drain.outcome === 'draining';
  return h('section', { class: 'card drain', key: 'drain', 'aria-labelledby': 'drain-title' },
    h('h2', { id: 'drain-title' }, OUTCOMES[drain.outcome] ?? drain.outcome),
    h('p', { class: 'lead' }, drain.detail.charAt(0).toUpperCase() + drain.detail.slice(1), '.'),
    h('ol', { class: 'ladder', 'aria-label': 'Ladder' }, rungs(drain).map((rung) => step(rung, drain, going))),
    tally(drain),
    inTheWay(drain, actions),
    going ? h('div', { class: 'row climb', role: 'group', 'aria-label': 'Ladder' }, h('span', { class: 'hint' }, 'Another ladder:'),
      LADDERS.filter(([name]) => name !== current(drain)).map(([name, label]) => button('hold', { key: name, on: { click: () => climb(database, drain, name) } }, `${label.split(':')[0]} …`))) : null);
}

/** The ladder that it climbs, by what is in it. */
function current({ ladder }) {
  const has = (step) => ladder?.some((it) => it.step === step);
  if (!ladder?.length) return null;
  return has('terminate') ? 'force' : has('cancel') || has('abort') || has('stuck') ? 'firm' : 'gentle';
}

function rungs(drain) {
  if (drain.ladder?.length) return drain.ladder;
  return Object.keys(STEPS).filter((it) => it !== 'autocommit').map((it) => ({ step: it, for_ms: null }));
}

function step(rung, drain, going) {
  const order = Object.keys(STEPS);
  const place = order.indexOf(rung.step) - order.indexOf(drain.step);
  const state = place < 0 ? 'past' : place > 0 ? 'ahead' : going ? 'now' : 'last';
  const { name, means } = STEPS[rung.step];
  return h('li', { key: rung.step, class: state, 'aria-current': state === 'now' ? 'step' : undefined },
    h('strong', null, name),
    state === 'now' && drain.step_ends_at
      ? h('span', { class: 'clock small', role: 'timer', 'aria-live': 'off' }, countdown(until(drain.step_ends_at)))
      : h('span', { class: 'time' }, rung.for_ms === null ? '' : span(rung.for_ms)),
    h('span', { class: 'means' }, means));
}

function tally(drain) {
  const parts = [
    ['cancelled', 'cancelled'], ['freed', 'freed'], ['aborted', 'rolled back'], ['terminated', 'terminated'],
  ].filter(([key]) => drain[key]?.length).map(([key, word]) => `${number(drain[key].length)} ${word}`);
  const proved = drain.drained_at ? `Proved at ${time(drain.drained_at)}, ${span(new Date(drain.drained_at) - new Date(drain.held_at))} after the hold.` : '';
  const text = [parts.length ? `So far ${parts.join(', ')}.` : '', proved].filter(Boolean).join(' ');
  return text ? h('p', { class: 'fact' }, text) : null;
}

const SHOWN = 20;

function inTheWay(drain, actions) {
  const bypass = drain.bypass.map((it) => ({ ...it, bypass: true }));
  const ours = drain.in_the_way.filter((it) => !bypass.some((other) => other.pid === it.pid));
  const all = [...ours, ...bypass].sort((a, b) => (b.transaction_age_ms ?? 0) - (a.transaction_age_ms ?? 0));
  const unknown = drain.bypass_unknown ? h('p', { class: 'warn' }, icon('warning'), `Who is around is not known: ${drain.bypass_unknown}`) : null;
  const obstacles = (drain.obstacles ?? []).map((it, at) => h('li', { key: `obstacle-${at}` }, h('p', null, h('strong', null, it.name), ` ${it.detail}`)));
  if (!all.length && !obstacles.length) return unknown;
  return h('div', null, h('h3', null, all.length ? `${many(all.length, 'session')} in the way` : 'Also there'), unknown,
    h('ul', { class: 'people' }, all.slice(0, SHOWN).map((it, at) => blocker(it, at, actions)), obstacles),
    all.length > SHOWN ? h('p', { class: 'hint' }, `and ${all.length - SHOWN} more`) : null);
}

function blocker(it, at, actions) {
  return h('li', { key: it.pid ?? `at-${at}` },
    h('p', null,
      h('strong', null, `pid ${it.pid ?? '?'}`), ` ${it.user}`, it.application_name ? ` · ${it.application_name}` : '', ` · ${it.client}`),
    h('p', { class: 'hint' }, `${SESSION_STATES[it.state] ?? it.state}, its transaction open for ${span(it.transaction_age_ms)}`,
      it.bypass ? '; did not come through pgdrain' : ''),
    actions?.(it));
}

/** Asks, and gives the drain another ladder. */
function climb(database, drain, ladder) {
  const index = (name) => LADDERS.findIndex(([it]) => it === name);
  const meant = drain.in_the_way.filter((it) => !it.bypass).length;
  confirm({
    title: `Go on with the ladder “${LADDERS[index(ladder)][1].split(':')[0].toLowerCase()}”?`,
    act: 'Change the ladder',
    danger: ladder !== 'gentle',
    fields: who().slice(1),
    body: () => [
      h('h3', null, 'What clients will see'),
      h('ul', { class: 'means' },
        h('li', null, `${many(meant, 'session is', 'sessions are')} in the way now.`),
        LADDER_MEANS[ladder].map((text) => h('li', null, text)),
        h('li', null, ladder === 'gentle' ? 'What was already done is not undone.' : 'The time that was waited already counts.'))],
    run: async (values) => {
      await put(of(database.database, 'drain'), { ladder, ...said(values, 'by') });
      done();
    },
  });
}
