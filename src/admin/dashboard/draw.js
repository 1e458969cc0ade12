// Small drawings: icons, and lines of figures over time.

import { h } from './view.js';

// On a grid of 16. Each mode has a shape of its own, so that colour is never the only sign.
const SHAPES = {
  open: ['M2 8h9', 'M8 4l4 4-4 4'],
  read_only: ['M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8z', 'M8 6.2a1.8 1.8 0 1 0 .01 0z'],
  hold: ['M5.5 3v10', 'M10.5 3v10'],
  yes: ['M3 8.5l3.2 3.2L13 4.8'],
  no: ['M4 4l8 8', 'M12 4l-8 8'],
  unknown: ['M5.6 5.8a2.4 2.4 0 1 1 3.5 2.2c-.8.4-1.1.8-1.1 1.6', 'M8 12.4v.1'],
  warning: ['M8 2.2l6.3 11.3H1.7z', 'M8 6.4v3.4', 'M8 11.7v.1'],
  live: ['M2 8.5h3l1.6-4 2.6 8 1.8-4H14'],
  lost: ['M2.5 2.5l11 11', 'M3 7.2A7.6 7.6 0 0 1 6 5.3', 'M9.6 5.1A7.6 7.6 0 0 1 13 7.2', 'M5.6 9.8A4 4 0 0 1 8 9', 'M8 12.3v.1'],
};

/** An icon; what it means is always said beside it in words. */
export function icon(name) {
  const shapes = SHAPES[name] ?? SHAPES.unknown;
  const lines = shapes.map((d) => h('path', { d }));
  return h('svg', { class: 'icon', viewBox: '0 0 16 16', 'aria-hidden': 'true', focusable: 'false' }, lines);
}

const [WIDTH, HEIGHT] = [120, 28];

/**
 * A line of values over time, the newest at the right; `null` is a gap. What it shows is said in words by
 * `label`.
 */
export function spark(values, label) {
  const known = values.filter((it) => it !== null);
  if (known.length < 2) return h('svg', { class: 'spark', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, 'aria-hidden': 'true' });
  const top = Math.max(...known, 0) || 1;
  const step = WIDTH / Math.max(1, values.length - 1);
  const place = (value, at) => `${(at * step).toFixed(1)} ${(HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1)}`;
  let line = '';
  let pen = false;
  values.forEach((value, at) => {
    if (value === null) {
      pen = false;
      return;
    }
    line += `${pen ? 'L' : 'M'}${place(value, at)}`;
    pen = true;
  });
  const [from, to] = [values.findIndex((it) => it !== null), values.findLastIndex((it) => it !== null)].map((at) => (at * step).toFixed(1));
  return h('svg', { class: 'spark', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
    h('path', { class: 'area', d: `${line}L${to} ${HEIGHT}L${from} ${HEIGHT}Z` }),
    h('path', { class: 'line', d: line }));
}
