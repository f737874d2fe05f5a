// The open slides, moved together, side by side or on top of one another.

import { signal } from '@preact/signals';
import OpenSeadragon from 'openseadragon';
import { ask, type Placement, type Slide, type StainVectors } from './api';
import { FIRST_THRESHOLD_OD10, isDifference } from './density';
import { Pane, type OverlayChoice, type View } from './pane';

export const MODES = ['side', 'curtain', 'blink', 'fade'] as const;
export type Mode = (typeof MODES)[number];
export const MOST_PANES = 4;
const ON_ITSELF: Placement = { scale: 1, offset: [0, 0], by: '', is_guess: false };

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
  readonly brightness = signal(1); // of slides on the screen alone
  readonly place = signal<Place | null>(null);
  onMove: () => void = () => {};
  onChange: () => void = () => {};
  onStains: () => void = () => {};
  private leading: Pane | null = null;

  get list(): Pane[] {
    return this.open.value;
  }

  get first(): Pane | null {
    return this.list[0] ?? null;
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

  /** Open a slide in a pane of its own, where the others look; null where that is no longer wanted meanwhile. */
  async add(slide: Slide, view: View | null, isWanted: () => boolean): Promise<Pane | null> {
    const where = view ?? (this.first?.image ? this.first.view() : null);
    const first = this.first?.slide;
    const placement = first && (await ask<Placement>(`slides/${first.id}/beside/${slide.id}`));
    if (!isWanted()) return null;
    const pane = new Pane(slide);
    if (placement) {
      pane.lie(placement);
      pane.lieAsBefore(first);
    }
    this.open.value = [...this.list, pane];
    await pane.ready;
    if (!this.list.includes(pane)) return null;
    if (where) pane.look(where);
    else pane.viewer.viewport.goHome(true);
    for (const event of ['canvas-press', 'canvas-scroll', 'canvas-pinch'] as const)
      pane.viewer.addHandler(event, () => (this.leading = pane));
    pane.viewer.navigator.addHandler('canvas-press', () => (this.leading = pane));
    pane.viewer.addHandler('update-viewport', () => this.moved(pane));
    this.layOverlay();
    this.onChange();
    return pane;
  }

  remove(pane: Pane): void {
    const wasFirst = pane === this.first;
    this.open.value = this.list.filter((one) => one !== pane);
    if (this.leading === pane) this.leading = null;
    if (wasFirst && this.first) void this.rebase(this.first);
    this.layOverlay();
    this.changed();
  }

  clear(): void {
    this.open.value = [];
    this.leading = null;
    this.front.value = 0;
  }

  setMode(mode: Mode): void {
    if (mode === 'blink' && this.mode.value === 'blink') return this.blink();
    this.mode.value = mode;
    this.changed();
  }

  private changed(): void {
    this.front.value = 0;
    this.onChange();
  }

  /** Link the panes again, each where it has been moved to. */
  setLinked(linked: boolean): void {
    const relinked = linked && !this.linked.value;
    this.linked.value = linked;
    if (!relinked || !this.first) return;
    const view = this.first.view();
    for (const pane of this.list.slice(1)) pane.lieAsSeen(view, this.first.slide);
    this.layOverlay();
    this.onChange();
  }

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

  layOverlay(): void {
    this.list.forEach((pane, index) => {
      const other = index ? null : (this.list[1] ?? null);
      pane.lay(this.overlay.value, isDifference(this.overlay.value.kind) ? other : null);
    });
  }

  chooseStains(pane: Pane, stains: StainVectors): void {
    pane.chooseStains(stains);
    this.layOverlay();
    this.onStains();
  }

  /** Let another pane be the first: others lie on it as they did where one was moved by hand, else as the server says. */
  private async rebase(first: Pane): Promise<void> {
    const { scale, turn, offset, movedByHand } = first;
    first.lie(ON_ITSELF);
    for (const pane of this.list.slice(1)) {
      pane.turn -= turn;
      pane.scale /= scale;
      pane.offset = pane.offset.minus(offset.rotate(pane.turn).times(pane.scale));
      pane.movedByHand ||= movedByHand;
    }
    const others = this.list.slice(1).filter((pane) => !pane.movedByHand);
    const found = await Promise.all(
      others.map((pane) => ask<Placement>(`slides/${first.slide.id}/beside/${pane.slide.id}`).catch(() => null)),
    );
    if (first !== this.first) return;
    others.forEach((pane, index) => found[index] && pane.lie(found[index]));
    this.layOverlay();
    this.onChange();
  }

  private moved(pane: Pane): void {
    if (this.leading === null) this.leading = pane;
    if (pane === this.first) this.place.value = { zoom: pane.imageZoom, rotation: pane.viewer.viewport.getRotation(true) };
    if (pane !== this.leading) return;
    if (this.linked.value) {
      const view = pane.view(true);
      for (const other of this.list) if (other !== pane) other.look(view);
    }
    this.onMove();
  }
}
