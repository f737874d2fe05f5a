// Regions on the first slide: drawn or imported, shown on every slide, measured by the server, kept by the browser.

import { signal } from '@preact/signals';
import OpenSeadragon from 'openseadragon';
import { ask, post, Refused, type Imported, type Numbers, type Slide, type StainVectors } from './api';
import { complain, keep, kept, say, svg } from './dom';
import type { Box, Pane } from './pane';
import type { Panes } from './panes';
import type { MeasuredSlide, Measurement, Region } from './region_numbers';

type Ring = [number, number][];
export type Drawing = 'rectangle' | 'polygon' | 'ruler';

const MOST_REGIONS = 200;
const SAME_PX = 5; // on the screen: a second click so near is the same corner
const HINTS: Record<Drawing, string> = {
  rectangle: 'Drag a rectangle. The wheel still zooms; Esc stops.',
  polygon: 'Click corner after corner. A double click or Enter closes; Esc stops.',
  ruler: 'Drag from end to end. Esc stops.',
};

interface Shown {
  group: SVGGElement; // in level-0 pixels of the first slide
  labels: SVGGElement; // in pixels of the screen
}

/** A slide that is measured: that of a pane, or a virtual stain that lies on the first. */
interface Source {
  slide: Slide;
  stains: StainVectors;
  pane: Pane | null;
}

export class Regions {
  readonly list = signal<Region[]>([]);
  readonly chosen = signal(-1);
  readonly drawing = signal<Drawing | null>(null);
  readonly measured = signal<Measurement | null>(null); // null while anything that it depends on is newer
  readonly state = signal<'' | 'measuring' | string>('');
  readonly undone = signal<Region[][]>([]); // what the list was before, the newest last
  /** Virtual stains that lie on the first slide, which are measured too. */
  laidOver: () => Promise<Slide[]> = () => Promise.resolve([]);
  private ruler: Ring = [];
  private points: Ring = [];
  private layers = new Map<Pane, Shown>();
  private asked = 0;
  private of = ''; // the slide that the present ones are on

  constructor(private readonly panes: Panes) {}

  /** Start drawing, or stop where that is what is being drawn. */
  draw(kind: Drawing | null): void {
    this.drawing.value = kind === this.drawing.value ? null : kind;
    [this.points, this.ruler] = [[], []];
    if (this.drawing.value && !this.panes.first) {
      this.drawing.value = null;
      return say('Open a slide to draw on.');
    }
    say(this.drawing.value ? HINTS[this.drawing.value] : '');
    this.show();
  }

  closePolygon(): void {
    if (this.drawing.value === 'polygon' && this.points.length > 2) this.finish(this.points);
  }

  /** Let a pane show regions, and be drawn on. */
  attach(pane: Pane): void {
    const layer = svg('svg', { class: 'regions', 'aria-hidden': 'true' });
    const shown = { group: svg('g', {}) as SVGGElement, labels: svg('g', { class: 'labels' }) as SVGGElement };
    layer.append(shown.group, shown.labels);
    pane.viewer.element.append(layer);
    this.layers.set(pane, shown);
    pane.viewer.addHandler('update-viewport', () => this.place(pane));
    layer.addEventListener('pointerdown', (event) => this.pressed(pane, event as PointerEvent));
    layer.addEventListener('dblclick', () => this.closePolygon());
    layer.addEventListener('wheel', (event) => this.wheel(pane, event as WheelEvent), { passive: false });
    this.show();
  }

  /** Forget panes that have gone, and measure anew. */
  refresh(): void {
    for (const pane of this.layers.keys()) if (!this.panes.list.includes(pane)) this.layers.delete(pane);
    const now = this.panes.first?.slide.id ?? '';
    if (now !== this.of) {
      this.of = now;
      [this.list.value, this.undone.value, this.chosen.value] = [kept<Region[]>(`regions ${now}`, []), [], -1];
    }
    this.show();
    void this.measure();
  }

  /** Other regions: kept over a reload, and undone by `undo`. */
  private replace(regions: Region[]): Promise<void> {
    this.undone.value = [...this.undone.value, this.list.value];
    return this.set(regions);
  }

