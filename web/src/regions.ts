// Regions on the first slide: drawn or imported, shown on every slide, measured by the server, exported.

import OpenSeadragon from 'openseadragon';
import { ask, post, Refused, type Imported, type Numbers } from './api';
import { byId, download, make, svg } from './dom';
import type { Box, Pane } from './pane';
import type { Panes } from './panes';
import { csv, geojson, notes, numbersTable, type MeasuredSlide, type Measurement, type Region } from './region_numbers';

type Ring = [number, number][];
export type Drawing = 'rectangle' | 'polygon' | 'try';

const MOST_REGIONS = 200;
const MEASURING = 'Measuring…';

export class Regions {
  list: Region[] = [];
  private measured: Measurement | null = null; // null while anything that it depends on is newer
  onBox: (box: Box) => void = () => {};
  private chosen: Box | null = null; // for a trial
  private drawing: Drawing | null = null;
  private points: Ring = [];
  private layers = new Map<Pane, SVGGElement>();
  private asked = 0;
  private kept = new Map<string, Region[]>(); // of slides seen before, by id
  private of = ''; // the slide that the present ones are on

  constructor(private readonly panes: Panes) {
    byId('draw-rectangle').addEventListener('click', () => this.draw('rectangle'));
    byId('draw-polygon').addEventListener('click', () => this.draw('polygon'));
    byId('try-draw').addEventListener('click', () => this.draw('try'));
    byId('region-view').addEventListener('click', () => this.addView());
    byId('clear-regions').addEventListener('click', () => void this.replace([]));
    byId('export-geojson').addEventListener('click', () => this.exportGeojson());
    byId('export-csv').addEventListener('click', () => this.exportCsv());
    byId<HTMLInputElement>('import').addEventListener('change', (event) => {
      const input = event.target as HTMLInputElement;
      if (input.files?.[0]) void this.importFile(input.files[0]);
      input.value = '';
    });
  }

  /** Start drawing, or stop where that is what is being drawn. */
  draw(kind: Drawing | null): void {
    this.drawing = kind === this.drawing ? null : kind;
    this.points = [];
    const pressed: Record<Drawing, string> = { rectangle: 'draw-rectangle', polygon: 'draw-polygon', try: 'try-draw' };
    for (const [name, id] of Object.entries(pressed))
      byId(id).setAttribute('aria-pressed', String(name === this.drawing));
    for (const pane of this.panes.list) {
      pane.viewer.setMouseNavEnabled(this.drawing === null);
      pane.element.classList.toggle('drawing', this.drawing !== null);
    }
    if (this.drawing)
      this.say(this.drawing === 'polygon' ? 'Click corner after corner; double click or Enter closes.' : 'Drag a rectangle.');
    this.show();
  }

  get isDrawing(): boolean {
    return this.drawing !== null;
  }

  closePolygon(): void {
    if (this.drawing === 'polygon' && this.points.length > 2) this.finish(this.points);
  }

  /** Let a pane show regions, and be drawn on. */
  attach(pane: Pane): void {
    const layer = svg('svg', { class: 'regions', 'aria-hidden': 'true' });
    const group = svg('g', {}) as SVGGElement;
    layer.append(group);
    pane.element.querySelector('.canvas')!.append(layer);
    this.layers.set(pane, group);
    pane.viewer.addHandler('update-viewport', () => this.place(pane));
    layer.addEventListener('pointerdown', (event) => this.pressed(pane, event as PointerEvent));
    layer.addEventListener('dblclick', () => this.closePolygon());
    this.show();
  }

  /** Forget panes that have gone, and measure anew. */
  refresh(): void {
    for (const pane of this.layers.keys()) if (!this.panes.list.includes(pane)) this.layers.delete(pane);
    const now = this.panes.first?.slide.id ?? '';
    if (now !== this.of) {
      this.kept.set(this.of, this.list);
      this.list = this.kept.get(now) ?? [];
      this.of = now;
      this.chosen = null;
    }
    this.show();
    void this.measure();
  }

