// What modes, steps and states are called, and what they mean to clients.

export const MODES = {
  open: { name: 'Open', icon: 'open', lead: 'Everything passes.' },
  read_only: { name: 'Read only', icon: 'read_only', lead: 'Reads go on. What writes does not start.' },
  hold: { name: 'Held', icon: 'hold', lead: 'No transaction starts.' },
};

export const HOLDERS = {
  everywhere: 'for every database',
  operator: '',
  window: 'by a window',
};

/** How far a drain goes. */
export const LADDERS = [
  ['gentle', 'Gentle: wait'],
  ['firm', 'Firm: cancel statements, abort idle transactions'],
  ['force', 'Force: end sessions too'],
];

/** What each ladder does to those who are inside, for a confirmation. */
export const LADDER_MEANS = {
  gentle: ['Transactions that run are waited for. Nobody gets an error from the drain.'],
  firm: [
    'Transactions that run are waited for at first.',
    'Then running statements are cancelled: they fail with 57014.',
    'Transactions that sit idle are rolled back: their next statement fails with 40001, which says that they may be retried. Connections live.',
  ],
  force: [
    'Transactions that run are waited for at first.',
    'Then running statements are cancelled: they fail with 57014.',
    'Transactions that sit idle are rolled back: their next statement fails with 40001.',
    'Who is still inside is terminated with 57P01: the connection ends, and the application connects again.',
  ],
};

export const STEPS = {
  autocommit: { name: 'Blocks wait', means: 'only transaction blocks wait' },
  wait: { name: 'Wait', means: 'transactions may come to their end' },
  cancel: { name: 'Cancel', means: 'running statements fail with 57014' },
  stuck: { name: 'Free', means: 'conversations that stand still are freed of their client' },
  abort: { name: 'Abort', means: 'idle transactions are rolled back, 40001; connections live' },
  terminate: { name: 'Terminate', means: 'sessions end with 57P01' },
};

/** The steps of each ladder, where the drain does not say its own. */
export const RUNGS = {
  gentle: ['wait'],
  firm: ['wait', 'cancel', 'stuck', 'abort'],
  force: ['wait', 'cancel', 'stuck', 'abort', 'terminate'],
};

export const OUTCOMES = {
  draining: 'Draining',
  drained: 'Drained',
  writable: 'A write was carried out',
  unproved: 'Not proved',
  exhausted: 'Not drained',
  ended: 'Ended before it was drained',
};

export const SESSION_STATES = {
  login: 'login',
  idle: 'idle',
  active: 'running',
  in_transaction: 'idle in transaction',
  held: 'waits at the gate',
  closing: 'ends',
  aborted: 'rolled back',
  deferred: 'begun, not sent',
};
