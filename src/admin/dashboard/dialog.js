// Questions before something is done: what it is, what clients will see, and two buttons.

import { h, patch } from './view.js';
import { icon } from './draw.js';
import { Refused, token } from './api.js';

const NAME = 'pgdrain.by';

/** Who says that he acts, kept for this tab. */
export const by = () => sessionStorage.getItem(NAME) ?? '';

let open = null;

/**
 * Asks before something is done. `question` has
 * - `title`, and `act`, the word on the button, or what gives it; `danger` for what breaks somebody's work;
 * - `body(values)`: what clients will see, drawn anew when a field changes or `again` is called;
 * - `fields`: `{name, label, kind, options, value, hint, more}`;
 * - `run(values)`: does it; an error it throws is shown, and the question stays;
 * - `wrong(error)`: what else is to be said about an error;
 * - `otherwise(error)`: another way out of an error, `{label, run}`, or nothing;
 * - `opened(again)`: begins what the body still has to fetch.
 */
export function confirm(question) {
  open?.close();
  const box = document.createElement('dialog');
  box.setAttribute('aria-labelledby', 'dialog-title');
  const back = document.activeElement;
  const values = Object.fromEntries((question.fields ?? []).map((it) => [it.name, it.value ?? '']));
  let [busy, error] = [false, null];

  const draw = () => patch(box, form());
  const end = () => {
    open = null;
    box.close();
    box.remove();
    if (back?.isConnected) back.focus();
  };
  const attempt = async (run) => {
    if (busy) return;
    busy = true;
    try {
      if (asksForToken(error) && typedToken()) await useToken(typedToken());
      if (values.by !== undefined) sessionStorage.setItem(NAME, values.by.trim());
      error = null;
      draw();
      await run({ ...values });
      end();
    } catch (refused) {
      error = refused;
      if (!(refused instanceof Refused)) console.warn(refused);
    }
    busy = false;
    if (box.open) {
      draw();
      box.querySelector('.failure')?.focus();
    }
  };
  const form = () => {
    const other = error ? question.otherwise?.(error) : null;
    return h('form', { method: 'dialog', on: { submit: (event) => { event.preventDefault(); attempt(question.run); } } },
      h('h2', { id: 'dialog-title' }, question.title),
      h('div', { class: 'dialog-body' },
        question.body?.(values, again),
        (question.fields ?? []).filter((it) => !it.when || it.when(values)).map((it) => field(it, values, draw)),
        error ? h('div', { class: 'failure', role: 'alert', tabindex: '-1' }, icon('warning'),
          h('div', null, h('p', null, `Not done. ${error.message}`), question.wrong?.(error), asksForToken(error) ? tokenField() : null)) : null),
      h('div', { class: 'dialog-buttons' },
        h('button', { type: 'button', class: 'quiet', on: { click: end } }, question.act ? 'Back' : 'Close'),
        other ? h('button', { type: 'button', class: 'danger', disabled: busy, on: { click: () => attempt(other.run) } }, other.label) : null,
        question.act ? h('button', { type: 'submit', class: question.danger ? 'danger' : 'primary', disabled: busy || question.may?.(values) === false },
          busy ? 'Working …' : typeof question.act === 'function' ? question.act() : question.act) : null));
  };
  const again = () => { if (box.open) draw(); };

  box.addEventListener('cancel', (event) => { event.preventDefault(); if (!busy) end(); });
  box.addEventListener('click', (event) => { if (event.target === box && !busy) end(); });
  document.body.append(box);
  draw();
  box.showModal();
  // The first thing to be read is the question, not its first field.
  const heading = box.querySelector('h2');
  heading.tabIndex = -1;
  heading.focus();
  open = { close: end };
  question.opened?.(again);
}

/** Whether another token may help. */
const asksForToken = (error) => error?.status === 401 || error?.status === 403;

let whenToken = () => {};
/** What is done when another token is used. */
export const tokenUsed = (then) => { whenToken = then; };

/** Uses a token from now on, or none. */
export async function useToken(text) {
  token.set(text);
  await whenToken();
}

/**
 * A field for the token. It counts once something is done with it, and not while it is half typed: whoever shows
 * wrong ones again and again is made to wait.
 */
export function tokenField(id = 'field-token') {
  return h('div', { class: 'field', key: id }, h('label', { for: id }, 'Token'),
    h('input', { id, type: 'password', autocomplete: 'off', spellcheck: 'false', 'aria-describedby': `${id}-hint` }),
    h('p', { class: 'hint', id: `${id}-hint` }, 'It is kept in this tab alone, until you close it.'));
}

/** What was typed into that field. */
export const typedToken = (id = 'field-token') => document.getElementById(id)?.value.trim() ?? '';

/** Asks for another token, or none, and then does something. */
export function askForToken(then) {
  confirm({
    title: 'Your token',
    act: 'Use it',
    body: () => [h('p', null, token.get() ? 'There is one. Another takes its place; none forgets it.' : 'What you may do follows from it.'), tokenField()],
    run: async () => {
      await useToken(typedToken());
      then();
    },
  });
}

function field(it, values, draw) {
  const id = `field-${it.name}`;
  const props = { id, name: it.name, 'aria-describedby': it.hint ? `${id}-hint` : undefined };
  const change = (value) => { values[it.name] = value; draw(); };
  let input;
  if (it.kind === 'select') {
    input = h('select', { ...props, value: values[it.name], on: { change: (event) => change(event.target.value) } },
      it.options.map(([value, text]) => h('option', { value }, text)));
  } else if (it.kind === 'check') {
    return h('div', { class: 'field check', key: it.name },
      h('input', { ...props, type: 'checkbox', checked: Boolean(values[it.name]), on: { change: (event) => change(event.target.checked) } }),
      h('label', { for: id }, it.label));
  } else {
    input = h('input', { ...props, type: it.kind ?? 'text', value: values[it.name], autocomplete: 'off', spellcheck: 'false',
      autocapitalize: 'none', ...it.more, on: { input: (event) => change(event.target.value) } });
  }
  return h('div', { class: 'field', key: it.name }, h('label', { for: id }, it.label), input,
    it.hint ? h('p', { class: 'hint', id: `${id}-hint` }, typeof it.hint === 'function' ? it.hint(values) : it.hint) : null);
}

/** The fields that every action of a person has: who, and why. */
export const who = () => [
  { name: 'reason', label: 'Why', hint: 'For the log, and for those who wait.', more: { maxlength: '200' } },
  { name: 'by', label: 'Your name', value: by(), more: { maxlength: '80', autocomplete: 'name' } },
];

/** The same for a body: what was left empty is left out. */
export function said(values, ...names) {
  const kept = names.map((name) => [name, String(values[name] ?? '').trim()]).filter(([, text]) => text);
  return Object.fromEntries(kept);
}
