// The migration that runs, statement by statement, or how the last one ended.

import { get, of, post } from './api.js';
import { confirm, said, who } from './dialog.js';
import { icon } from './draw.js';
import { bytes, many, number, plain, span, time } from './format.js';
import { button } from './may.js';
import { done } from './mode.js';
import { changed, chosen, say, since, state } from './state.js';
import { h } from './view.js';
import { timeline, took, wrong } from './windows.js';

const EVERY = 3_000;
const EVERY_QUIET = 12_000;
const FINAL = ['succeeded', 'failed', 'cancelled', 'dirty', 'unknown'];
const WRONG = ['failed', 'dirty', 'unknown', 'cancelled'];
const DECISIONS = { fix_forward: 'It is mended by another migration', rollback: 'It is taken back' };
const NAMES = {
  waiting: 'Waits for its time', preflight: 'Checks', backup: 'Backup', holding: 'Holding', draining: 'Draining', applying: 'Applying',
  reopening: 'Reopening', rehearsing: 'Rehearsing', succeeded: 'Done', failed: 'Failed', cancelled: 'Cancelled', dirty: 'Stopped part-way', unknown: 'Not known',
};

/** What is known of a run: the view without its events, and what the events said. */
let run = null;
let following = null;
let timer = 0;

/** Looks which run there is to follow: the one that runs, or the last one. */
export async function lookAtRuns() {
  clearTimeout(timer);
  const live = chosen()?.migration;
  timer = setTimeout(lookAtRuns, live ? EVERY : EVERY_QUIET);
  const name = state.chosen;
  if (!name || document.hidden || state.line !== 'live') return;
  try {
    const { migrations } = await get(of(name, 'migrations'));
    const last = migrations.at(-1);
    if (run && run.database !== name) run = null;
    if (last) await keepUp(name, last);
    else changed();
  } catch {
    // Told by the line.
  }
}

async function keepUp(name, summary) {
  if (run?.id === summary.id && (following === summary.id || run.report)) return;
  following = summary.id;
  run = { ...summary, last: 0, states: [], files: new Map(), notes: [], checks: [], report: null, watch: null };
  try {
    while (state.chosen === name && following === summary.id) {
      const wait = run.last === 0 ? '0s' : '15s';
      const view = await get(`/v1/migrations/${encodeURIComponent(summary.id)}?after=${run.last}&wait=${wait}`, { patience: 30_000 });
      if (following !== summary.id) return;
      takeIn(view);
      changed();
      if (FINAL.includes(view.state)) {
        done();
        return;
      }
    }
  } finally {
    if (following === summary.id) following = null;
  }
}

function takeIn(view) {
  const { events, ...rest } = view;
  const before = run.state;
  Object.assign(run, rest);
  if (run.last && before !== view.state) say(`The migration: ${NAMES[view.state] ?? plain(view.state)}.`);
  for (const event of events) {
    run.last = event.seq;
    hear(event);
  }
  run.notes = run.notes.slice(-50);
}

function hear({ kind, data, text, at }) {
  const file = (name) => {
    if (!run.files.has(name)) run.files.set(name, { name, done: 0, of: 0, state: 'runs', begun: at, line: null, more: '' });
    return run.files.get(name);
  };
  switch (kind) {
    case 'state':
      run.states.push({ state: data.state, at });
      break;
    case 'check':
      run.checks.push(data);
      break;
    case 'file_started':
      Object.assign(file(data.file), { of: data.statements, done: 0, state: 'runs', begun: at });
      run.count = data.of;
      break;
    case 'statement':
      Object.assign(file(data.file), { done: data.statement, of: data.of, line: data.line, ms: data.elapsed_ms });
      break;
    case 'batch':
      Object.assign(file(data.file), { more: text, percent: data.percent });
      break;
    case 'progress':
      run.progress = text;
      break;
    case 'file_done': {
      const running = data?.file ? file(data.file) : [...run.files.values()].findLast((it) => it.state === 'runs');
      if (running) Object.assign(running, { state: 'done', done: running.of, ended: at });
      break;
    }
    case 'failure': {
      const running = data?.file ? file(data.file) : null;
      if (running) running.state = 'failed';
      run.notes.push({ at, text, bad: true });
      break;
    }
    case 'watch':
      break;
    default:
      run.notes.push({ at, text });
  }
}

