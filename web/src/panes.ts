// The open slides, moved together, side by side or on top of one another.

import { computed, signal } from '@preact/signals';
import OpenSeadragon from 'openseadragon';
import { poseOf, toRows, type Affine } from './affine';
import { ask, besidePath, put, type Beside, type Slide } from './api';
import { FIRST_THRESHOLD_OD10 } from './density';
import { complain, settled } from './dom';
import { ON_ITSELF, Pane, type OverlayChoice, type View } from './pane';

export const MODES = ['side', 'curtain', 'blink', 'fade'] as const;
export type Mode = (typeof MODES)[number];
export const MAX_PANES = 4;

/** Where one looks, as numbers for the footer: it changes with every frame, and the panes do not. */
export interface Place {
  zoom: number; // screen pixels per level-0 pixel of the first slide
  rotation: number;
}

/** The panes, and how they move. */
export class Panes {
  private readonly open = signal<Pane[]>([]);
  readonly mode = signal<Mode>('side');
  readonly linked = signal(true);
  readonly split = signal(50); // percent of the first that curtain and fade show
  readonly front = signal(0); // of two panes on top of each other in the curtain, and the one that blinks
  readonly overlay = signal<OverlayChoice>({ kind: 'none', threshold: FIRST_THRESHOLD_OD10, opacity: 0.75 });
  readonly lies = signal(0); // counts how often slides were laid otherwise on the first
  readonly brightness = signal(1); // of slides on the screen alone
  readonly place = computed<Place | null>(() => {
    if (!this.first?.isOpen.value) return null;
    const { scale, turn } = poseOf(this.first.onScreen.value);
    return { zoom: scale, rotation: turn };
  });
  private leading: Pane | null = null;

  get list(): Pane[] {
    return this.open.value;
  }

  get first(): Pane | null {
    return this.list[0] ?? null;
  }

  /** All panes but the first, by number and name. */
  get others(): [number, string][] {
    return this.list.slice(1).map(({ slide }, index) => [index + 1, slide.title]);
  }

  /** How the panes lie now: one alone is never behind a curtain. */
  get layout(): Mode | 'single' {
    return this.list.length < 2 ? 'single' : this.mode.value;
  }

  /** How slides are shown, as CSS has it. */
  get filter(): string {
    return this.brightness.value === 1 ? 'none' : `brightness(${this.brightness.value})`;
  }

  find(slideId: string): Pane | undefined {
    return this.list.find((pane) => pane.slide.id === slideId);
  }

  /** Open a slide in a pane of its own, where the others look, unless that is no longer wanted meanwhile. */
  async add(slide: Slide, view: View | null, isWanted: () => boolean): Promise<void> {
    const where = view ?? (this.first?.image ? this.first.view() : null);
    const first = this.first?.slide;
    const beside = first ? await ask<Beside>(besidePath(first, slide)) : ON_ITSELF;
    if (!isWanted()) return;
    const pane = new Pane(slide);
    pane.beside.value = beside;
    this.open.value = [...this.list, pane];
    await pane.ready;
    if (!this.list.includes(pane)) return;
    if (where) pane.look(where);
    else pane.viewer.viewport.goHome(true);
    for (const event of ['canvas-press', 'canvas-scroll', 'canvas-pinch'] as const)
      pane.viewer.addHandler(event, () => (this.leading = pane));
    pane.viewer.navigator.addHandler('canvas-press', () => (this.leading = pane));
    pane.viewer.addHandler('update-viewport', () => this.moved(pane));
  }

  remove(pane: Pane): void {
    const wasFirst = pane === this.first;
    this.open.value = this.list.filter((one) => one !== pane);
    if (this.leading === pane) this.leading = null;
    if (wasFirst && this.first) void this.rebase(this.first);
    this.front.value = 0;
  }

  clear(): void {
    this.open.value = [];
    this.leading = null;
    this.front.value = 0;
  }

  setMode(mode: Mode): void {
    if (mode === 'blink' && this.mode.value === 'blink') return this.blink();
    [this.mode.value, this.front.value] = [mode, 0];
  }

  /** Link the panes again, each where it has been moved to; the server keeps that. */
  setLinked(linked: boolean): void {
    const relinked = linked && !this.linked.value;
    this.linked.value = linked;
    if (!relinked || !this.first) return;
    const view = this.first.view();
    for (const pane of this.list.slice(1)) {
      const affine = pane.affineAsSeen(view);
      if (pane.wouldMove(affine)) void this.layByHand(pane, affine);
    }
  }

