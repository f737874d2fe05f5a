// Regions on the first slide: drawn or imported, measured by the server, kept by the browser.

import { signal } from '@preact/signals';
import { boxAround, ringsOf, type Place } from './affine';
import { post, upload, type Box, type Imported, type Measurement, type Region } from './api';
import { complain, keep, kept, say, settled } from './dom';
import type { Pane } from './pane';
import type { Panes } from './panes';

export type Ring = Place[];
export type Drawing = 'rectangle' | 'polygon' | 'ruler';

const MAX_REGIONS = 200;
const SETTLED_MS = 200;
const SAME_PX = 5; // on the screen: a second click so near is the same corner
const HINTS: Record<Drawing, string> = {
  rectangle: 'Drag a rectangle. The wheel still zooms; Esc stops.',
  polygon: 'Click corner after corner. A double click or Enter closes; Esc stops.',
  ruler: 'Drag from end to end. Esc stops.',
};

export class Regions {
  readonly list = signal<Region[]>([]);
  readonly chosen = signal(-1);
  readonly drawing = signal<Drawing | null>(null);
  readonly measured = signal<Measurement | null>(null); // null while anything that it depends on is newer
  readonly state = signal<'' | 'measuring' | string>('');
  readonly undone = signal<Region[][]>([]); // what the list was before, the newest last
  /** Virtual stains that lie on the first slide, which are measured too. */
  laidOver: () => string[] = () => [];
  readonly points = signal<Ring>([]); // of what is being drawn; of the ruler, its ends
  private asked = 0;
  private of = ''; // the slide that the present ones are on

  constructor(private readonly panes: Panes) {}

  /** Start drawing, or stop where that is what is being drawn. */
  draw(kind: Drawing | null): void {
    const drawn = kind === this.drawing.value ? null : kind;
    this.points.value = [];
    this.drawing.value = this.panes.first ? drawn : null;
    say(drawn && !this.panes.first ? 'Open a slide to draw on.' : drawn ? HINTS[drawn] : '');
  }

  closePolygon(): void {
    if (this.drawing.value === 'polygon' && this.points.value.length > 2) this.finish();
  }

  /** Show the regions of a slide, those that this browser keeps. */
  showOf(slideId: string): void {
    this.of = slideId;
    [this.list.value, this.undone.value, this.chosen.value] = [kept<Region[]>(`regions ${slideId}`, []), [], -1];
  }

  /** Other regions: kept over a reload, and undone by `undo`. */
  private replace(regions: Region[]): void {
    this.undone.value = [...this.undone.value, this.list.value];
    this.set(regions);
  }

  private set(regions: Region[]): void {
    this.list.value = regions.slice(0, MAX_REGIONS);
    if (this.chosen.value >= this.list.value.length) this.chosen.value = -1;
    if (!keep(`regions ${this.of}`, this.list.value))
      say('This browser has no room to keep these regions. Export them before you close the page.', true);
  }

  undo(): void {
    const before = this.undone.value.at(-1);
    if (!before) return;
    this.undone.value = this.undone.value.slice(0, -1);
    this.set(before);
  }

  rename(index: number, name: string): void {
    this.replace(this.list.value.map((region, i) => (i === index ? { ...region, name } : region)));
  }

  remove(index: number): void {
    this.replace(this.list.value.filter((_, i) => i !== index));
  }

  clear(): void {
    this.replace([]);
  }

  /** Show a region in the middle. */
  choose(index: number): void {
    this.chosen.value = index;
    const box = this.box(index);
    if (box) this.panes.first?.lookAt(box);
  }

  /** What a region covers, in whole pixels of the first slide; the newest where none is chosen. */
  box(index = this.chosen.value < 0 ? this.list.value.length - 1 : this.chosen.value): Box | null {
    const region = this.list.value[index];
    const slide = this.panes.first?.slide;
    if (!region || !slide) return null;
    const box = boxAround(ringsOf(region.geometry).flat(), slide);
    return Math.min(...box.size) > 0 ? box : null;
  }

  addView(): void {
    const pane = this.panes.first;
    if (!pane?.image) return;
    const { location: [x, y], size: [w, h] } = pane.seen();
    if (w > 0 && h > 0) this.add(rectangle([x, y], [x + w, y + h]));
  }

  /** Take numbers away that no longer hold, from the page and from what is exported. */
  private forgetNumbers(): void {
    this.asked += 1;
    this.measured.value = null;
    this.state.value = this.list.value.length && this.panes.first ? 'measuring' : '';
  }

