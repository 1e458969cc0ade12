// What the page shows is described by `h` and put there by `patch`, which changes as little as it takes:
// what has the focus keeps it, and a screen reader is not sent back to the top by every figure.
//
// Text only ever becomes text nodes and attribute values. There is no way to give HTML.

const SVG = 'http://www.w3.org/2000/svg';
const described = new WeakMap();
const heard = new WeakMap();

/**
 * Describes an element. `props` are attributes, and: `key` tells it from its neighbours when they change
 * places; `on` holds listeners by event; `value` and `checked` are set when they change here, so that
 * what somebody types stays.
 */
export function h(tag, props, ...children) {
  const kept = children.flat(Infinity).filter((it) => it !== null && it !== undefined && it !== false && it !== '');
  return { tag, props: props ?? {}, children: kept };
}

/** Makes the children of `parent` what is wanted. */
export function patch(parent, ...children) {
  const wanted = h('', null, children).children;
  const focus = parent.ownerDocument.activeElement;
  fill(parent, wanted);
  // An element that changes its place in the document loses the focus.
  if (focus && focus !== parent.ownerDocument.activeElement && focus.isConnected && parent.contains(focus)) {
    focus.focus({ preventScroll: true });
  }
}

function fill(parent, wanted) {
  const keyed = new Map();
  const others = [];
  for (const node of [...parent.childNodes]) {
    const was = described.get(node);
    if (was === undefined) node.remove();
    else if (was.props?.key !== undefined) keyed.set(`${was.tag} ${was.props.key}`, node);
    else others.push(node);
  }
  const nodes = wanted.map((want) => {
    const key = want.props?.key;
    if (key !== undefined) {
      const name = `${want.tag} ${key}`;
      const node = keyed.get(name);
      keyed.delete(name);
      return node;
    }
    const at = others.findIndex((node) => described.get(node).tag === want.tag);
    return at < 0 ? undefined : others.splice(at, 1)[0];
  });
  for (const node of [...keyed.values(), ...others]) node.remove();
  let place = parent.firstChild;
  wanted.forEach((want, at) => {
    const node = nodes[at] ?? make(parent, want);
    update(node, want);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  });
}

function make(parent, want) {
  if (typeof want !== 'object') return document.createTextNode('');
  const inSvg = want.tag === 'svg' || (parent.namespaceURI === SVG && parent.tagName !== 'foreignObject');
  return inSvg ? document.createElementNS(SVG, want.tag) : document.createElement(want.tag);
}

function update(node, want) {
  if (typeof want !== 'object') {
    const text = String(want);
    if (node.data !== text) node.data = text;
    described.set(node, { tag: undefined, props: {} });
    return;
  }
  const before = described.get(node)?.props ?? {};
  const now = want.props;
  for (const name of new Set([...Object.keys(before), ...Object.keys(now)])) {
    if (name === 'key' || name === 'on' || before[name] === now[name]) continue;
    set(node, name, now[name]);
  }
  listen(node, now.on);
  described.set(node, want);
  fill(node, want.children);
  // The choice of a select is there only once its options are.
  if (node.tagName === 'SELECT' && before.value !== now.value) node.value = now.value;
}

function set(node, name, value) {
  if (name === 'value' || name === 'checked' || name === 'indeterminate') {
    node[name] = value ?? (name === 'value' ? '' : false);
  } else if (value === undefined || value === null || value === false) {
    node.removeAttribute(name);
  } else {
    node.setAttribute(name, value === true ? '' : String(value));
  }
}

function listen(node, on) {
  const ears = heard.get(node) ?? {};
  if (!on && Object.keys(ears).length === 0) return;
  for (const kind of Object.keys(on ?? {})) {
    if (!(kind in ears)) node.addEventListener(kind, (event) => heard.get(node)[kind]?.(event));
  }
  const now = Object.fromEntries(Object.keys(ears).map((kind) => [kind, undefined]));
  heard.set(node, { ...now, ...on });
}
