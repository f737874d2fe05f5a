// One open slide: its viewer, where it looks, and what is laid over it.

import OpenSeadragon from 'openseadragon';
import { densityUrl, differenceUrl, tileUrl, type Placement, type Slide, type StainVectors } from './api';
import { isDifference, paint, rawTile, suits, type OverlayKind } from './density';
import { byId, make, short } from './dom';
import { NOT_FOR_DIAGNOSIS, paintBand, VIRTUAL } from './virtual';

/** A rectangle of a slide, in its level-0 pixels. */
export interface Box {
  location: [number, number];
  size: [number, number];
}

const OUTSIDE = 'This slide ends before what is in view. “Fit” shows it; without “Move together” it moves alone.';

/** Where one looks: centre in level-0 pixels of the first slide, screen pixels per slide pixel, degrees. */
export interface View {
  x: number;
  y: number;
  zoom: number;
  rotation: number;
}

/** What is laid over slides. */
export interface OverlayChoice {
  kind: OverlayKind;
  threshold: number;
  opacity: number;
}

export class Pane {
  readonly element: HTMLElement;
  readonly viewer: OpenSeadragon.Viewer;
  // A place of the first slide, turned by `turn` degrees and times `scale`, plus `offset`, is the place of this one.
  scale = 1;
  turn = 0;
  offset = new OpenSeadragon.Point(0, 0);
  by = '';
  isGuess = false;
  movedByHand = false;
  stains: StainVectors;
  stainsChosen = false; // by the user, not recognised
  ready: Promise<void>;
  private inlays = 0;
  private differsFrom: Slide | null = null;
  private overlayImage: OpenSeadragon.TiledImage | null = null;
  private overlayTicket = 0;

  constructor(
    readonly slide: Slide,
    onClose: (pane: Pane) => void,
    onStains: () => void,
  ) {
    this.stains = slide.stains;
    const choose = make(
      'select',
      { 'aria-label': `Stains of ${slide.name}` },
      make('option', { value: 'h-e' }, 'H&E'),
      make('option', { value: 'h-dab' }, 'H-DAB'),
    );
    choose.value = this.stains.startsWith('h-e') ? 'h-e' : 'h-dab';
    choose.addEventListener('change', () => {
      this.stains = choose.value as StainVectors;
      this.stainsChosen = true;
      this.element.querySelector('.doubt')?.remove();
      onStains();
    });
    const canvas = make('div', { class: 'canvas' });
    this.element = make(
      'div',
      { class: 'pane' },
      canvas,
      make(
        'div',
        { class: 'pane-bar' },
        make('span', { class: 'pane-name', title: slide.name }, short(slide.name)),
        make('span', { class: 'virtual', hidden: true }),
        choose,
        slide.stains_doubt && make('span', { class: 'doubt', title: slide.stains_doubt }, 'not sure'),
        make('span', { class: 'guess', hidden: true }, 'placed by a guess'),
        ...slide.associated.map((name) =>
          make('a', { href: `/api/slides/${slide.id}/associated/${encodeURIComponent(name)}.jpg`, target: '_blank' }, name),
        ),
        make('span', { class: 'computing hint', role: 'status' }),
        make('button', { type: 'button', 'aria-label': `Close ${slide.name}`, onclick: () => onClose(this) }, '×'),
      ),
      make('p', { class: 'pane-message', role: 'status' }),
    );
    byId('panes').append(this.element);
    this.viewer = OpenSeadragon({
      element: canvas,
      drawer: 'canvas',
      showNavigationControl: false,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      animationTime: matchMedia('(prefers-reduced-motion: reduce)').matches ? 0 : 0.4,
      imageLoaderLimit: 6,
      maxImageCacheCount: 120,
      maxZoomPixelRatio: 8,
      minZoomImageRatio: 0.5,
      visibilityRatio: 0.2,
      preserveImageSizeOnResize: true, // a panel that opens does not change the magnification
      crossOriginPolicy: false,
    });
    this.viewer.addHandler('canvas-key', (event) => (event.preventDefaultAction = true)); // keys are the page's
    const inner = this.viewer.canvas as HTMLElement;
    inner.setAttribute('role', 'img');
    inner.setAttribute('aria-label', `${slide.name}; move with the arrow keys, zoom with + and −`);
    this.ready = new Promise((resolve) => {
      this.viewer.addOnceHandler('open', () => resolve());
    });
    this.viewer.addHandler('tile-load-failed', (event) => this.say(failedWords(event.message)));
    this.viewer.addHandler('tile-loaded', () => this.say(''));
    this.viewer.addHandler('update-viewport', () => this.paintLabel());
    this.showLabel();
    this.viewer.open(this.source());
  }

  /** The slide itself, under whatever lies over it; null while it opens. */
  get image(): OpenSeadragon.TiledImage | null {
    return this.viewer.world?.getItemAt(0) ?? null;
  }

  get imageZoom(): number {
    return this.image?.viewportToImageZoom(this.viewer.viewport.getZoom(true)) ?? 1;
  }