  /** Show which region a trial would take; null for none. */
  mark(box: Box | null): void {
    this.chosen = box;
    this.show();
  }

  async replace(regions: Region[]): Promise<void> {
    this.list = regions.slice(0, MOST_REGIONS);
    this.show();
    await this.measure();
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
    this.measured = null;
    byId('numbers').replaceChildren();
    this.say(this.list.length && this.panes.first ? MEASURING : 'Draw a region to get its numbers for every open slide.');
    this.offer();
  }

  /** The numbers of every region in every open slide. */
  async measure(): Promise<void> {
    this.forgetNumbers();
    const ticket = this.asked;
    const first = this.panes.first;
    if (!first || !this.list.length) return;
    const threshold = this.panes.overlay.threshold;
    const slides = this.panes.list.map(measuredSlide);
    try {
      const found = await Promise.all(this.panes.list.map((pane) => this.numbersIn(pane, first, threshold).catch(this.refusedIn(pane))));
      if (ticket !== this.asked) return;
      const numbers = this.list.flatMap((_, index) => found.map((lines) => lines[index]));
      this.measured = { threshold, slides, numbers };
      this.say('');
      this.table();
    } catch (error) {
      if (ticket === this.asked) this.say((error as Error).message);
    }
    this.offer();
  }

  /** The numbers of every region in a slide; where it was moved by hand, of where regions are seen on it. */
  private async numbersIn(pane: Pane, first: Pane, threshold: number): Promise<Numbers[]> {
    const geometryOf = ({ geometry }: Region): Region['geometry'] => (pane.movedByHand ? seenOn(pane, geometry) : geometry);
    const found = await post<Numbers[]>('numbers', {
      on: (pane.movedByHand ? pane : first).slide.id,
      slides: { [pane.slide.id]: pane.stains },
      regions: this.list.map((region) => ({ name: region.name, geometry: geometryOf(region) })),
      threshold_od10: threshold,
    });
    return found.map((line, index) => ({ ...line, region: index, name: this.list[index].name, slide: pane.slide.id }));
  }

  /** One slide that cannot be measured does not take the numbers of others away. */
  private refusedIn(pane: Pane): (error: Error) => Numbers[] {
    return (error) => {
      if (!(error instanceof Refused && error.status === 422)) throw error;
      return this.list.map(({ name }, region) => ({ region, name, slide: pane.slide.id, error: error.message }));
    };
  }

  /** Allow what can be done with the regions and numbers that there are now. */
  private offer(): void {
    const waiting = this.measured === null && byId('regions-message').textContent === MEASURING;
    byId<HTMLButtonElement>('clear-regions').disabled = !this.list.length;
    byId<HTMLButtonElement>('export-geojson').disabled = !this.list.length || waiting;
    byId<HTMLButtonElement>('export-csv').disabled = this.measured === null;
  }

  private add(ring: Ring): void {
    const name = `Region ${this.list.length + 1}`;
    void this.replace([...this.list, { name, geometry: { type: 'Polygon', coordinates: [[...ring, ring[0]]] } }]);
  }

