// How times, spans and figures are written.

const count = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const clockTime = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dayTime = new Intl.DateTimeFormat('en-GB', {
  day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit',
});

/** A whole number, with separators. */
export const number = (value) => count.format(value ?? 0);

/** A rate: with a decimal while it is small. */
export const rate = (value) => (value < 10 ? fine : count).format(value ?? 0);

/** `1 session`, `2 sessions`. */
export const many = (value, one, more = `${one}s`) => `${number(value)} ${value === 1 ? one : more}`;

/** A span in its two largest units: `230 ms`, `4.2 s`, `2 min 5 s`, `1 h 4 min`. */
export function span(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms < 1000) return `${count.format(ms)} ms`;
  if (ms < 10_000) return `${fine.format(ms / 1000)} s`;
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return join(Math.floor(s / 60), 'min', s % 60, 's');
  if (s < 86_400) return join(Math.floor(s / 3600), 'h', Math.floor((s % 3600) / 60), 'min');
  return join(Math.floor(s / 86_400), 'd', Math.floor((s % 86_400) / 3600), 'h');
}

function join(large, largeUnit, small, smallUnit) {
  return small ? `${large} ${largeUnit} ${small} ${smallUnit}` : `${large} ${largeUnit}`;
}

/** What is left, as a clock: `0:07`, `12:34`, `1:02:03`. Over is `0:00`. */
export function countdown(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  const two = (value) => String(value).padStart(2, '0');
  const [hours, minutes, seconds] = [Math.floor(s / 3600), Math.floor((s % 3600) / 60), s % 60];
  return hours ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
}

/** The time of day; with the day when it is another one. */
export function time(at) {
  const when = new Date(at);
  if (Number.isNaN(when.getTime())) return '–';
  const today = new Date().toDateString() === when.toDateString();
  return (today ? clockTime : dayTime).format(when);
}

/** Bytes with a unit. */
export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  let left = value ?? 0;
  while (left >= 1024 && at < units.length - 1) {
    left /= 1024;
    at += 1;
  }
  return `${fine.format(left)} ${units[at]}`;
}

/** A word of the API for people: `read_only` is `read only`. */
export const plain = (word) => String(word ?? '').replaceAll('_', ' ');