/** The run of a database, or nothing. */
export function runView(database) {
  if (run?.database !== database.database) return null;
  const over = FINAL.includes(run.state);
  return h('div', { class: 'run', key: `run-${run.id}` },
    h('h3', null, over ? 'The last run' : 'It runs'),
    h('p', { class: 'lead' }, icon(run.state === 'succeeded' ? 'yes' : over ? 'warning' : 'live'), ' ', h('strong', null, NAMES[run.state] ?? plain(run.state)),
      ` · ${run.direction}, by ${run.by}, ${time(run.started_at)} (${span(since(run.started_at))} ago)`),
    timeline(...course()),
    files(),
    !over && run.progress ? h('p', { class: 'fact' }, run.progress) : null,
    !over && run.watch ? watched(run.watch) : null,
    over ? ending() : null,
    run.notes.length ? h('details', { class: 'notes' }, h('summary', null, `Its words (${run.notes.length})`),
      h('ol', null, run.notes.map((it, at) => h('li', { key: at, class: it.bad ? 'bad' : '' }, h('time', { datetime: it.at }, time(it.at)), ` ${it.text}`)))) : null,
    over ? null : h('div', { class: 'row' }, button('hold', { class: 'danger', on: { click: cancel } }, 'Cancel it …')));
}

function course() {
  const names = [...new Set(run.states.map((it) => it.state))];
  if (!names.includes(run.state)) names.push(run.state);
  const notes = {};
  run.states.forEach((it, at) => {
    const next = run.states[at + 1];
    if (next) notes[it.state] = took(it.at, next.at);
  });
  return [names, run.state, NAMES, notes];
}

function files() {
  const all = [...run.files.values()];
  if (!all.length) return null;
  return h('ul', { class: 'files', 'aria-label': 'Files' }, all.map((it) => {
    const value = it.of ? Math.round((it.done / it.of) * 100) : 0;
    const said = { done: 'done', failed: 'failed', runs: 'runs' }[it.state];
    return h('li', { key: it.name },
      h('p', null, icon(it.state === 'done' ? 'yes' : it.state === 'failed' ? 'no' : 'live'), ' ', h('strong', null, it.name), ` ${said}`),
      h('progress', { max: '100', value: String(it.state === 'done' ? 100 : Math.round(it.percent ?? value)), 'aria-label': `${it.name}: ${it.done} of ${it.of} statements` }),
      h('p', { class: 'hint' }, `${number(it.done)} of ${many(it.of, 'statement')}${it.line && it.state === 'runs' ? `, the last one at line ${it.line} took ${span(it.ms)}` : ''}${it.more ? `; ${it.more}` : ''}${it.ended ? `; ${took(it.begun, it.ended)}` : ''}`));
  }));
}

function watched(now) {
  const parts = [
    ...(now.work ?? []).map((it) => `${it.what}${it.relation ? ` on ${it.relation}` : ''}: ${it.phase}${it.percent === null ? '' : `, ${Math.round(it.percent)} %`}${it.eta_ms ? `, about ${span(it.eta_ms)} to go` : ''}`),
    now.own_wait_ms ? `waits for a lock for ${span(now.own_wait_ms)}` : '',
    now.held_ms ? `keeps others out for ${span(now.held_ms)}` : '',
    now.blocked ? `${many(now.blocked, 'session')} blocked, the longest for ${span(now.wait_ms)}` : 'blocks nobody',
    `${bytes(now.wal_bytes)} of WAL`,
  ].filter(Boolean);
  return h('p', { class: now.blocked ? 'warn' : 'fact' }, now.blocked ? icon('warning') : null, h('span', null, parts.join('; ')));
}

