// Starting a migration: files, what they would do, what speaks for and against it, approvals, and the start.

import { get, of, post } from './api.js';
import { askForToken, by, confirm, said, who } from './dialog.js';
import { icon } from './draw.js';
import { many, number, plain, span } from './format.js';
import { button } from './may.js';
import { done } from './mode.js';
import { changed, state } from './state.js';
import { lookAtRuns, runView } from './runs.js';
import { h } from './view.js';
import { LADDERS, LADDER_MEANS } from './words.js';
import { wrong } from './windows.js';

// The longest body that pgdrain takes, of which JSON needs a part.
const FILES_MAX = 12 << 20;
const PATIENCE = 120_000;
const WANTED = /\.sql$|\.sql\.conf$|(^|\/)migration_lock\.toml$/;

/** What was chosen, and what the server said to it. */
let draft = null;

/** The card of migrations. */
export function migrationCard(database) {
  const mine = draft?.database === database.database ? draft : null;
  return h('section', { class: 'card migration', key: 'migration', 'aria-labelledby': 'migration-title' },
    h('h2', { id: 'migration-title' }, 'Migration'),
    runView(database),
    database.migration ? null : chooser(database, mine),
    mine && !database.migration ? study(database, mine) : null);
}

function chooser(database, mine) {
  const take = (event) => {
    const files = [...event.target.files];
    event.target.value = '';
    if (files.length) choose(database.database, files);
  };
  return h('div', { class: 'chooser', key: 'chooser' },
    h('h3', null, mine ? `${many(mine.files.length, 'file')} chosen` : 'Start one'),
    mine ? null : h('p', { class: 'hint' }, 'Every file of the directory, so that the history can be compared. Nothing is written before you have seen the plan.'),
    h('div', { class: 'row' },
      h('div', { class: 'field pick' }, h('label', { for: 'pick-files' }, mine ? 'Choose others' : 'Choose files'),
        h('input', { id: 'pick-files', type: 'file', multiple: true, accept: '.sql,.conf,.toml', on: { change: take } })),
      h('div', { class: 'field pick' }, h('label', { for: 'pick-directory' }, 'Or a directory'),
        h('input', { id: 'pick-directory', type: 'file', webkitdirectory: true, on: { change: take } }))),
    mine ? h('div', { class: 'row' },
      h('button', { class: 'quiet small', on: { click: () => { draft = null; changed(); } } }, 'Put them away')) : null);
}

async function choose(name, files) {
  draft = { database: name, files: [], direction: 'up', trouble: '', busy: 'Reading the files …', plan: null, gate: null, approvals: null };
  changed();
  const mine = draft;
  try {
    mine.files = await read(files);
    if (!mine.files.length) throw new Error('None of these is a migration: their names end in .sql.');
    await ask(mine);
  } catch (error) {
    refused(mine, error);
  }
  mine.busy = '';
  changed();
}

/** As the command line posts them: the text byte for byte, and its hash. */
async function read(files) {
  if (!globalThis.crypto?.subtle) throw new Error('This browser hashes files only on https and on localhost; open this page there.');
  const named = files.map((file) => [file.webkitRelativePath.split('/').slice(1).join('/') || file.name, file]);
  const wanted = named.filter(([name]) => WANTED.test(name));
  const size = wanted.reduce((sum, [, file]) => sum + file.size, 0);
  if (size > FILES_MAX) throw new Error(`These are ${number(size >> 20)} MiB; pgdrain takes ${FILES_MAX >> 20} from this page.`);
  const out = [];
  for (const [name, file] of wanted.sort(([a], [b]) => (a < b ? -1 : 1))) {
    const bytes = await file.arrayBuffer();
    let sql;
    try {
      sql = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new Error(`${name} is not UTF-8.`);
    }
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    out.push({ name, sql, sha256: [...hash].map((it) => it.toString(16).padStart(2, '0')).join('') });
  }
  return out;
}

function refused(mine, error) {
  mine.trouble = error.message;
  mine.locked = error.status === 401 || error.status === 403;
}

async function again(mine) {
  await ask(mine).catch((error) => refused(mine, error));
  mine.busy = '';
  changed();
}

