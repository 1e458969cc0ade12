// At most so many transactions at once: asked for, and lifted.

import { of, put } from './api.js';
import { confirm, said, who } from './dialog.js';
import { many, number, time } from './format.js';
import { button } from './may.js';
import { done, TIMES } from './mode.js';
import { h } from './view.js';

/** The cap that is on, in words. */
export const capped = ({ cap }) => (cap ? h('p', { class: 'fact', key: 'cap' },
  `At most ${many(cap.transactions, 'transaction')} at once${cap.until ? `, until ${time(cap.until)}` : ''}, by ${cap.by}${cap.reason ? `: ${cap.reason}` : ''}.`) : null);

/** The buttons of the cap. */
export const capButtons = (database) => [
  button('hold', { key: 'cap', class: 'quiet small', on: { click: () => cap(database) } }, database.cap ? 'Another cap …' : 'Cap …'),
  database.cap ? button('hold', { key: 'uncap', class: 'quiet small', on: { click: () => lift(database) } }, 'Lift the cap …') : null,
];

const FITS = /^([1-9]\d{0,6}|([1-9]\d?|100)%)$/;

function cap(database) {
  confirm({
    title: `Cap ${database.database}?`,
    act: 'Cap',
    fields: [
      { name: 'transactions', label: 'Transactions at once', value: '50%', more: { inputmode: 'text', maxlength: '8' },
        hint: 'A number such as 5, or a part such as 50% of the most that were seen at once in the last minutes.' },
      { name: 'for', label: 'For how long', kind: 'select', options: TIMES, value: '5m' },
      ...who(),
    ],
    may: (values) => FITS.test(values.transactions.trim()),
    body: () => [
      h('h3', null, 'What clients will see'),
      h('ul', { class: 'means' },
        h('li', null, `${number(database.in_transaction)} transactions run now. Those that run go on, whatever the number is.`),
        h('li', null, 'Whoever begins one more waits for one to end, without an error; oldest first.'),
        h('li', null, 'When the time is over it is lifted by itself.'))],
    run: async (values) => {
      await put(of(database.database, 'cap'), said({ ...values, transactions: values.transactions.trim() }, 'transactions', 'for', 'reason', 'by'));
      done();
    },
  });
}

function lift(database) {
  confirm({
    title: `Lift the cap of ${database.database}?`,
    act: 'Lift the cap',
    fields: who(),
    body: () => [h('h3', null, 'What clients will see'), h('p', null, 'Whoever waits for its turn begins at once.')],
    run: async (values) => {
      await put(of(database.database, 'cap'), { transactions: 'off', ...said(values, 'reason', 'by') });
      done();
    },
  });
}
