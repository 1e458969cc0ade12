// What the page knows, and how it hears of a change.

/** Everything that is shown. Whoever changes it calls `changed`. */
export const state = {
  /** The last answer of `/v1/status`. */
  status: null,
  /** The server's clock less ours, in milliseconds. */
  skew: 0,
  /** How the line is: `connecting`, `live`, `lost`, `locked` (a token is asked for). */
  line: 'connecting',
  /** When it was lost, by our clock, and why. */
  lostAt: 0,
  trouble: '',
  /** When it is tried again. */
  againAt: 0,
  /** The database that is shown. */
  chosen: null,
  /** The newest events, newest first, and the number of the last one. */
  events: [],
  seen: 0,
  gap: false,
  /** The last minutes of the chosen database. */
  pace: null,
  /** Who we are here, and what we may do; null where that is not known. */
  me: null,
  /** Figures between the last two answers. */
  rate: null,
};

const listeners = [];
let due = false;

/** Calls `draw` soon after each change, once for many. */
export const whenChanged = (draw) => listeners.push(draw);

/** Says that something of the state is another now. */
export function changed() {
  if (due) return;
  due = true;
  // Not requestAnimationFrame: that rests in a tab that is not seen, whose title still has to be right.
  setTimeout(() => {
    due = false;
    for (const draw of listeners) draw();
  }, 16);
}

/** The time by the server's clock. */
export const now = () => Date.now() + state.skew;

/** How long ago something was, by the server's clock. */
export const since = (at) => Math.max(0, now() - new Date(at).getTime());

/** How long something lies ahead. */
export const until = (at) => new Date(at).getTime() - now();

/** The database that is shown, if the status has it. */
export const chosen = () => state.status?.databases.find((it) => it.database === state.chosen) ?? null;

/** Says something to those who hear the page: few and short things. */
export function say(text) {
  document.getElementById('said').textContent = text;
}
