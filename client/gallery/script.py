"""The gallery's one script: names, order, the enlarged picture; the map is `MAP`. Plain JavaScript
without any library. Texts become nodes, never markup."""

NAMES = r"""
'use strict';
const about = JSON.parse(document.getElementById('data').textContent);
const piles = [...document.querySelectorAll('.pile')];
const by = new Map(piles.map(pile => [Number(pile.dataset.cluster), pile]));
const byId = id => document.getElementById(id);
const key = 'covey-names-' + about.model;
const part = (pile, name) => pile.querySelector(name);

function offer(select, number) {
  const there = [...select.options].some(option => option.value === String(number));
  if (!there) select.append(new Option('same as ' + shown(number), number));
}
function offerAll(event) {
  const select = event.target, own = Number(select.closest('.pile').dataset.cluster);
  const value = select.value;
  select.replaceChildren(select.options[0]);
  for (const number of by.keys()) if (number !== own) offer(select, number);
  select.value = value;
}
for (const pile of piles) part(pile, '.same').addEventListener('focus', offerAll);
function join(groups) {
  for (const group of groups) {
    for (const number of group.slice(1)) {
      if (!by.has(number) || !by.has(group[0])) continue;
      const select = part(by.get(number), '.same');
      offer(select, group[0]);
      select.value = group[0];
    }
  }
}
join(about.same);

function leader(number) {
  const seen = new Set();
  while (!seen.has(number) && by.has(number)) {
    seen.add(number);
    const next = part(by.get(number), '.same').value;
    if (next === '') return number;
    number = Number(next);
  }
  return Math.min(...seen);
}
function shown(number) {
  const first = leader(number);
  if (!by.has(first)) return 'cluster ' + number;
  return part(by.get(first), '.name').value.trim() || 'cluster ' + first;
}
function said() {
  const groups = new Map(), names = {...about.names}, split = [];
  for (const [number, pile] of by) {
    names[number] = part(pile, '.name').value.trim();
    const first = leader(number);
    if (first !== number) groups.set(first, [...(groups.get(first) || [first]), number]);
    if (part(pile, '.split').checked) split.push(number);
  }
  for (const number of about.split) if (!by.has(number)) split.push(number);
  const same = [...groups.values()];
  for (const group of about.same) if (!group.some(one => by.has(one))) same.push(group);
  return {model: about.model, names, same, split: split.sort((a, b) => a - b)};
}
let saved = JSON.stringify(said());
function refresh() {
  for (const [number, pile] of by) {
    part(pile, 'h3').textContent = shown(number);
    part(pile, '.number').hidden = shown(number) === 'cluster ' + number;
    part(pile, '.name').disabled = part(pile, '.same').value !== '';
    for (const option of part(pile, '.same').options) {
      if (option.value !== '') option.textContent = 'same as ' + shown(Number(option.value));
    }
  }
  const now = JSON.stringify(said()), changed = now !== saved;
  byId('save').disabled = !changed;
  byId('state').textContent = changed ? 'not saved yet' : '';
  try {
    if (changed) localStorage.setItem(key, now); else localStorage.removeItem(key);
  } catch { /* a page of a file may not be allowed to keep anything */ }
  find();
}
function find() {
  const wanted = byId('find').value.trim().toLowerCase();
  for (const [number, pile] of by) {
    const text = (shown(number) + ' cluster ' + number).toLowerCase();
    pile.classList.toggle('off', wanted !== '' && !text.includes(wanted));
  }
}
function take(draft) {
  for (const [number, pile] of by) {
    if (number in draft.names) part(pile, '.name').value = draft.names[number];
    part(pile, '.split').checked = draft.split.includes(number);
    part(pile, '.same').value = '';
  }
  join(draft.same);
}
try {
  const draft = JSON.parse(localStorage.getItem(key) || 'null');
  if (draft && draft.model === about.model) take(draft);
} catch { /* whatever it was */ }

function tell(text, bad) {
  const told = byId('told');
  told.textContent = text;
  told.classList.toggle('bad', Boolean(bad));
  told.hidden = false;
}
async function save() {
  const text = JSON.stringify(said(), null, 2);
  if (about.save) {
    try {
      const answer = await fetch(about.save, {method: 'POST', body: text});
      const words = await answer.text();
      if (!answer.ok) return tell(words, true);
      tell(words);
    } catch { return tell('The command that shows this page has ended.', true); }
  } else {
    const link = document.createElement('a');
    link.href = 'data:application/json;charset=utf-8,' + encodeURIComponent(text);
    link.download = 'names.json';
    link.click();
    tell('Saved as names.json. This puts the names into the model: ' + about.command);
  }
  saved = JSON.stringify(said());
  refresh();
}
byId('save').addEventListener('click', save);
byId('find').addEventListener('input', find);
byId('order').addEventListener('change', event => {
  const order = {
    size: (a, b) => b.dataset.size - a.dataset.size,
    doubt: (a, b) => a.dataset.sure - b.dataset.sure,
    number: (a, b) => a.dataset.cluster - b.dataset.cluster,
  }[event.target.value];
  byId('piles').append(...piles.sort(order));
});
byId('piles').addEventListener('input', refresh);
byId('piles').addEventListener('click', event => {
  const button = event.target.closest('.tiles button');
  if (button) enlarge(button.querySelector('img').src, button.dataset);
});
function enlarge(address, words) {
  const large = byId('large');
  large.querySelector('img').src = address;
  large.querySelector('.file').textContent = words.file;
  large.querySelector('.about').textContent = words.about;
  large.showModal();
}
refresh();
"""