/** Asks what the files would do and what speaks against it. */
async function ask(mine) {
  const { database, files, direction } = mine;
  Object.assign(mine, { busy: 'Asking what they would do …', trouble: '', locked: false, plan: null, gate: null });
  changed();
  const options = { patience: PATIENCE };
  mine.plan = await post(of(database, 'migrations/plan'), { direction, files }, options);
  changed();
  if (direction === 'up') {
    const executor = by();
    mine.gate = await post(of(database, 'migrations/gonogo'), { files, ...(executor ? { rollback_by: executor } : {}) }, options);
  }
  if (mine.plan.hash) mine.approvals = await get(of(database, `migrations/approvals?plan=${mine.plan.hash}`)).catch(() => null);
}

function study(database, mine) {
  const turn = (event) => {
    mine.direction = event.target.value;
    again(mine);
  };
  return h('div', { class: 'study', key: 'study' },
    h('div', { class: 'field narrow' }, h('label', { for: 'direction' }, 'Direction'),
      h('select', { id: 'direction', value: mine.direction, on: { change: turn } }, h('option', { value: 'up' }, 'up: everything pending'), h('option', { value: 'down' }, 'down: the last one'))),
    mine.busy ? h('p', { class: 'hint', role: 'status' }, mine.busy) : null,
    mine.trouble ? wrong(mine.trouble) : null,
    mine.locked ? h('div', { class: 'row' }, h('button', { on: { click: () => askForToken(() => again(mine)) } }, 'Give a token …')) : null,
    mine.plan ? plan(mine.plan) : null,
    mine.gate ? gate(mine.gate) : null,
    mine.approvals?.roles.length ? approvals(mine) : null,
    mine.plan?.steps.length && !mine.busy ? h('div', { class: 'row' },
      button('migrate', { class: 'primary', on: { click: () => start(database, mine) } }, `Start ${many(mine.plan.steps.length, 'file')} …`)) : null);
}

function plan(it) {
  return h('div', { class: 'plan' },
    h('h3', null, 'Plan', it.hash ? h('code', { class: 'hint' }, ` ${it.hash.slice(0, 12)}`) : null),
    it.problems.map((text) => h('div', { key: text }, wrong(text))),
    it.steps.length ? h('ol', { class: 'people' }, it.steps.map((step) => h('li', { key: step.file },
      h('p', null, h('strong', null, step.file), ` · ${traffic(step.traffic)}`, ` · risk ${step.risk}`, step.way_down.loses_data ? ' · its way back loses data' : ''),
      step.statements.map((one) => h('p', { key: one.number, class: 'hint' }, h('code', null, one.text), one.reasons.length ? ` – ${one.reasons.join('; ')}` : ''))))) : it.problems.length ? null : h('p', null, 'Nothing is pending.'),
    it.notes.map((text) => h('p', { class: 'hint', key: text }, text)));
}

const traffic = (word) => ({ open: 'clients work on', read_only: 'clients read, writes wait', exclusive: 'clients wait' }[word] ?? plain(word));

const VERDICTS = { go: ['yes', 'go'], no_go: ['no', 'no-go'], unknown: ['unknown', 'not known'] };

function gate(it) {
  const against = it.lines.filter((line) => line.verdict !== 'go');
  return h('div', { class: 'gate' },
    h('h3', null, it.go ? 'Go' : `No-go: ${number(against.length)} of ${number(it.lines.length)}`),
    h('ul', { class: 'findings', 'aria-label': 'Go or no-go' }, [...against, ...it.lines.filter((line) => line.verdict === 'go')].map((line) => {
      const [sign, word] = VERDICTS[line.verdict] ?? VERDICTS.unknown;
      return h('li', { key: line.name, class: line.verdict === 'no_go' ? 'warn' : line.verdict },
        icon(sign), h('span', null, h('strong', null, `${plain(line.name)}: ${word}. `), line.text, line.hint ? h('em', null, ` ${line.hint}`) : null));
    })));
}

