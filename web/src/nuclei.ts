// Nuclei in view, outlined on every slide: blue where negative, brown where positive, one colour in an H&E.

import { signal } from '@preact/signals';
import { ask, nucleiPath, type NucleiInView } from './api';
import { settled, short, svg } from './dom';
import type { Pane } from './pane';
import type { Panes } from './panes';
import { intervalOf } from './region_numbers';

const MAX_MPP = 1; // of the screen: coarser, nuclei are specks
const ASSUMED_MPP = 0.5; // the server's, where a file states none
const SETTLED_MS = 400;
const FOUND = 'found from the slide’s nuclei';

interface Layer {
  group: SVGElement;
  asked: AbortController | null;
  path: string; // what is shown, or asked for
  words: string;
}

export class Nuclei {
  readonly shown = signal(false);
  readonly lines = signal<string[]>([]); // what is said of each slide
  private readonly layers = new Map<Pane, Layer>();
  private readonly findAgain = settled(() => this.findAll(), SETTLED_MS);

  constructor(private readonly panes: Panes) {}

  /** Let a pane show nuclei. */
  attach(pane: Pane): void {
    const group = svg('g', {});
    const layer = svg('svg', { class: 'nuclei', 'aria-hidden': 'true' });
    layer.append(group);
    pane.viewer.element.append(layer);
    this.layers.set(pane, { group, asked: null, path: '', words: '' });
    pane.viewer.addHandler('update-viewport', () => pane.layOn(group));
  }

  /** Forget panes that have gone, and look again: slides or stains may be others. */
  refresh(): void {
    for (const [pane, layer] of this.layers)
      if (!this.panes.list.includes(pane)) {
        layer.asked?.abort();
        this.layers.delete(pane);
      }
    this.look();
  }

  /** Look for nuclei once the view has come to rest. */
  look(): void {
    if (this.shown.value) this.findAgain();
  }

  show(shown: boolean): void {
    this.shown.value = shown;
    if (shown) return this.findAll();
    for (const layer of this.layers.values()) {
      layer.asked?.abort();
      layer.path = '';
      this.tell(layer, '', []);
    }
  }

  private findAll(): void {
    if (!this.shown.value) return;
    for (const [pane, layer] of this.layers) void this.find(pane, layer);
  }

  private async find(pane: Pane, layer: Layer): Promise<void> {
    if (!pane.image) return;
    const name = short(pane.slide.name);
    const { location, size } = pane.seen();
    const path = nucleiPath(pane.slide, pane.stains.value, location, size);
    if (path === layer.path) return;
    layer.asked?.abort();
    layer.path = path;
    if ((pane.slide.mpp ?? ASSUMED_MPP) / pane.imageZoom > MAX_MPP)
      return this.tell(layer, `${name}: zoom in to ${MAX_MPP} µm/px or closer to see nuclei.`, []);
    if (size.some((side) => side <= 0)) return this.tell(layer, '', []);
    const asked = (layer.asked = new AbortController());
    this.tell(layer, `${name}: looking for nuclei…`);
    try {
      const found = await ask<NucleiInView>(path, { signal: asked.signal });
      if (asked === layer.asked && !asked.signal.aborted && this.shown.value) {
        this.tell(layer, `${name}: ${inWords(found)}`, outlines(found));
        pane.layOn(layer.group);
      }
    } catch (error) {
      if (!asked.signal.aborted) this.tell(layer, `${name}: ${(error as Error).message}`, []);
    }
  }

  /** Say how far a slide is, and draw these outlines; without any, leave those that are drawn. */
  private tell(layer: Layer, words: string, drawn?: SVGElement[]): void {
    if (drawn) layer.group.replaceChildren(...drawn);
    layer.words = words;
    this.lines.value = [...this.layers.values()].map((one) => one.words).filter(Boolean);
  }
}
/** One path for each colour. */
function outlines({ outlines, positive, nuclei_threshold_source }: NucleiInView): SVGElement[] {
  const parts: Record<string, string[]> = {};
  outlines.forEach((outline, index) => {
    const kind = !nuclei_threshold_source ? 'nucleus' : positive[index] ? 'nucleus positive' : 'nucleus negative';
    (parts[kind] ??= []).push(`M${outline.join(' ')}Z`);
  });
  return Object.entries(parts).map(([kind, drawn]) => svg('path', { d: drawn.join(''), class: kind }));
}

function inWords(found: NucleiInView): string {
  const { nuclei, positive_nuclei_percent: share, nuclei_threshold_od10: threshold, nuclei_doubt: doubt } = found;
  const counted = `${nuclei.toLocaleString('en')} ${nuclei === 1 ? 'nucleus' : 'nuclei'} in view`;
  if (share === null || threshold === null) return `${counted}.`;
  const whence = found.nuclei_threshold_source === 'found' ? FOUND : 'fixed';
  const [ends, hEnds] = [intervalOf(found, 'positive_nuclei_percent', 1), intervalOf(found, 'h_score', 0)];
  const scored = found.h_score === null ? '' : ` H-score ${found.h_score.toFixed(0)}${hEnds && ` (${hEnds})`}.${ends && ` 95 % interval of the share: ${ends} %.`}`;
  return `${counted}, ${share.toFixed(1)} % positive (DAB above ${threshold.toFixed(2)}, ${whence}).${scored}${doubt ? ` In doubt: ${doubt}.` : ''}`;
}
