// What whoever looks may do here, as pgdrain knows it; and buttons that say why where they may not.

import { get } from './api.js';
import { confirm, tokenField, typedToken, useToken } from './dialog.js';
import { changed, state } from './state.js';
import { h } from './view.js';

const ROLES = { look: 'viewer', hold: 'operator', open: 'operator', migrate: 'migrator', approve: 'admin', administer: 'admin' };
const WORDS = {
  look: 'looking', hold: 'holding traffic', open: 'opening', migrate: 'running migrations', approve: 'approving', administer: 'changing how pgdrain works',
};

/** Asks who we are here; what is not known keeps nobody from trying. */
export async function lookAtMe() {
  try {
    state.me = await get('/v1/caller');
  } catch {
    state.me = null;
  }
  changed();
}

export const may = (permission) => !state.me || state.me.may.includes(permission);

/** Why not, and what would do. */
export function whyNot(permission) {
  const { name, role } = state.me ?? {};
  const takes = `${WORDS[permission]} takes the role ${ROLES[permission]}`;
  return name ? `You are ${name}, with the role ${role}: ${takes}.` : `Nobody has said who you are: here, ${takes} and its token.`;
}

/**
 * A button for something that takes a permission. Whoever lacks it finds it where it always is, and is told why it does
 * nothing: it keeps the focus and a description, which a disabled button would not.
 */
export function button(permission, props, ...children) {
  if (may(permission)) return h('button', props, children);
  const why = whyNot(permission);
  const size = props.class?.includes('small') ? 'small ' : '';
  return h('button', { ...props, class: `${size}barred`, 'aria-disabled': 'true', title: why, on: { click: () => bar(permission) } }, children);
}

/** A sentence for a card whose buttons do nothing for this person. */
export const barred = (permission) => (may(permission) ? null : h('p', { class: 'hint barred-why', key: `barred-${permission}` }, whyNot(permission)));

function bar(permission) {
  confirm({
    title: 'Not with what you have shown',
    act: 'Use this token',
    body: () => [h('p', null, whyNot(permission)), tokenField()],
    may: () => true,
    run: async () => {
      if (typedToken()) await useToken(typedToken());
    },
  });
}