  private async set(regions: Region[]): Promise<void> {
    this.list.value = regions.slice(0, MOST_REGIONS);
    if (this.chosen.value >= this.list.value.length) this.chosen.value = -1;
    if (!keep(`regions ${this.of}`, this.list.value))
      say('This browser has no room to keep these regions. Export them before you close the page.', true);
    this.show();
    await this.measure();
  }

  undo(): void {
    const before = this.undone.value.at(-1);
    if (!before) return;
    this.undone.value = this.undone.value.slice(0, -1);
    void this.set(before);
  }

  rename(index: number, name: string): void {
    const list = this.list.value.map((region, i) => (i === index ? { ...region, name } : region));
    [this.undone.value, this.list.value] = [[...this.undone.value, this.list.value], list];
    keep(`regions ${this.of}`, list);
    const { value } = this.measured;
    if (value) this.measured.value = { ...value, numbers: value.numbers.map((line) => (line.region === index ? { ...line, name } : line)) };
    this.show();
  }

  remove(index: number): void {
    void this.replace(this.list.value.filter((_, i) => i !== index));
  }

  clear(): void {
    void this.replace([]);
  }

  /** Show a region in the middle. */
  choose(index: number): void {
    this.chosen.value = index;
    this.show();
    const box = this.box(index);
    if (box) this.panes.first?.lookAt(box);
  }

  /** What a region covers, in whole pixels of the first slide; the newest where none is chosen. */
  box(index = this.chosen.value < 0 ? this.list.value.length - 1 : this.chosen.value): Box | null {
    const region = this.list.value[index];
    const slide = this.panes.first?.slide;
    if (!region || !slide) return null;
    const numbers = (JSON.stringify(region.geometry.coordinates).match(/-?[\d.]+(e-?\d+)?/g) ?? []).map(Number);
    const [xs, ys] = [0, 1].map((odd) => numbers.filter((_, i) => i % 2 === odd));
    const ends = (values: number[], most: number): [number, number] => {
      const [low, high] = [Math.max(0, Math.floor(Math.min(...values))), Math.min(most, Math.ceil(Math.max(...values)))];
      return [low, high - low];
    };
    const [[x, w], [y, h]] = [ends(xs, slide.width), ends(ys, slide.height)];
    return w > 0 && h > 0 ? { location: [x, y], size: [w, h] } : null;
  }

  addView(): void {
    const pane = this.panes.first;
    if (!pane?.image) return;
    const [left, top, right, bottom] = pane.bounds();
    if (right > left && bottom > top) this.add(rectangle(left, top, right, bottom));
  }

  /** Take numbers away that no longer hold, from the page and from what is exported. */
  forgetNumbers(): void {
    this.asked += 1;
    this.measured.value = null;
    this.state.value = this.list.value.length && this.panes.first ? 'measuring' : '';
  }

  /** The numbers of every region in every open slide. */
  async measure(): Promise<void> {
    this.forgetNumbers();
    const ticket = this.asked;
    const first = this.panes.first;
    if (!first || !this.list.value.length) return;
    const { threshold } = this.panes.overlay.value;
    const regions = this.list.value;
    try {
      const over = (await this.laidOver()).map((slide): Source => ({ slide, stains: slide.stains, pane: null }));
      const sources = [...this.panes.list.map((pane): Source => ({ slide: pane.slide, stains: pane.stains.value, pane })), ...over];
      if (ticket !== this.asked) return;
      const slides = sources.map(measuredSlide);
      const found = await Promise.all(sources.map((source) => this.numbersIn(source, first, threshold).catch(refusedIn(source, regions))));
      if (ticket !== this.asked) return;
      const numbers = regions.flatMap((_, index) => found.map((lines) => lines[index]));
      [this.measured.value, this.state.value] = [{ threshold, slides, numbers }, ''];
    } catch (error) {
      if (ticket === this.asked) this.state.value = (error as Error).message;
    }
  }

