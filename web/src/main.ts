// The page: what is chosen, what is shown, what the keys do.

import OpenSeadragon from 'openseadragon';
import { ask, post, Refused, type About, type Slide } from './api';
import type { Desk } from './cards';
import { HINTS, lacking, MOST_THRESHOLD_OD10, type OverlayKind } from './density';
import { byId, copy, make, settled, short } from './dom';
import { Nuclei } from './nuclei';
import { Panes, type Mode } from './panes';
import { Regions } from './regions';
import { SlideList } from './slide_list';
import { readHash, takeToken, writeHash } from './state';
import { Stains } from './stains';
import { Trials } from './trials';
import { VIRTUAL } from './virtual';

const panes = new Panes();
const regions = new Regions(panes);
const nuclei = new Nuclei(panes);
const slides = new SlideList(panes, regions);
const desk: Desk = { open: (names) => slides.openByName(names), forget: (id) => slides.forget(id) };
const trials = new Trials(panes, desk);
const stains = new Stains(panes, desk);
let blinking = 0;

async function begin(): Promise<void> {
  applyTheme(localStorage.getItem('theme'));
  const token = takeToken();
  if (token) await post('login', { token }).catch(() => {});
  try {
    const about = await ask<About>('app');
    byId('notice').textContent = `${about.notice[0].toUpperCase()}${about.notice.slice(1)}.`;
    await slides.list();
    await restore();
    await trials.begin(about);
    await stains.begin();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) askForToken();
    else byId('slides-message').textContent = (error as Error).message;
  }
}

function askForToken(): void {
  const dialog = byId<HTMLDialogElement>('login');
  dialog.showModal();
  byId('login-go').onclick = async () => {
    try {
      await post('login', { token: byId<HTMLInputElement>('token').value.trim() });
      dialog.close();
      void begin();
    } catch (error) {
      byId('login-message').textContent = (error as Error).message;
    }
  };
}

// What is shown

function changed(): void {
  byId('empty').hidden = panes.list.length > 0;
  document.title = titleOf(panes.list.map((pane) => pane.slide));
  const many = panes.list.length > 1;
  byId('curtain').hidden = !(many && panes.mode === 'curtain');
  byId('blink-field').hidden = panes.mode !== 'blink';
  byId('linked-by').textContent = panes.list.slice(1).map((pane) => `${short(pane.slide.name)} lies on the first ${pane.by}.`).join(' ');
  for (const radio of document.querySelectorAll<HTMLInputElement>('input[name=mode]')) radio.checked = radio.value === panes.mode;
  restartBlink();
  hintOverlay();
  slides.markOpen();
  regions.refresh();
  nuclei.refresh();
  stains.update();
  trials.update();
  moved();
}

let address = ''; // after the #, as it was when it and what is shown were last the same

/** Keep in the address what is shown. Other slides are another step of the browser's history, so that “Back” leads back. */
const remember = settled(() => {
  const ids = panes.list.map((pane) => pane.slide.id);
  if (location.hash !== address || !panes.list.every((pane) => pane.image)) return; // what is shown will follow
  const { kind, threshold } = panes.overlay;
  const isVirtual = panes.list.some((pane) => pane.slide.virtual !== null);
  const view = panes.first?.view() ?? null;
  const hash = ids.length ? writeHash({ slides: ids, mode: panes.mode, view, overlay: kind, threshold, isVirtual }) : '';
  const isAnother = readHash(location.hash).slides.join() !== ids.join();
  history[isAnother ? 'pushState' : 'replaceState'](null, '', `${location.pathname}${hash}`);
  address = location.hash;
}, 250);

const titleOf = (open: Slide[]): string =>
  [open.some(({ virtual }) => virtual !== null) ? VIRTUAL : '', open.map(({ name }) => short(name)).join(', ') || 'slides', 'Chromogen']
    .filter(Boolean)
    .join(' - ');

function moved(): void {
  const pane = panes.first;
  if (!pane) {
    for (const id of ['zoom', 'where', 'scale-text']) byId(id).textContent = '';
    if (!slides.failed) remember();
  }
  if (!pane?.image) return;
  const [zoom, mpp] = [pane.imageZoom, pane.slide.mpp];
  byId('zoom').replaceChildren(
    ...(mpp ? [twoSigns((10 * zoom) / mpp) + '×', `${twoSigns(mpp / zoom)} µm/px`] : [`${twoSigns(100 * zoom)} %`]).map((words) => make('span', {}, words)),
  );
  scaleBar(zoom, mpp);
  remember();
  nuclei.look();
  sayOutside();
}

const sayOutside = settled(() => panes.list.forEach((pane) => pane.sayOutside()), 250); // once others have followed

const twoSigns = (value: number): string => (value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(2))));

function scaleBar(zoom: number, mpp: number | null): void {
  const unit = mpp ? mpp / zoom : 1 / zoom; // per screen pixel
  const most = 160 * unit;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((step) => step * power).find((candidate) => candidate <= most)!;
  byId('scale-line').style.width = `${length / unit}px`;
  byId('scale-text').textContent = !mpp ? `${length} px` : length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
}

