// The configuration in use, and reading its file again.

import { get, post } from './api.js';
import { confirm, said, who } from './dialog.js';
import { icon } from './draw.js';
import { many } from './format.js';
import { button } from './may.js';
import { changed, state } from './state.js';
import { h } from './view.js';

let read = null;
let trouble = '';
let open = false;
let wanted = '';

async function look() {
  try {
    read = await get('/v1/config');
    trouble = '';
  } catch (error) {
    trouble = error.message;
  }
  changed();
}

function show(now) {
  if (now === open) return;
  open = now;
  changed();
  if (open && state.line === 'live') look();
}

/** The card of the configuration, of all databases together. */
export function settingsCard() {
  return h('section', { class: 'card settings', key: 'settings', 'aria-labelledby': 'settings-title' },
    h('details', { open, on: { toggle: (event) => show(event.target.open) } },
      h('summary', null, h('h2', { id: 'settings-title' }, 'Configuration')),
      open ? [
        trouble ? h('p', { class: 'warn', role: 'status' }, icon('warning'), trouble) : null,
        read ? whole() : h('p', { class: 'hint' }, 'Reading …'),
        h('div', { class: 'row' }, button('administer', { class: 'small', on: { click: reload } }, 'Read the file again …'))] : null));
}

function whole() {
  const shown = read.settings.filter((it) => it.key.includes(wanted));
  return [
    h('p', { class: 'hint' }, read.file ? `From ${read.file}, what its environment and flags say, and what nobody has set.` : 'There is no file: environment, flags, and what nobody has set.'),
    h('div', { class: 'field narrow', key: 'which' }, h('label', { for: 'which-settings' }, 'Only keys with'),
      h('input', { id: 'which-settings', type: 'search', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none', on: { input: (event) => { wanted = event.target.value.trim().toLowerCase(); changed(); } } })),
    shown.length ? h('dl', { class: 'keys' }, shown.map((it) => h('div', { key: it.key },
      h('dt', null, h('code', null, it.key)), h('dd', null, it.value || '(nothing)', it.reloads ? '' : h('span', { class: 'hint' }, ' at a restart'))))) : h('p', { class: 'hint' }, 'No such key.'),
  ];
}

function reload() {
  confirm({
    title: 'Read the configuration again?',
    act: 'Read it again',
    fields: who(),
    body: () => [
      h('h3', null, 'What will happen'),
      h('p', null, `${read?.file ?? 'The file'} is checked as a whole first: one fault, and nothing is changed. What applies at once counts for what begins from then on; nobody is disconnected.`)],
    run: async (values) => {
      const told = await post('/v1/config/reload', said(values, 'reason', 'by'));
      look();
      setTimeout(() => result(told), 0);
    },
    wrong: (error) => (error.problems?.length ? h('ul', { class: 'means' }, error.problems.map((it, at) => h('li', { key: at },
      `${it.origin ? `${it.origin}: ` : ''}${it.key ? `${it.key}: ` : ''}${it.text}`))) : null),
  });
}

function result({ now, restart, warnings }) {
  const list = (title, keys) => (keys.length ? [h('h3', null, title), h('ul', { class: 'means' }, keys.map((it) => h('li', { key: it }, it)))] : null);
  confirm({
    title: now.length || restart.length ? `${many(now.length + restart.length, 'key')} changed` : 'Nothing has changed',
    body: () => [list('Apply now', now), list('Need a restart', restart), list('Worth knowing', warnings)],
  });
}