  /** The numbers of every region in a slide; where it was moved by hand, of where regions are seen on it. */
  private async numbersIn({ slide, stains, pane }: Source, first: Pane, threshold: number): Promise<Numbers[]> {
    const moved = pane?.movedByHand ? pane : null;
    const found = await post<Numbers[]>('numbers', {
      on: (moved ?? first).slide.id,
      slides: { [slide.id]: stains },
      regions: this.list.value.map(({ name, geometry }) => ({ name, geometry: moved ? seenOn(moved, geometry) : geometry })),
      threshold_od10: threshold,
    });
    return found.map((line, index) => ({ ...line, region: index, slide: slide.id }));
  }

  private add(ring: Ring): void {
    const taken = this.list.value.map(({ name }) => Number(/^Region (\d+)$/.exec(name)?.[1] ?? 0));
    const name = `Region ${Math.max(0, ...taken) + 1}`;
    this.chosen.value = this.list.value.length;
    say(`${name} is added. Its numbers are under “Measure”.`);
    void this.replace([...this.list.value, { name, geometry: { type: 'Polygon', coordinates: [[...ring, ring[0]]] } }]);
  }

  private pressed(pane: Pane, event: PointerEvent): void {
    if (!this.drawing.value || event.button > 0) return;
    event.preventDefault();
    event.stopPropagation();
    const start = this.at(pane, event);
    if (this.drawing.value === 'polygon') {
      const last = this.points.at(-1);
      const near = last && Math.hypot(start[0] - last[0], start[1] - last[1]) * pane.imageZoom < SAME_PX * pane.scale;
      if (!near) this.points.push(start);
      return this.show();
    }
    const layer = event.currentTarget as SVGElement;
    layer.setPointerCapture(event.pointerId);
    const move = (moved: Event): void => {
      const [x, y] = this.at(pane, moved as PointerEvent);
      const corners = rectangle(Math.min(x, start[0]), Math.min(y, start[1]), Math.max(x, start[0]), Math.max(y, start[1]));
      if (this.drawing.value === 'ruler') this.ruler = [start, [x, y]];
      else this.points = corners;
      this.show();
    };
    const end = (): void => {
      layer.removeEventListener('pointermove', move);
      if (this.points.length) this.finish(this.points);
    };
    layer.addEventListener('pointermove', move);
    layer.addEventListener('pointerup', end, { once: true });
    layer.addEventListener('pointercancel', () => this.draw(null), { once: true });
  }