async function restore(): Promise<void> {
  const { hash } = location;
  const shared = readHash(hash);
  panes.overlay = { ...panes.overlay, kind: shared.overlay, threshold: shared.threshold };
  byId<HTMLSelectElement>('overlay').value = shared.overlay;
  byId<HTMLInputElement>('threshold').value = String(shared.threshold);
  panes.mode = shared.mode;
  if (shared.slides.length || panes.list.length) await slides.open(shared.slides, shared.view);
  address = hash;
}

// Overlay

const layAgain = settled(() => panes.layOverlay(), 30);
const measureAgain = settled(() => void regions.measure(), 500);

function setOverlay(kind: OverlayKind): void {
  byId<HTMLSelectElement>('overlay').value = kind;
  panes.overlay = { ...panes.overlay, kind };
  panes.layOverlay();
  hintOverlay();
  remember();
}

function setThreshold(value: number): void {
  const threshold = Math.round(100 * Math.min(Math.max(value, 0), MOST_THRESHOLD_OD10)) / 100;
  byId<HTMLInputElement>('threshold').value = String(threshold);
  panes.overlay = { ...panes.overlay, threshold };
  layAgain();
  hintOverlay();
  if (regions.list.length) {
    regions.forgetNumbers();
    measureAgain();
  }
  remember();
}

/** Numbers under other stains are other numbers. */
function stainsChanged(): void {
  hintOverlay();
  nuclei.look();
  void regions.measure();
}

function hintOverlay(): void {
  const { kind, threshold } = panes.overlay;
  byId('threshold-text').textContent = threshold.toFixed(2) + (kind === 'kept' ? '' : ' OD');
  const turned = (panes.list[1]?.turn ?? 0) !== 0;
  byId('overlay-hint').textContent = lacking(kind, panes.list.map((pane) => pane.stains), turned) || HINTS[kind];
  const doubted = panes.list.filter((pane) => pane.slide.stains_doubt && !pane.stainsChosen);
  byId('stains-doubt').replaceChildren(
    ...doubted.map(({ slide }) => make('p', { class: 'note' }, `${short(slide.name)}: not sure of its stains: ${slide.stains_doubt}. Choose H&E or H-DAB in its bar.`)),
  );
  byId('ramp').hidden = !['dab', 'eosin', 'hematoxylin'].includes(kind);
}

let lastKind: OverlayKind = 'dab';
function toggleOverlay(): void {
  if (panes.overlay.kind !== 'none') lastKind = panes.overlay.kind;
  setOverlay(panes.overlay.kind === 'none' ? lastKind : 'none');
}

// Layout

function setMode(mode: Mode): void {
  if (mode === 'blink' && panes.mode === 'blink') panes.blink();
  else panes.setMode(mode);
}

function restartBlink(): void {
  clearInterval(blinking);
  const every = Number(byId<HTMLSelectElement>('blink-every').value);
  if (panes.mode === 'blink' && every) blinking = window.setInterval(() => panes.blink(), every);
}

function setCurtain(percent: number): void {
  byId<HTMLInputElement>('curtain').value = String(percent);
  panes.setCurtain(percent);
}

function applyTheme(theme: string | null): void {
  const dark = theme ? theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  byId('theme').textContent = dark ? 'Light' : 'Dark';
}

function togglePart(button: string, part: string): void {
  const hide = !byId(part).hidden;
  byId(part).hidden = hide;
  byId(button).setAttribute('aria-expanded', String(!hide));
  for (const pane of panes.list) pane.viewer.forceResize();
}

// Keys

const KEYS: Record<string, () => void> = {
  ArrowLeft: () => panes.panBy(-1, 0),
  ArrowRight: () => panes.panBy(1, 0),
  ArrowUp: () => panes.panBy(0, -1),
  ArrowDown: () => panes.panBy(0, 1),
  '+': () => panes.zoomBy(1.5),
  '=': () => panes.zoomBy(1.5),
  '-': () => panes.zoomBy(1 / 1.5),
  '0': () => panes.fit(),
  '1': () => panes.oneToOne(),
  r: () => panes.turnBy(15),
  R: () => panes.turnBy(-15),
  s: () => setMode('side'),
  c: () => setMode('curtain'),
  b: () => setMode('blink'),
  o: toggleOverlay,
  n: () => nuclei.toggle(),
  ',': () => setCurtain(Math.max(0, Number(byId<HTMLInputElement>('curtain').value) - 5)),
  '.': () => setCurtain(Math.min(100, Number(byId<HTMLInputElement>('curtain').value) + 5)),
  '[': () => setThreshold(panes.overlay.threshold - 0.01),
  ']': () => setThreshold(panes.overlay.threshold + 0.01),
  d: () => regions.draw('rectangle'),
  p: () => regions.draw('polygon'),
  v: () => regions.addView(),
  Enter: () => regions.closePolygon(),
  Escape: () => regions.isDrawing && regions.draw(null),
  '?': () => byId<HTMLDialogElement>('help').showModal(),
};

