// Nuclei in view: asked for once the view has come to rest, for every slide that is open.

import { computed, signal } from '@preact/signals';
import { ask, nucleiPath, type NucleiInView } from './api';
import { settled } from './dom';
import type { Pane } from './pane';
import type { Panes } from './panes';

const MAX_MPP = 1; // of the screen: coarser, nuclei are specks
const ASSUMED_MPP = 0.5; // the server's, where a file states none
const SETTLED_MS = 400;

/** What is shown of a slide's nuclei, and said of them; null where the outlines before stay until then. */
interface Shown {
  path: string; // what it is the answer to
  words: string;
  nuclei: NucleiInView | null;
}

const NOTHING: Shown = { path: '', words: '', nuclei: null };

export class Nuclei {
  readonly shown = signal(false);
  readonly bySlide = signal<Record<string, Shown>>({});
  readonly lines = computed(() => this.panes.list.map(({ slide }) => this.of(slide.id).words).filter(Boolean));
  private readonly asked = new Map<string, AbortController>(); // by slide
  private readonly findAgain = settled(() => this.findAll(), SETTLED_MS);

  constructor(private readonly panes: Panes) {}

  of(slideId: string): Shown {
    return this.bySlide.value[slideId] ?? NOTHING;
  }

  /** Look for nuclei once the view has come to rest. */
  look(): void {
    if (this.shown.value) this.findAgain();
  }

  show(shown: boolean): void {
    this.shown.value = shown;
    for (const asked of this.asked.values()) asked.abort();
    this.bySlide.value = {};
    this.findAll();
  }

  private findAll(): void {
    if (this.shown.value) for (const pane of this.panes.list) void this.find(pane);
  }

  private async find(pane: Pane): Promise<void> {
    if (!pane.image) return;
    const { id, mpp, title } = pane.slide;
    const { location, size } = pane.seen();
    const path = nucleiPath(pane.slide, pane.stains.value, location, size);
    if (path === this.of(id).path) return;
    this.asked.get(id)?.abort();
    const tell = (words: string, nuclei: NucleiInView | null): void => {
      this.bySlide.value = { ...this.bySlide.value, [id]: { path, words: words && `${title}: ${words}`, nuclei } };
    };
    if ((mpp ?? ASSUMED_MPP) / pane.imageZoom > MAX_MPP) return tell(`zoom in to ${MAX_MPP} µm/px or closer to see nuclei.`, null);
    if (size.some((side) => side <= 0)) return tell('', null);
    const asked = new AbortController();
    this.asked.set(id, asked);
    tell('looking for nuclei…', this.of(id).nuclei);
    try {
      const found = await ask<NucleiInView>(path, { signal: asked.signal });
      if (!asked.signal.aborted) tell(found.words, found);
    } catch (error) {
      if (!asked.signal.aborted) tell((error as Error).message, null);
    }
  }
}
