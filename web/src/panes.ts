// The open slides, moved together, side by side or on top of one another.

import OpenSeadragon from 'openseadragon';
import { ask, type Placement, type Slide } from './api';
import { FIRST_THRESHOLD_OD10, isDifference } from './density';
import { byId } from './dom';
import { Pane, type OverlayChoice, type View } from './pane';

export const MODES = ['side', 'curtain', 'blink'] as const;
export type Mode = (typeof MODES)[number];
export const MOST_PANES = 4;
const ON_ITSELF: Placement = { scale: 1, offset: [0, 0], by: '', is_guess: false };

/** The panes, and how they move. */
export class Panes {
  readonly list: Pane[] = [];
  mode: Mode = 'side';
  linked = true;
  overlay: OverlayChoice = { kind: 'none', threshold: FIRST_THRESHOLD_OD10, opacity: 0.75 };
  onMove: () => void = () => {};
  onChange: () => void = () => {};
  onStains: () => void = () => {};
  private leading: Pane | null = null;
  private shown = 0; // in blink mode

  get first(): Pane | null {
    return this.list[0] ?? null;
  }

  find(slideId: string): Pane | undefined {
    return this.list.find((pane) => pane.slide.id === slideId);
  }

  /** Open a slide in a pane of its own, where the others look; null where that is no longer wanted meanwhile. */
  async add(slide: Slide, view: View | null, isWanted: () => boolean): Promise<Pane | null> {
    const where = view ?? (this.first?.image ? this.first.view() : null);
    const placement = this.first && (await ask<Placement>(`slides/${this.first.slide.id}/beside/${slide.id}`));
    if (!isWanted()) return null;
    const pane = new Pane(slide, (closed) => this.remove(closed), () => this.stainsChanged());
    if (placement) pane.lie(placement);
    this.list.push(pane);
    this.arrange();
    await pane.ready;
    if (!this.list.includes(pane)) return null;
    if (where) pane.look(where);
    else pane.viewer.viewport.goHome(true);
    pane.viewer.addHandler('canvas-press', () => (this.leading = pane));
    pane.viewer.addHandler('canvas-scroll', () => (this.leading = pane));
    pane.viewer.addHandler('canvas-pinch', () => (this.leading = pane));
    pane.viewer.addHandler('update-viewport', () => this.moved(pane));
    this.layOverlay();
    this.onChange();
    return pane;
  }

  remove(pane: Pane): void {
    const wasFirst = pane === this.first;
    this.list.splice(this.list.indexOf(pane), 1);
    pane.destroy();
    if (this.leading === pane) this.leading = null;
    if (wasFirst && this.first) void this.rebase(this.first);
    this.arrange();
    this.layOverlay();
    this.onChange();
  }

  clear(): void {
    while (this.list.length) this.list.pop()!.destroy();
    this.leading = null;
    this.arrange();
  }

  setMode(mode: Mode): void {
    this.mode = mode;
    this.arrange();
    this.onChange();
  }

  /** Link the panes again, each where it has been moved to. */
  setLinked(linked: boolean): void {
    const relinked = linked && !this.linked;
    this.linked = linked;
    if (!relinked || !this.first) return;
    const view = this.first.view();
    for (const pane of this.list.slice(1)) pane.lieAsSeen(view);
    this.layOverlay();
    this.onChange();
  }

  lead(work: (pane: Pane) => void): void {
    const pane = this.leading && this.list.includes(this.leading) ? this.leading : this.first;
    if (!pane) return;
    this.leading = pane;
    work(pane);
  }

  setCurtain(percent: number): void {
    byId('panes').style.setProperty('--curtain', `${percent}%`);
  }

  zoomBy(factor: number): void {
    this.lead((pane) => pane.viewer.viewport.zoomBy(factor).applyConstraints());
  }

  turnBy(degrees: number): void {
    this.lead(({ viewer }) => viewer.viewport.setRotation((viewer.viewport.getRotation() + degrees) % 360));
  }

  fit(): void {
    this.lead((pane) => pane.viewer.viewport.goHome());
  }

  oneToOne(): void {
    this.lead((pane) => pane.viewer.viewport.zoomTo(pane.image!.imageToViewportZoom(1)));
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

  /** In blink mode, the next slide. */
  blink(): void {
    if (this.mode !== 'blink' || this.list.length < 2) return;
    this.shown = (this.shown + 1) % this.list.length;
    this.list.forEach((pane, index) => pane.element.classList.toggle('hidden', index !== this.shown));
  }

  layOverlay(): void {
    this.list.forEach((pane, index) => {
      const other = index ? null : (this.list[1] ?? null);
      pane.lay(this.overlay, isDifference(this.overlay.kind) ? other : null);
    });
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
    const found = await Promise.all(others.map((pane) => this.placementOf(pane, first).catch(() => null)));
    if (first !== this.first) return;
    others.forEach((pane, index) => found[index] && pane.lie(found[index]));
    this.layOverlay();
    this.onChange();
  }

  private placementOf(pane: Pane, first: Pane): Promise<Placement> {
    return ask<Placement>(`slides/${first.slide.id}/beside/${pane.slide.id}`);
  }

  private stainsChanged(): void {
    this.layOverlay();
    this.onStains();
  }

  private arrange(): void {
    const panes = byId('panes');
    const mode = this.list.length < 2 ? 'single' : this.mode;
    panes.dataset.mode = mode;
    panes.dataset.count = String(this.list.length);
    this.shown = 0;
    this.list.forEach((pane, index) => {
      pane.element.classList.toggle('hidden', mode === 'blink' && index > 0);
      pane.element.dataset.index = String(index);
      pane.viewer.forceResize();
    });
  }

  private moved(pane: Pane): void {
    if (this.leading === null) this.leading = pane;
    if (pane !== this.leading) return;
    if (this.linked) {
      const view = pane.view(true);
      for (const other of this.list) if (other !== pane) other.look(view);
    }
    this.onMove();
  }
}