  /** While one draws, the picture is under the drawing: the wheel zooms it all the same. */
  private wheel(pane: Pane, event: WheelEvent): void {
    event.preventDefault();
    const box = pane.viewer.element.getBoundingClientRect();
    const { viewport } = pane.viewer;
    const at = viewport.pointFromPixel(new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top));
    viewport.zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, at).applyConstraints();
  }

  private finish(ring: Ring): void {
    this.draw(null);
    const [xs, ys] = [ring.map(([x]) => x), ring.map(([, y]) => y)];
    if (Math.max(...xs) - Math.min(...xs) >= 1 && Math.max(...ys) - Math.min(...ys) >= 1) this.add(ring);
  }

  /** A place on the screen in level-0 pixels of the first slide. */
  private at(pane: Pane, event: PointerEvent): [number, number] {
    const box = pane.viewer.element.getBoundingClientRect();
    const point = pane.image!.viewerElementToImageCoordinates(new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top));
    const [x, y] = pane.toFirst(point);
    return [Math.round(x * 100) / 100, Math.round(y * 100) / 100];
  }

  private place(pane: Pane): void {
    const shown = this.layers.get(pane);
    if (!shown || !pane.image) return;
    pane.layOn(shown.group, (x, y) => pane.fromFirst(x, y));
    for (const label of shown.labels.children as unknown as SVGTextElement[]) {
      const { x, y } = pane.image.imageToViewerElementCoordinates(pane.fromFirst(Number(label.dataset.x), Number(label.dataset.y)));
      label.setAttribute('x', String(x + 4));
      label.setAttribute('y', String(y - 5));
    }
  }

  private show(): void {
    const first = this.panes.first?.slide;
    for (const [pane, { group, labels }] of this.layers) {
      const shapes = this.list.value.map((region, i) =>
        svg('path', { d: path(region.geometry), class: i === this.chosen.value ? 'region chosen' : 'region' }),
      );
      const names = this.list.value.map((region, i) => label(region.name, this.box(i)?.location));
      if (this.points.length)
        shapes.push(svg('path', { d: `M${this.points.map((point) => point.join(' ')).join('L')}${this.drawing.value === 'polygon' ? '' : 'Z'}`, class: 'region new' }));
      if (this.ruler.length && first) {
        const [[x, y], [right, bottom]] = this.ruler;
        const length = Math.hypot(right - x, bottom - y);
        shapes.push(svg('path', { d: `M${x} ${y}L${right} ${bottom}`, class: 'region new' }));
        names.push(label(first.mpp ? `${(length * first.mpp).toFixed(1)} µm` : `${length.toFixed(0)} px`, [right, bottom]));
      }
      group.replaceChildren(...shapes);
      labels.replaceChildren(...names);
      pane.viewer.element.classList.toggle('drawing', this.drawing.value !== null);
      this.place(pane);
    }
  }

  /** The server reads the file, so that page and command line take the same. */
  async importFile(file: File): Promise<void> {
    try {
      const found = await ask<Imported>('regions', { method: 'POST', headers: { 'content-type': 'application/octet-stream' }, body: file });
      const more = this.list.value.length + found.regions.length - MOST_REGIONS;
      await this.replace([...this.list.value, ...found.regions]);
      const words = more > 0 ? `Chromogen left out the last ${more}: the page takes ${MOST_REGIONS} regions.` : '';
      say([...found.left_out, words].filter(Boolean).join(' ') || `${found.regions.length} regions of ${file.name}.`);
    } catch (error) {
      complain(new Error(`${file.name}: ${(error as Error).message}`));
    }
  }
}

const label = (words: string, [x, y]: [number, number] = [0, 0]): SVGElement => {
  const text = svg('text', { 'data-x': x, 'data-y': y });
  text.textContent = words;
  return text;
};

/** One slide that cannot be measured does not take the numbers of others away. */
function refusedIn({ slide }: Source, regions: Region[]): (error: Error) => Numbers[] {
  return (error) => {
    if (!(error instanceof Refused && error.status === 422)) throw error;
    return regions.map(({ name }, region) => ({ region, name, slide: slide.id, error: error.message }));
  };
}

const measuredSlide = ({ slide, stains, pane }: Source): MeasuredSlide => ({
  id: slide.id,
  name: slide.name,
  virtual: slide.virtual,
  stains,
  stainsChosen: pane?.stainsChosen.value ?? false,
  stainsDoubt: slide.stains_doubt,
  mpp: slide.mpp,
  by: pane?.by.value ?? 'where its file says that it was made',
  isGuess: pane?.isGuess.value ?? false,
  laidOver: pane?.isLaidOver ?? false,
});

/** A geometry of the first slide where one sees it on another, in level-0 pixels of that. */
function seenOn(pane: Pane, { type, coordinates }: Region['geometry']): Region['geometry'] {
  const placed = (at: unknown): unknown => {
    if (!Array.isArray(at)) return at;
    if (Array.isArray(at[0])) return at.map(placed);
    const { x, y } = pane.fromFirst(Number(at[0]), Number(at[1]));
    return [x, y];
  };
  return { type, coordinates: placed(coordinates) };
}

const rectangle = (left: number, top: number, right: number, bottom: number): Ring => [
  [left, top],
  [right, top],
  [right, bottom],
  [left, bottom],
];

function path(geometry: Region['geometry']): string {
  const polygons = (geometry.type === 'MultiPolygon' ? geometry.coordinates : [geometry.coordinates]) as number[][][][];
  return polygons
    .flatMap((rings) => rings.map((ring) => `M${ring.map((point) => `${Number(point[0])} ${Number(point[1])}`).join('L')}Z`))
    .join('');
}
