// What would stand in the way, before anything is held.

import { get, of } from './api.js';
import { confirm } from './dialog.js';
import { icon } from './draw.js';
import { many, number, plain, rate, span } from './format.js';
import { h } from './view.js';
import { LADDERS } from './words.js';

/** What has only just begun is over before anybody has read it. */
const YOUNG = 1_000;
const NAMED = 6;
const NAMED_ALONE = 40;

/** Opens the list for a database. */
export function precheck(database) {
  let [asked, found] = ['', null];
  const look = (values, again) => {
    const query = new URLSearchParams({ mode: values.mode, ladder: values.ladder }).toString();
    if (asked === query) return;
    [asked, found] = [query, null];
    get(of(database.database, `precheck?${query}`))
      .then((it) => { if (asked === query) found = it; }, (error) => { if (asked === query) found = { error }; })
      .finally(again);
  };
  confirm({
    title: `What would be in the way of ${database.database}?`,
    fields: [
      { name: 'mode', label: 'If', kind: 'select', value: 'exclusive', options: [['exclusive', 'everybody waits (hold)'], ['read_only', 'who writes waits (read only)']] },
      { name: 'ladder', label: 'And those who are inside', kind: 'select', value: 'gentle', options: LADDERS },
    ],
    body: (values, again) => {
      look(values, again);
      return [verdict(found), forecast(found, values.ladder, NAMED_ALONE)];
    },
  });
}

function verdict(found) {
  if (!found || found.error) return null;
  const blocking = found.findings.filter((it) => it.blocks).length;
  return h('p', { class: found.go ? 'fact' : 'warn', role: 'status' }, icon(found.go ? 'yes' : 'warning'),
    h('span', null, found.go ? 'Nothing is likely to keep it from being drained.' : `${many(blocking, 'thing is', 'things are')} likely to keep it from being drained. Nothing was held.`));
}

/** What a precheck expects, and who would be in the way. */
export function forecast(found, ladder, most = NAMED) {
  if (!found) return h('p', { class: 'hint', role: 'status' }, 'Looking who would be in the way …');
  if (found.error) return h('p', { class: 'hint', role: 'status' }, `Who would be in the way could not be found out: ${found.error.message}`);
  const { expected, findings } = found;
  const pace = expected.seconds
    ? `From the last ${span(expected.seconds * 1000)}: drained within ${span(expected.drain_p90_ms)} nine times of ten, ${many(expected.held_after_p90, 'client', 'clients')} waiting by then (${rate(expected.transactions_per_second)} transactions a second).`
    : 'There are no figures of the last minutes yet.';
  const named = findings.filter((it) => it.blocks || it.age_ms === null || it.age_ms >= YOUNG);
  const rest = findings.length - Math.min(named.length, most);
  return h('div', { class: 'forecast' }, h('p', null, pace),
    findings.length ? h('ul', { class: 'findings' }, named.slice(0, most).map((it, at) => h('li', { key: at, class: it.blocks ? 'warn' : '' },
      it.blocks ? icon('warning') : null,
      h('span', null, `${plain(it.kind)}: ${it.what}${it.owner ? `, ${it.owner}` : ''}${it.age_ms ? `, ${span(it.age_ms)}` : ''}`,
        h('em', null, fate(it[ladder])))))) : h('p', null, icon('yes'), ' Nothing stands in the way now.'),
    rest ? h('p', { class: 'hint' }, named.length ? `and ${number(rest)} more, younger or less` : `${many(rest, 'transaction')}, each younger than a second.`) : null);
}

const fate = (word) => (word === '-' ? '' : ` – ${word}`);
