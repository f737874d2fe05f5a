// What there is one of on the page, and how its parts tell each other of changes.

import { computed, effect, signal, untracked } from '@preact/signals';
import type { PageFacts } from './api';
import { MAX_THRESHOLD_OD10, type OverlayKind } from './density';
import { complain, keptSignal, settled } from './dom';
import { Landmarks } from './landmarks';
import { Layers } from './layers';
import { Nuclei } from './nuclei';
import { Panes } from './panes';
import { Regions } from './regions';
import { Slides } from './slides';
import { readHash, writeHash } from './state';
import { VIRTUAL } from './virtual';
import { Works } from './works';

export const panes = new Panes();
export const regions = new Regions(panes);
export const nuclei = new Nuclei(panes);
export const landmarks = new Landmarks(panes);
export const slides = new Slides(panes);
export const works = new Works();
export const layers = new Layers(panes, works, slides);
export const about = signal<PageFacts | null>(null);

export type Tab = 'Stain' | 'Measure' | 'Layers' | 'Align';
export const tab = keptSignal<Tab>('tab', 'Stain');
export const isNarrow = matchMedia('(max-width: 900px)');
export const parts = signal({ slides: !isNarrow.matches, tools: !isNarrow.matches }); // which are seen beside the picture
export const isDark = keptSignal('dark', matchMedia('(prefers-color-scheme: dark)').matches);

export function showTab(name: Tab): void {
  tab.value = name;
  parts.value = { slides: parts.value.slides && !isNarrow.matches, tools: true };
}

/** A case by the first slide that is open. */
export const caseName = computed(() => (panes.first ? slides.caseOf(panes.first.slide) : ''));

let address = ''; // after the #, as it was when it and what is shown were last the same
let isBeginning = true; // what opens by itself is no step of the history

/** Keep in the address what is shown. Other slides are another step of the browser's history, so that “Back” leads back. */
export const remember = settled(() => {
  const ids = panes.list.map((pane) => pane.slide.id);
  if (location.hash !== address || !panes.list.every((pane) => pane.image)) return; // what is shown will follow
  const { kind, threshold } = panes.overlay.value;
  const shown = layers.shown;
  const isVirtual = shown.length > 0 || panes.list.some((pane) => pane.slide.virtual !== null);
  const view = panes.first?.view() ?? null;
  const now = { slides: ids, mode: panes.mode.value, view, split: panes.split.value, overlay: kind, threshold, layers: shown, isVirtual };
  const hash = ids.length ? writeHash(now) : '';
  const isAnother = !isBeginning && readHash(location.hash).slides.join() !== ids.join();
  if (hash !== location.hash) history[isAnother ? 'pushState' : 'replaceState'](null, '', `${location.pathname}${hash}`);
  isBeginning = false;
  address = location.hash;
}, 250);

/** Show what the address says. */
export async function restore(): Promise<void> {
  const { hash } = location;
  const shared = readHash(hash);
  panes.overlay.value = { ...panes.overlay.value, kind: shared.overlay, threshold: shared.threshold };
  [panes.mode.value, panes.split.value] = [shared.mode, shared.split];
  if (shared.slides.length) await slides.open(shared.slides, shared.view);
  else if (panes.list.length) await slides.open([]);
  if (shared.slides.length) layers.showOnly(shared.layers);
  address = hash;
  if (shared.slides.length) isBeginning = false;
}

/** Begin with a picture, where no link says with which. */
export async function beginWithPicture(): Promise<void> {
  const ids = await slides.beginning();
  if (ids.length && !panes.list.length && !slides.opening.value) await slides.open(ids);
}

const sayOutside = settled(() => panes.list.forEach((pane) => pane.sayOutside()), 250); // once others have followed
const shownLayers = computed(() => layers.shown.join());

effect(() => void (document.documentElement.dataset.theme = isDark.value ? 'dark' : 'light'));

effect(() => {
  const open = panes.list.map(({ slide }) => slide);
  const isVirtual = open.some(({ virtual }) => virtual !== null);
  document.title = [isVirtual ? VIRTUAL : '', open.map(({ title }) => title).join(', ') || 'slides', 'Chromogen'].filter(Boolean).join(' - ');
});

// Whatever is seen, and where.
effect(() => {
  for (const pane of panes.list) void [pane.isOpen.value, pane.onScreen.value, pane.beside.value, pane.stains.value];
  void [panes.mode.value, panes.split.value, panes.overlay.value, shownLayers.value];
  untracked(() => {
    if (nuclei.shown.value) nuclei.look();
    sayOutside();
    if (panes.list.length || !slides.failed.value) remember();
  });
});

const firstId = computed(() => panes.first?.slide.id ?? '');
effect(() => {
  const id = firstId.value;
  untracked(() => regions.showOf(id));
});

// Whatever numbers depend on.
const threshold = computed(() => panes.overlay.value.threshold);
effect(() => {
  for (const pane of panes.list) void [pane.isOpen.value, pane.stains.value, pane.label.value];
  void [panes.lies.value, regions.list.value, threshold.value, shownLayers.value];
  untracked(() => regions.measureSoon());
});

regions.laidOver = () => layers.measurable;
works.onEnd = () => void slides.list().catch(complain);

export function setOverlay(kind: OverlayKind): void {
  panes.overlay.value = { ...panes.overlay.value, kind };
}

export function setThreshold(value: number): void {
  const threshold = Math.round(100 * Math.min(Math.max(value, 0), MAX_THRESHOLD_OD10)) / 100;
  panes.overlay.value = { ...panes.overlay.value, threshold };
}

let lastKind: OverlayKind = 'dab';
export function toggleOverlay(): void {
  const { kind } = panes.overlay.value;
  if (kind !== 'none') lastKind = kind;
  setOverlay(kind === 'none' ? lastKind : 'none');
}

export function setSplit(percent: number): void {
  panes.split.value = Math.min(100, Math.max(0, percent));
}
