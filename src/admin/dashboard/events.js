// What was done to traffic, newest first.

import { plain, time } from './format.js';
import { state } from './state.js';
import { h } from './view.js';

/** Events that are kept here; the file of the server has all. */
export const KEPT = 300;
const SHOWN = 12;
let all = false;

/** The card of events of a database, and those of the whole proxy. */
export function eventsCard(name, redraw) {
  const own = state.events.filter((it) => !it.database || it.database === '*' || it.database === name);
  const shown = all ? own : own.slice(0, SHOWN);
  return h('section', { class: 'card events', key: 'events', 'aria-labelledby': 'events-title' },
    h('h2', { id: 'events-title' }, 'Events'),
    state.gap ? h('p', { class: 'hint' }, 'Earlier events are in audit.jsonl only.') : null,
    shown.length ? h('ol', { class: 'events-list' }, shown.map(line)) : h('p', { class: 'hint' }, 'Nothing has happened yet.'),
    own.length > SHOWN ? h('button', { class: 'quiet', 'aria-expanded': String(all), on: { click: () => { all = !all; redraw(); } } },
      all ? 'Fewer' : `All ${own.length}`) : null);
}

function line(it) {
  const change = it.before && it.after && it.before !== it.after ? `${plain(it.before)} → ${plain(it.after)}` : '';
  return h('li', { key: it.id },
    h('time', { datetime: it.at }, time(it.at)),
    h('p', null, h('strong', null, plain(it.kind)), change ? ` ${change}` : '', it.by ? ` by ${it.by}` : '', it.reason ? `: ${it.reason}` : '',
      it.outcome && it.outcome !== 'done' ? h('span', { class: 'hint' }, ` ${it.outcome}`) : null));
}