  private pressed(pane: Pane, event: PointerEvent): void {
    if (!this.drawing) return;
    event.preventDefault();
    event.stopPropagation();
    const start = this.at(pane, event);
    if (this.drawing === 'polygon') {
      this.points.push(start);
      this.show();
      return;
    }
    const layer = event.currentTarget as SVGElement;
    layer.setPointerCapture(event.pointerId);
    const move = (moved: Event): void => {
      const [x, y] = this.at(pane, moved as PointerEvent);
      this.points = rectangle(Math.min(x, start[0]), Math.min(y, start[1]), Math.max(x, start[0]), Math.max(y, start[1]));
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

  private finish(ring: Ring): void {
    const kind = this.drawing;
    this.draw(null);
    const xs = ring.map(([x]) => x);
    const ys = ring.map(([, y]) => y);
    if (Math.max(...xs) - Math.min(...xs) < 1 || Math.max(...ys) - Math.min(...ys) < 1) return;
    if (kind !== 'try') this.add(ring);
    else
      this.onBox({
        location: [Math.round(Math.min(...xs)), Math.round(Math.min(...ys))],
        size: [Math.round(Math.max(...xs) - Math.min(...xs)), Math.round(Math.max(...ys) - Math.min(...ys))],
      });
  }

  /** A place on the screen in level-0 pixels of the first slide. */
  private at(pane: Pane, event: PointerEvent): [number, number] {
    const box = pane.element.querySelector('.canvas')!.getBoundingClientRect();
    const point = pane.image!.viewerElementToImageCoordinates(
      new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top),
    );
    const [x, y] = pane.toFirst(point);
    return [Math.round(x * 100) / 100, Math.round(y * 100) / 100];
  }

  private place(pane: Pane): void {
    const group = this.layers.get(pane);
    if (group) pane.layOn(group, (x, y) => pane.fromFirst(x, y));
  }

  private show(): void {
    for (const [pane, group] of this.layers) {
      const shapes = this.list.map((region) => svg('path', { d: path(region.geometry), class: 'region' }));
      if (this.chosen) {
        const [[x, y], [w, h]] = [this.chosen.location, this.chosen.size];
        shapes.push(svg('path', { d: `M${x} ${y}h${w}v${h}h${-w}Z`, class: 'region chosen' }));
      }
      if (this.points.length) {
        const d = `M${this.points.map((point) => point.join(' ')).join('L')}${this.drawing === 'polygon' ? '' : 'Z'}`;
        shapes.push(svg('path', { d, class: 'region new' }));
      }
      group.replaceChildren(...shapes);
      this.place(pane);
    }
  }

  private table(): void {
    const measured = this.measured!;
    const tables = this.list.map((region, index) => {
      const lines = measured.numbers.filter((line) => line.region === index);
      return numbersTable(region.name, lines, measured);
    });
    byId('numbers').replaceChildren(...notes(measured).map((words) => make('p', { class: 'note' }, words)), ...tables);
  }

  /** The server reads the file, so that page and command line take the same. */
  private async importFile(file: File): Promise<void> {
    try {
      const found = await ask<Imported>('regions', { method: 'POST', headers: { 'content-type': 'application/octet-stream' }, body: file });
      const more = this.list.length + found.regions.length - MOST_REGIONS;
      await this.replace([...this.list, ...found.regions]);
      const words = more > 0 ? `Chromogen left out the last ${more}: the page takes ${MOST_REGIONS} regions.` : '';
      if (words || found.left_out.length) this.say([...found.left_out, words].join(' '));
    } catch (error) {
      this.say(`${file.name}: ${(error as Error).message}`);
    }
  }

  private exportGeojson(): void {
    download(this.fileName('geojson'), 'application/geo+json', geojson(this.list, this.measured));
  }

  private exportCsv(): void {
    if (this.measured) download(this.fileName('csv'), 'text/csv', csv(this.measured));
  }

  /** A name that says whether a virtual stain was measured. */
  private fileName(suffix: string): string {
    const virtual = this.measured?.slides.some((slide) => slide.virtual !== null);
    return `regions${virtual ? '-virtual-stain' : ''}.${suffix}`;
  }

  private say(words: string): void {
    byId('regions-message').textContent = words;
  }
}

const measuredSlide = (pane: Pane): MeasuredSlide => ({
  id: pane.slide.id,
  name: pane.slide.name,
  virtual: pane.slide.virtual,
  stains: pane.stains,
  stainsChosen: pane.stainsChosen,
  stainsDoubt: pane.slide.stains_doubt,
  mpp: pane.slide.mpp,
  by: pane.by,
  isGuess: pane.isGuess,
  laidOver: pane.isLaidOver,
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