function ending() {
  const { report } = run;
  if (!report) return null;
  const failed = (report.checks ?? []).filter((it) => it.outcome && it.outcome !== 'passed');
  const what = report.failure;
  return [
    h('p', { class: 'fact' }, `${many(report.files.length, 'file')} in ${span(report.elapsed_ms)}; exit code ${report.exit_code}.`),
    what ? wrong(`${what.file ? `${what.file}${what.line ? `, line ${what.line}` : ''}: ` : ''}${what.sqlstate ? `${what.sqlstate}: ` : ''}${what.message}${what.hint ? ` (${what.hint})` : ''}`) : null,
    report.held ? wrong(`Traffic stays held: ${report.held}`) : null,
    failed.length ? h('ul', { class: 'means' }, failed.map((it) => h('li', { key: it.name }, `${plain(it.name)}: ${it.text}${it.hint ? ` – ${it.hint}` : ''}`))) : null,
    report.decision ? h('p', { class: 'fact' }, `${DECISIONS[report.decision.decision] ?? plain(report.decision.decision)}: decided by ${report.decision.by}, ${time(report.decision.at)}${report.decision.reason ? `: ${report.decision.reason}` : ''}.`) : null,
    run.acknowledged ? h('p', { class: 'fact' }, `${run.acknowledged} looks after it.`) : null,
    WRONG.includes(run.state) ? h('div', { class: 'row' },
      button('hold', { key: 'ack', on: { click: acknowledge } }, 'I look after it …'),
      button('migrate', { key: 'decide', on: { click: decide } }, report.decision ? 'Decide otherwise …' : 'Decide what becomes of it …')) : null,
  ];
}

function cancel() {
  const { id } = run;
  const database = chosen();
  confirm({
    title: 'Cancel the migration?',
    act: 'Cancel the migration',
    danger: true,
    fields: who().slice(1),
    body: () => [
      h('h3', null, 'What will happen'),
      h('ul', { class: 'means' },
        h('li', null, 'The statement that runs is cancelled. A file in one transaction is rolled back; nothing of it stays.'),
        h('li', null, 'Files that were done stay done. What cannot be rolled back (CONCURRENTLY) may stop part-way: then it is recorded as dirty.'),
        h('li', null, `${many(database?.held ?? 0, 'client goes', 'clients go')} on when traffic reopens; after a file that stopped part-way it stays held.`))],
    run: async (values) => {
      await post(`/v1/migrations/${encodeURIComponent(id)}/cancel`, said(values, 'by'));
      done();
    },
  });
}

function acknowledge() {
  const { id } = run;
  confirm({
    title: 'You look after this migration?',
    act: 'I look after it',
    fields: who().slice(1),
    body: () => h('p', null, 'Nobody else is called for it any more. Nothing else changes.'),
    run: async (values) => {
      const { by } = await post(`/v1/migrations/${encodeURIComponent(id)}/ack`, said(values, 'by'));
      if (run?.id === id) run.acknowledged = by;
      say(`${by} looks after it.`);
      changed();
    },
  });
}

function decide() {
  const { id, database } = run;
  confirm({
    title: 'What becomes of this migration?',
    act: 'Write it down',
    fields: [
      { name: 'decision', label: 'It is', kind: 'select', value: 'fix_forward', options: [['fix_forward', 'mended by another migration'], ['rollback', 'taken back']] },
      ...who(),
    ],
    body: () => h('p', null, 'It is written down for whoever comes next, in the history of the database and the report of the run. Nothing is run, and traffic stays as it is.'),
    run: async (values) => {
      const decision = await post(of(database, 'migrations/decide'), { run: id, ...said(values, 'decision', 'reason', 'by') });
      if (run?.id === id && run.report) run.report = { ...run.report, decision };
      changed();
    },
  });
}