  centre(current = true): OpenSeadragon.Point {
    return this.image!.viewportToImageCoordinates(this.viewer.viewport.getCenter(current));
  }

  /** Where this slide shows a place of the first one, both in level-0 pixels. */
  fromFirst(x: number, y: number): OpenSeadragon.Point {
    return new OpenSeadragon.Point(x, y).rotate(this.turn).times(this.scale).plus(this.offset);
  }

  /** Which place of the first slide a place of this one is. */
  toFirst(place: OpenSeadragon.Point): [number, number] {
    const { x, y } = place.minus(this.offset).divide(this.scale).rotate(-this.turn);
    return [x, y];
  }

  /** Lie on the first slide as the server says. */
  lie({ scale, offset, by, is_guess }: Placement): void {
    [this.scale, this.turn, this.offset] = [scale, 0, new OpenSeadragon.Point(...offset)];
    [this.by, this.movedByHand] = [by, false];
    this.showGuess(is_guess);
  }

  /** Lie on the first slide, which looks at `view`, as one sees it now; where it does so already, nothing changes. */
  lieAsSeen(view: View): void {
    const turn = upright(view.rotation - this.viewer.viewport.getRotation());
    const centre = this.centre(false);
    const offset = centre.minus(new OpenSeadragon.Point(view.x, view.y).rotate(turn).times(this.scale));
    if (Math.abs(upright(turn - this.turn)) < 0.01 && offset.distanceTo(this.offset) * this.imageZoom < 1) return;
    [this.turn, this.offset, this.by, this.movedByHand] = [turn, offset, 'where you moved it', true];
    this.showGuess(false);
  }

  private showGuess(isGuess: boolean): void {
    this.isGuess = isGuess;
    const sign = this.element.querySelector<HTMLElement>('.guess')!;
    [sign.hidden, sign.title] = [!isGuess, `Lies on the first slide ${this.by}`];
  }

  /** What is virtual in this pane, in words; empty where nothing is. */
  get label(): string {
    if (this.slide.virtual !== null) return `${VIRTUAL} - ${NOT_FOR_DIAGNOSIS}`;
    if (this.inlays) return `${VIRTUAL} laid over the slide - ${NOT_FOR_DIAGNOSIS}`;
    return this.differsFrom ? `Difference from a ${VIRTUAL} - ${NOT_FOR_DIAGNOSIS}` : '';
  }

  get isLaidOver(): boolean {
    return this.inlays > 0;
  }

  /** How many pictures of virtual stains more, or less, lie over the slide. */
  countInlays(more: number): void {
    this.inlays += more;
    this.showLabel();
  }

  /** In the bar for all who read, and in the picture itself, however it is taken. */
  private showLabel(): void {
    const badge = this.element.querySelector<HTMLElement>('.virtual')!;
    badge.hidden = !this.label;
    badge.textContent = this.slide.virtual !== null ? 'virtual' : this.inlays ? 'virtual laid over' : 'from virtual';
    badge.title = this.slide.virtual !== null ? `${this.label}; made by ${this.slide.virtual}` : this.label;
    this.element.classList.toggle('is-virtual', this.label !== '');
    this.viewer.forceRedraw();
  }

  private paintLabel(): void {
    const { context } = this.viewer.drawer as unknown as { context: CanvasRenderingContext2D };
    if (this.label) paintBand(context, this.label, OpenSeadragon.pixelDensityRatio);
  }

  /** Lay a group of SVG on the picture, by where each of its places is in this slide's level-0 pixels. */
  layOn(group: SVGElement, placeOf = (x: number, y: number) => new OpenSeadragon.Point(x, y)): void {
    const image = this.image;
    if (!image) return;
    const on = (x: number, y: number): OpenSeadragon.Point => image.imageToViewerElementCoordinates(placeOf(x, y));
    const [o, x, y] = [on(0, 0), on(1000, 0), on(0, 1000)];
    const m = [x.x - o.x, x.y - o.y, y.x - o.x, y.y - o.y].map((value) => value / 1000);
    group.setAttribute('transform', `matrix(${m.join(' ')} ${o.x} ${o.y})`);
  }

  /** What of the slide is in view, in its level-0 pixels: left, top, right, bottom. */
  bounds(): [number, number, number, number] {
    const { x, y, width, height } = this.image!.viewportToImageRectangle(this.viewer.viewport.getBoundsNoRotate());
    return [Math.max(0, x), Math.max(0, y), Math.min(this.slide.width, x + width), Math.min(this.slide.height, y + height)];
  }

  /** The same in whole pixels. */
  seen(): Box {
    const [left, top, right, bottom] = this.bounds();
    const [x, y] = [Math.floor(left), Math.floor(top)];
    return { location: [x, y], size: [Math.ceil(right) - x, Math.ceil(bottom) - y] };
  }

  say(words: string): void {
    this.element.querySelector('.pane-message')!.textContent = words;
  }