  /** Measure anew once things are quiet; until then there are no numbers. */
  measureSoon(): void {
    this.forgetNumbers();
    this.measureAgain();
  }

  private readonly measureAgain = settled(() => void this.measure(), SETTLED_MS);

  /** The numbers of every region in every open slide. */
  private async measure(): Promise<void> {
    const ticket = this.asked;
    const { first, list } = this.panes;
    if (!first || !this.list.value.length) return;
    const open = list.map(({ slide, stains, stainsChosen, isLaidOver }) => ({
      id: slide.id, stains: stains.value, is_chosen: stainsChosen.value, is_covered: isLaidOver,
    }));
    const slides = [...open, ...this.laidOver().map((id) => ({ id }))];
    const asked = { on: first.slide.id, slides, regions: this.list.value, threshold_od10: this.panes.overlay.value.threshold };
    try {
      const measured = await post<Measurement>('numbers', asked);
      if (ticket === this.asked) [this.measured.value, this.state.value] = [measured, ''];
    } catch (error) {
      if (ticket === this.asked) this.state.value = (error as Error).message;
    }
  }

  private add(ring: Ring): void {
    const taken = this.list.value.map(({ name }) => Number(/^Region (\d+)$/.exec(name)?.[1] ?? 0));
    const name = `Region ${Math.max(0, ...taken) + 1}`;
    this.chosen.value = this.list.value.length;
    say(`${name} is added. Its numbers are under “Measure”.`);
    this.replace([...this.list.value, { name, geometry: { type: 'Polygon', coordinates: [[...ring, ring[0]]] } }]);
  }

  /** The pointer was pressed on a pane while something is drawn. */
  pressed(pane: Pane, event: PointerEvent): void {
    if (event.button > 0) return;
    event.preventDefault();
    event.stopPropagation();
    const start = this.at(pane, event);
    if (this.drawing.value === 'polygon') return this.addCorner(pane, start);
    const layer = event.currentTarget as SVGElement;
    layer.setPointerCapture(event.pointerId);
    const isRuler = this.drawing.value === 'ruler';
    const move = (moved: PointerEvent): void => {
      const end = this.at(pane, moved);
      this.points.value = isRuler ? [start, end] : rectangle(start, end);
    };
    const end = (): void => {
      layer.removeEventListener('pointermove', move);
      if (!isRuler && this.points.value.length) this.finish();
    };
    layer.addEventListener('pointermove', move);
    layer.addEventListener('pointerup', end, { once: true });
    layer.addEventListener('pointercancel', () => this.draw(null), { once: true });
  }

  /** The second click of a double click is no corner. */
  private addCorner(pane: Pane, [x, y]: Place): void {
    const last = this.points.value.at(-1);
    const isNear = last && Math.hypot(x - last[0], y - last[1]) * pane.imageZoom < SAME_PX * pane.pose.value.scale;
    if (!isNear) this.points.value = [...this.points.value, [x, y]];
  }

  private finish(): void {
    const ring = this.points.value;
    this.draw(null);
    if (this.panes.first && Math.min(...boxAround(ring, this.panes.first.slide).size) >= 1) this.add(ring);
  }

  /** A place on the screen in level-0 pixels of the first slide. */
  private at(pane: Pane, event: PointerEvent): Place {
    return pane.toFirst(pane.fromWindow(event)).map((value) => Math.round(value * 100) / 100) as Place;
  }

  /** The server reads the file, so that page and command line take the same. */
  async importFile(file: File): Promise<void> {
    try {
      const found = await upload<Imported>('regions', file);
      const more = this.list.value.length + found.regions.length - MAX_REGIONS;
      this.replace([...this.list.value, ...found.regions]);
      const words = more > 0 ? `Chromogen left out the last ${more}: the page takes ${MAX_REGIONS} regions.` : '';
      say([...found.left_out, words].filter(Boolean).join(' ') || `${found.regions.length} regions of ${file.name}.`);
    } catch (error) {
      complain(new Error(`${file.name}: ${(error as Error).message}`));
    }
  }
}

const rectangle = ([x, y]: Place, [otherX, otherY]: Place): Ring => {
  const [left, right] = [Math.min(x, otherX), Math.max(x, otherX)];
  const [top, bottom] = [Math.min(y, otherY), Math.max(y, otherY)];
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
};