MAP = r"""
const canvas = byId('map');
if (canvas) {
  const pen = canvas.getContext('2d'), points = about.map, sheet = new Image();
  const view = {zoom: 1, x: 0, y: 0}, held = new Map();
  let colours = [], width = 0, height = 0, moved = false, spread = 0;
  const least = () => Math.max(9, Math.sqrt(width * height / points.x.length) * .55);
  const side = () => Math.min(72, least() * view.zoom ** .75);
  const edge = () => Math.max(56, Math.min(72, least()) + 8);
  const place = i => [
    (points.x[i] - .5) * (width - edge()) * view.zoom + width / 2 + view.x,
    (points.y[i] - .5) * (height - edge()) * view.zoom + height / 2 + view.y];
  function measure() {
    const ratio = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    [width, height] = [box.width, box.height];
    canvas.width = width * ratio; canvas.height = height * ratio;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(document.documentElement);
    colours = [...Array(10).keys()].map(i => style.getPropertyValue('--c' + i).trim());
    draw();
  }
  function draw() {
    pen.clearRect(0, 0, width, height);
    const size = side(), cell = points.cell, frame = size > 20 ? 2 : 1.5;
    pen.imageSmoothingEnabled = !document.body.classList.contains('tiny');
    for (let i = 0; i < points.x.length; i++) {
      const [x, y] = place(i);
      if (x < -size || y < -size || x > width + size || y > height + size) continue;
      pen.fillStyle = colours[points.cluster[i] % 10];
      pen.fillRect(x - size / 2 - frame, y - size / 2 - frame, size + 2 * frame, size + 2 * frame);
      if (sheet.complete && sheet.naturalWidth) {
        pen.drawImage(sheet, i % points.across * cell, Math.floor(i / points.across) * cell,
          cell, cell, x - size / 2, y - size / 2, size, size);
      }
    }
  }
  function zoom(by, x = width / 2, y = height / 2) {
    const next = Math.min(40, Math.max(1, view.zoom * by)), ratio = next / view.zoom;
    view.x = (view.x + width / 2 - x) * ratio + x - width / 2;
    view.y = (view.y + height / 2 - y) * ratio + y - height / 2;
    view.zoom = next;
    bound();
  }
  function bound() {
    const most = [width, height].map(length => length * (view.zoom - 1) / 2);
    view.x = Math.max(-most[0], Math.min(most[0], view.x));
    view.y = Math.max(-most[1], Math.min(most[1], view.y));
    canvas.classList.toggle('held', view.zoom > 1);
    draw();
  }
  function at(x, y) {
    let best = -1, near = Math.max(side(), 14) ** 2;
    for (let i = points.x.length - 1; i >= 0; i--) {
      const [px, py] = place(i), far = (px - x) ** 2 + (py - y) ** 2;
      if (far < near) [best, near] = [i, far];
    }
    return best;
  }
  const where = event => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener('pointerdown', event => {
    held.set(event.pointerId, where(event));
    moved = false;
    spread = 0;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', event => {
    const [x, y] = where(event), before = held.get(event.pointerId);
    if (!before) {
      const i = at(x, y);
      byId('tip').textContent = i < 0 ? '' : shown(points.cluster[i]) + ' · ' + points.name[i];
      return;
    }
    held.set(event.pointerId, [x, y]);
    if (Math.abs(x - before[0]) + Math.abs(y - before[1]) > 1) moved = true;
    if (held.size === 1) { view.x += x - before[0]; view.y += y - before[1]; bound(); }
    if (held.size === 2) {
      const [a, b] = [...held.values()], now = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (spread) zoom(now / spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      spread = now;
    }
  });
  function release(event) {
    const last = held.get(event.pointerId);
    held.delete(event.pointerId);
    spread = 0;
    if (event.type !== 'pointerup' || moved || !last) return;
    const i = at(...last), pile = i < 0 ? null : by.get(points.cluster[i]);
    if (i >= 0) byId('tip').textContent = shown(points.cluster[i]) + ' · ' + points.name[i];
    if (pile) pile.scrollIntoView({behavior: 'smooth', block: 'start'});
  }
  canvas.addEventListener('pointerup', release);
  canvas.addEventListener('pointercancel', release);
  canvas.addEventListener('wheel', event => {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), ...where(event));
  }, {passive: false});
  canvas.addEventListener('keydown', event => {
    const step = {ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60]};
    if (event.key === '+' || event.key === '=') zoom(1.4);
    else if (event.key === '-') zoom(1 / 1.4);
    else if (event.key === '0') zoom(0);
    else if (event.key in step && view.zoom > 1) {
      view.x += step[event.key][0]; view.y += step[event.key][1]; bound();
    } else return;
    event.preventDefault();
  });
  byId('nearer').addEventListener('click', () => zoom(1.6));
  byId('farther').addEventListener('click', () => zoom(1 / 1.6));
  byId('whole').addEventListener('click', () => zoom(0));
  addEventListener('resize', measure);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', measure);
  sheet.addEventListener('load', draw);
  sheet.src = points.sheet;
  measure();
}
"""

SCRIPT = NAMES + MAP