  /** Why nothing is seen, where this slide ends before what is in view. */
  sayOutside(): void {
    if (!this.image) return;
    const outside = this.seen().size.some((side) => side <= 0);
    if (outside || this.element.querySelector('.pane-message')!.textContent === OUTSIDE) this.say(outside ? OUTSIDE : '');
  }

  /** Where one looks, or, where that is still under way, will look. */
  view(current = false): View {
    const viewport = this.viewer.viewport;
    const [x, y] = this.toFirst(this.centre(current));
    const zoom = this.image!.viewportToImageZoom(viewport.getZoom(current)) * this.scale;
    return { x, y, zoom, rotation: viewport.getRotation(current) + this.turn };
  }

  look(view: View, immediately = true): void {
    const viewport = this.viewer.viewport;
    const image = this.image;
    if (!image) return;
    const { x, y } = this.fromFirst(view.x, view.y);
    viewport.zoomTo(image.imageToViewportZoom(view.zoom / this.scale), undefined, immediately);
    viewport.panTo(image.imageToViewportCoordinates(x, y), immediately);
    viewport.setRotation(view.rotation - this.turn, immediately);
  }

  /** Lay an overlay over the slide, of this pane alone or of what `other` differs in; the old one goes. */
  lay(overlay: OverlayChoice, other: Pane | null): void {
    const ticket = ++this.overlayTicket;
    const old = this.overlayImage;
    const done = (item: OpenSeadragon.TiledImage | null): void => {
      if (ticket !== this.overlayTicket) {
        if (item) this.viewer.world.removeItem(item);
        return;
      }
      if (old) this.viewer.world.removeItem(old);
      this.overlayImage = item;
      this.tellComputing(item);
    };
    const lacking = isDifference(overlay.kind) && (!other || other.turn !== 0 || !suits(overlay.kind, other.stains));
    const shown = overlay.kind !== 'none' && suits(overlay.kind, this.stains) && !lacking;
    this.differsFrom = shown && other?.slide.virtual ? other.slide : null;
    this.showLabel();
    if (!shown) return done(null);
    this.viewer.addTiledImage({
      tileSource: this.densitySource(overlay, other) as never,
      x: 0,
      y: 0,
      width: 1,
      opacity: overlay.opacity,
      success: (event: unknown) => done((event as { item: OpenSeadragon.TiledImage }).item),
    });
  }

  /** Say that an overlay is not all there yet: what is not painted might be taken for nothing. */
  private tellComputing(item: OpenSeadragon.TiledImage | null): void {
    const sign = this.element.querySelector('.computing')!;
    sign.textContent = item && !item.getFullyLoaded() ? 'overlay…' : '';
    item?.addHandler('fully-loaded-change', ({ fullyLoaded }) => {
      if (item === this.overlayImage) sign.textContent = fullyLoaded ? '' : 'overlay…';
    });
  }

  setOverlayOpacity(opacity: number): void {
    this.overlayImage?.setOpacity(opacity);
  }

  destroy(): void {
    this.viewer.destroy();
    this.element.remove();
  }

  private geometry(): object {
    const { width, height, levels, tile_px } = this.slide;
    return { width, height, tileSize: tile_px, tileOverlap: 0, minLevel: 0, maxLevel: levels - 1 };
  }

  private source(): never {
    const slide = this.slide;
    return {
      ...this.geometry(),
      getTileUrl: (level: number, x: number, y: number) => tileUrl(slide, level, x, y),
    } as never;
  }

  private densitySource(overlay: OverlayChoice, other: Pane | null): object {
    const { slide, stains } = this;
    const url = (level: number, x: number, y: number): string =>
      isDifference(overlay.kind) && other
        ? differenceUrl(slide, other.slide, [stains, other.stains], other.movedByHand ? other.offset : null, level, x, y)
        : densityUrl(slide, stains, level, x, y);
    const painted = `${overlay.kind}:${overlay.threshold}`;
    return {
      ...this.geometry(),
      getTileUrl: url,
      getTileHashKey: (_l: number, _x: number, _y: number, address: string) => `${address}#${painted}`,
      hasTransparency: () => true,
      downloadTileStart: (job: OpenSeadragon.ImageJob) => {
        const abort = new AbortController();
        job.userData = { abort };
        rawTile(job.src, abort.signal)
          .then((raw) => {
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [raw.width, raw.height];
            const context = canvas.getContext('2d', { willReadFrequently: true })!;
            context.putImageData(paint(raw, overlay.kind, overlay.threshold), 0, 0);
            job.finish(context, null, 'context2d');
          })
          .catch((error: Error) => job.fail(error.message, null));
      },
      downloadTileAbort: (job: OpenSeadragon.ImageJob) => job.userData?.abort?.abort(),
    };
  }
}

/** Degrees as the least turn that does the same, -180 to 180. */
const upright = (degrees: number): number => degrees - 360 * Math.round(degrees / 360);

const failedWords = (message: string | undefined): string =>
  message?.includes('abort') ? '' : 'Some tiles cannot be read; the slide may be damaged, or the server has ended.';
