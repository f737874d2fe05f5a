// Nuclei in view: asked for once the view has come to rest, for every slide that is open.

import { computed, signal } from '@preact/signals';
import { ask, nucleiPath, type NucleiInView } from './api';
import { settled } from './dom';
import type { Pane } from './pane';
import type { Panes } from './panes';

const MAX_MPP = 1; // of the screen: coarser, nuclei are specks
const ASSUMED_MPP = 0.5; // the server's, where a file states none
const SETTLED_MS = 400;

/** What is shown of a slide's nuclei, and said of them; `path` is what that is the answer to. */
export interface ShownNuclei {
  path: string;
  words: string;
  nuclei: NucleiInView | null;
}

export const NO_NUCLEI: ShownNuclei = { path: '', words: '', nuclei: null };

export class Nuclei {
  readonly shown = signal(false);
  readonly lines = computed(() => {
    const said = this.panes.list.map(({ slide, nuclei }) => nuclei.value.words && `${slide.title}: ${nuclei.value.words}`);
    return said.filter(Boolean);
  });
  private asked = new AbortController();

  constructor(private readonly panes: Panes) {}

  /** Look for nuclei once the view has come to rest. */
  readonly look = settled(() => this.findAll(), SETTLED_MS);

  show(shown: boolean): void {
    this.shown.value = shown;
    for (const { nuclei } of this.panes.list) nuclei.value = NO_NUCLEI;
    this.findAll();
  }

  private findAll(): void {
    this.asked.abort();
    this.asked = new AbortController();
    if (this.shown.value) for (const pane of this.panes.list) if (pane.image) void this.find(pane, this.asked.signal);
  }

  /** The outlines before stay until others are there. */
  private async find(pane: Pane, wanted: AbortSignal): Promise<void> {
    const { location, size } = pane.seen();
    const path = nucleiPath(pane.slide, pane.stains.value, location, size);
    const { path: known, nuclei } = pane.nuclei.value;
    if (path === known) return;
    const tell = (words: string, found: NucleiInView | null, answered = path): void => {
      if (!wanted.aborted) pane.nuclei.value = { path: answered, words, nuclei: found };
    };
    const isFar = (pane.slide.mpp ?? ASSUMED_MPP) / pane.imageZoom > MAX_MPP;
    if (isFar) return tell(`zoom in to ${MAX_MPP} µm/px or closer to see nuclei.`, null);
    if (Math.min(...size) <= 0) return tell('', null);
    tell('looking for nuclei…', nuclei, '');
    await ask<NucleiInView>(path, { signal: wanted }).then(
      (found) => tell(found.words, found),
      (error: Error) => tell(error.message, null),
    );
  }
}