  private async layByHand(pane: Pane, affine: Affine): Promise<void> {
    await put<Beside>(besidePath(this.first!.slide, pane.slide), { affine: toRows(affine) }).then((beside) => this.lie(pane, beside), complain);
  }

  /** Let a slide lie on the first as the server says now. */
  lie(pane: Pane, beside: Beside): void {
    pane.beside.value = beside;
    this.lies.value += 1;
    if (this.linked.value && this.first?.image) pane.look(this.first.view());
  }

  /** Turn a slide over: it is seen from its other side, in the middle of the view. */
  turnOver(pane: Pane): void {
    const viewport = pane.viewer.viewport;
    if (!this.first?.image) return;
    viewport.setFlip(!viewport.getFlip());
    void this.layByHand(pane, pane.affineAsSeen(this.first.view()));
  }

  /** Where a slide bends, an affine holds around one place: look again how it lies once the view has come to rest. */
  private readonly lieAgain = settled(() => {
    const { first } = this;
    if (!first?.image || !this.linked.value) return;
    const { x, y } = first.view();
    for (const pane of this.list.slice(1).filter(({ beside }) => beside.value.bends))
      void ask<Beside>(`${besidePath(first.slide, pane.slide)}?x=${x}&y=${y}`).then((beside) => {
        pane.beside.value = beside;
        if (this.first === first && this.leading !== pane) pane.look(first.view());
      }, complain);
  }, 200);

  lead(work: (pane: Pane) => void): void {
    const pane = this.leading && this.list.includes(this.leading) ? this.leading : this.first;
    if (!pane?.image) return;
    this.leading = pane;
    work(pane);
  }

  zoomBy(factor: number): void {
    this.lead((pane) => pane.viewer.viewport.zoomBy(factor).applyConstraints());
  }

  turnBy(degrees: number): void {
    this.lead(({ viewer }) => viewer.viewport.setRotation((viewer.viewport.getRotation() + degrees) % 360));
  }

  turnBack(): void {
    this.lead(({ viewer }) => viewer.viewport.setRotation(0));
  }

  fit(): void {
    this.lead((pane) => pane.viewer.viewport.goHome());
  }

  /** Show so many screen pixels for a pixel of the slide. */
  zoomTo(zoom: number): void {
    this.lead((pane) => pane.viewer.viewport.zoomTo(pane.image!.imageToViewportZoom(zoom)));
  }

  /** Move by so many steps of 15 % of what is in view. */
  panBy(x: number, y: number): void {
    this.lead((pane) => {
      const viewport = pane.viewer.viewport;
      const size = viewport.getContainerSize();
      viewport.panBy(viewport.deltaPointsFromPixels(new OpenSeadragon.Point(x * size.x * 0.15, y * size.y * 0.15)));
      viewport.applyConstraints();
    });
  }

  /** The next slide: in blink that is seen alone, in the curtain and the fade that lies behind the first. */
  blink(): void {
    if (this.list.length < 2) return;
    const [least, count] = this.mode.value === 'blink' ? [0, this.list.length] : [1, this.list.length - 1];
    this.front.value = least + ((this.behind - least + 1) % count);
  }

  /** Which pane lies behind the curtain, or is seen in blink. */
  get behind(): number {
    return this.mode.value === 'blink' ? this.front.value : Math.max(1, this.front.value);
  }

  /** Let another pane be the first: the server says how the others lie on it. */
  private async rebase(first: Pane): Promise<void> {
    const others = this.list.slice(1);
    const back = first.lies.value.inverse();
    for (const { beside, lies } of others) beside.value = { ...beside.value, affine: toRows(lies.value.multiply(back)) };
    first.beside.value = ON_ITSELF;
    const found = await Promise.all(others.map((pane) => ask<Beside>(besidePath(first.slide, pane.slide)).catch(() => null)));
    if (first !== this.first) return;
    others.forEach((pane, index) => found[index] && this.lie(pane, found[index]));
  }

  private moved(pane: Pane): void {
    this.leading ??= this.first; // not whichever is drawn first: its constraints would hold the others back
    if (pane !== this.leading) return;
    if (this.linked.value) {
      const view = pane.view(true);
      for (const other of this.list) if (other !== pane) other.look(view);
    }
    this.lieAgain();
  }
}