function approvals(mine) {
  const valid = mine.approvals.approvals.filter((it) => it.standing === 'valid');
  return h('div', { class: 'approvals' }, h('h3', null, mine.approvals.required ? 'Approvals (nothing runs up without them)' : 'Approvals'),
    h('ul', { class: 'people' }, mine.approvals.roles.map((role) => {
      const has = valid.find((it) => it.role === role);
      return h('li', { key: role }, h('p', null, icon(has ? 'yes' : 'no'), ' ', h('strong', null, role), has ? ` by ${has.by}${has.reason ? `: ${has.reason}` : ''}` : ' – not yet'),
        has ? null : h('div', { class: 'row' }, button('approve', { class: 'small', on: { click: () => approve(mine, role) } }, `Approve as ${role} …`)));
    })));
}

function approve(mine, role) {
  confirm({
    title: `Approve this plan as ${role}?`,
    act: 'Approve',
    fields: who(),
    body: () => [
      h('p', null, `${many(mine.plan.steps.length, 'file')}: ${mine.plan.steps.map((it) => it.file).join(', ')}`),
      h('p', { class: 'hint' }, 'Plan ', h('code', null, mine.plan.hash), '. Another plan has another hash: whatever changes it voids this.')],
    run: async (values) => {
      await post(of(mine.database, 'migrations/approvals'), { plan: mine.plan.hash, role, ...said(values, 'reason', 'by') });
      await again(mine);
    },
  });
}

function start(database, mine) {
  const { plan: it, gate: found } = mine;
  const held = it.steps.filter((step) => step.traffic !== 'open');
  const failing = (found?.lines ?? []).filter((line) => line.verdict !== 'go').length;
  confirm({
    title: `Run ${many(it.steps.length, 'file')} ${mine.direction} in ${database.database}?`,
    act: 'Run',
    danger: mine.direction === 'down',
    fields: [
      ...(held.length ? [
        { name: 'ladder', label: 'Those who are in a transaction', kind: 'select', value: 'gentle', options: LADDERS },
        { name: 'for', label: 'The window lasts at most', kind: 'select', value: '5m', options: [['1m', '1 minute'], ['5m', '5 minutes'], ['15m', '15 minutes'], ['1h', '1 hour']] },
      ] : []),
      { name: 'force', label: 'Go on although checks fail; say why', kind: 'check', value: false },
      { name: 'rollback_by', label: 'Who would lead back', value: by() },
      ...who(),
    ],
    may: (values) => !values.force || values.reason.trim() !== '',
    body: (values) => [
      h('h3', null, 'What clients will see'),
      h('ul', { class: 'means' },
        held.length ? [
          h('li', null, `${many(database.sessions, 'client is', 'clients are')} connected. For ${many(held.length, 'file')} they wait at their next transaction${held.every((step) => step.traffic === 'read_only') ? ' that writes' : ''}, without an error, and go on afterwards.`),
          LADDER_MEANS[values.ladder ?? 'gentle'].map((text) => h('li', null, text)),
          h('li', null, 'When the window’s time is over, the file that runs is cancelled and rolled back.')]
          : h('li', null, 'Nothing: they work on while the files run.'),
        failing ? h('li', null, `${many(failing, 'line')} of the go/no-go list ${failing === 1 ? 'speaks' : 'speak'} against it. Checks that fail stop the run before anything is held.`) : null,
        longest(it))],
    run: async (values) => {
      const { force } = values;
      const order = { direction: mine.direction, files: mine.files, ...said(values, 'for', 'ladder', 'reason', 'by', 'rollback_by'), ...(force ? { force: true } : {}) };
      await post(of(mine.database, 'migrations'), order, { patience: PATIENCE });
      draft = null;
      done();
      setTimeout(lookAtRuns, 200);
    },
  });
}

/** How long a rehearsal took, where one is known. */
function longest(it) {
  const known = it.steps.flatMap((step) => step.statements).map((one) => one.expected?.elapsed_ms).filter((ms) => ms !== undefined && ms !== null);
  return known.length ? h('li', null, `In a rehearsal the statements took ${span(known.reduce((sum, ms) => sum + ms, 0))}.`) : null;
}

/** Forgets what was chosen for a database that is no longer shown. */
export const forget = () => { if (draft && draft.database !== state.chosen && !draft.busy) draft = null; };