const TYPED_INTO = 'textarea, dialog, input:not([type=range], [type=radio], [type=checkbox])';

/** A drop-down keeps the keys while one works in it by keys; after a choice by mouse or finger they are the page's again. */
function keepsKeys(target: HTMLElement): boolean {
  return target.closest(TYPED_INTO) !== null || (target.matches('select') && (target !== chosenByPointer || isUnfolded(target)));
}

function isUnfolded(select: HTMLElement): boolean {
  try {
    return select.matches(':open');
  } catch {
    return true; // an older browser does not say
  }
}

let chosenByPointer: HTMLElement | null = null;

function listenToChoices(): void {
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Tab') chosenByPointer = null;
  });
  document.addEventListener('pointerdown', (event) => (chosenByPointer = (event.target as HTMLElement).closest('select')));
  document.addEventListener('change', (event) => {
    const target = event.target as HTMLElement;
    if (target.matches('select') && target === chosenByPointer) target.blur();
  });
}

function pressed(event: KeyboardEvent): void {
  const target = event.target as HTMLElement;
  if (event.ctrlKey || event.metaKey || event.altKey || keepsKeys(target)) return;
  if (target.matches('input') && event.key.startsWith('Arrow')) return; // sliders and radio buttons have their own
  if (event.key === 'Enter' && !regions.isDrawing) return;
  const work = KEYS[event.key];
  if (!work) return;
  event.preventDefault();
  work();
}

function listen(): void {
  const on = (id: string, work: () => void): void => byId(id).addEventListener('click', work);
  panes.onMove = moved;
  panes.onChange = changed;
  panes.onStains = stainsChanged;
  listenToChoices();
  regions.onBox = (box) => trials.choose(box);
  slides.onList = (lines) => trials.offer(lines);
  trials.onChosen = (box) => regions.mark(box);
  document.addEventListener('keydown', pressed);
  byId('find').addEventListener('input', () => slides.show());
  on('reload', () => void slides.list().catch((error: Error) => (byId('slides-message').textContent = error.message)));
  on('zoom-in', () => panes.zoomBy(1.5));
  on('zoom-out', () => panes.zoomBy(1 / 1.5));
  on('fit', () => panes.fit());
  on('one-to-one', () => panes.oneToOne());
  on('turn-left', () => panes.turnBy(-15));
  on('turn-right', () => panes.turnBy(15));
  on('help-open', () => byId<HTMLDialogElement>('help').showModal());
  on('copy-link', () => void copy(location.href, byId('copy-link')));
  on('slides-toggle', () => togglePart('slides-toggle', 'slides'));
  on('tools-toggle', () => togglePart('tools-toggle', 'tools'));
  on('theme', () => {
    const next = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
    localStorage.setItem('theme', next);
    applyTheme(next);
  });
  for (const radio of document.querySelectorAll<HTMLInputElement>('input[name=mode]'))
    radio.addEventListener('change', () => panes.setMode(radio.value as Mode));
  byId('blink-every').addEventListener('change', restartBlink);
  byId('linked').addEventListener('change', (event) => panes.setLinked((event.target as HTMLInputElement).checked));
  byId('curtain').addEventListener('input', (event) => panes.setCurtain(Number((event.target as HTMLInputElement).value)));
  byId('overlay').addEventListener('change', (event) => setOverlay((event.target as HTMLSelectElement).value as OverlayKind));
  byId('threshold').addEventListener('input', (event) => setThreshold(Number((event.target as HTMLInputElement).value)));
  byId('opacity').addEventListener('input', (event) => {
    panes.overlay = { ...panes.overlay, opacity: Number((event.target as HTMLInputElement).value) };
    for (const pane of panes.list) pane.setOverlayOpacity(panes.overlay.opacity);
  });
  byId('stage').addEventListener('pointermove', showPlace);
  window.addEventListener('hashchange', () => void restore());
  for (const label of document.querySelectorAll<HTMLElement>('label.button'))
    label.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' || event.key === ' ') label.click();
    });
}

function showPlace(event: PointerEvent): void {
  const element = (event.target as HTMLElement).closest('.pane');
  const pane = panes.list.find((candidate) => candidate.element === element);
  if (!pane?.image) return;
  const point = pane.image.windowToImageCoordinates(new OpenSeadragon.Point(event.clientX, event.clientY));
  const mpp = pane.slide.mpp;
  const mm = mpp ? `${((point.x * mpp) / 1000).toFixed(3)}, ${((point.y * mpp) / 1000).toFixed(3)} mm` : '';
  byId('where').replaceChildren(...[`x ${point.x.toFixed(0)}, y ${point.y.toFixed(0)} px`, mm].map((words) => make('span', {}, words)));
}

// OpenSeadragon would write a style element of its own, which the page's policy forbids; style.css has that rule.
document.head.append(make('style', { 'data-openseadragon-mobile-css': 'true' }));
listen();
void begin();
