// The open slides: one OpenSeadragon viewer each, moved together, side by side or on top of one another.

import OpenSeadragon from 'openseadragon';
import { ask, densityUrl, differenceUrl, tileUrl, type Slide, type Stains } from './api';
import { isDifference, paint, rawTile, suits, type OverlayKind } from './density';
import { byId, make, short } from './dom';

export type Mode = 'side' | 'curtain' | 'blink';
const OUTSIDE = 'This slide ends before what is in view. “Fit” shows it; without “Move together” it moves alone.';
export const MOST_PANES = 4;

/** Where one looks: centre in level-0 pixels of the first slide, screen pixels per slide pixel, degrees. */
export interface View {
  x: number;
  y: number;
  zoom: number;
  rotation: number;
}

export interface Overlay {
  kind: OverlayKind;
  threshold: number;
  opacity: number;
}

export class Pane {
  readonly element: HTMLElement;
  readonly viewer: OpenSeadragon.Viewer;
  scale = 1; // level-0 pixels of this slide along one of the first's
  offset = new OpenSeadragon.Point(0, 0); // of this slide's pixels, where it was moved alone
  by = '';
  stains: Stains;
  ready: Promise<void>;
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
      this.stains = choose.value as Stains;
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
        slide.virtual && make('span', { class: 'virtual', title: `Virtual stain, by ${slide.virtual}: research use only` }, 'virtual'),
        choose,
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

  /** What of the slide is in view, in its level-0 pixels. */
  seen(): { location: [number, number]; size: [number, number] } {
    const bounds = this.image!.viewportToImageRectangle(this.viewer.viewport.getBoundsNoRotate());
    const [left, top] = [Math.max(0, Math.floor(bounds.x)), Math.max(0, Math.floor(bounds.y))];
    const right = Math.min(this.slide.width, Math.ceil(bounds.x + bounds.width));
    const bottom = Math.min(this.slide.height, Math.ceil(bounds.y + bounds.height));
    return { location: [left, top], size: [right - left, bottom - top] };
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

  view(): View {
    const centre = this.centre(false);
    const viewport = this.viewer.viewport;
    return {
      x: (centre.x - this.offset.x) / this.scale,
      y: (centre.y - this.offset.y) / this.scale,
      zoom: this.image!.viewportToImageZoom(viewport.getZoom()) * this.scale,
      rotation: viewport.getRotation(),
    };
  }

  look(view: View, immediately = true): void {
    const viewport = this.viewer.viewport;
    const image = this.image;
    if (!image) return;
    const x = view.x * this.scale + this.offset.x;
    const y = view.y * this.scale + this.offset.y;
    viewport.zoomTo(image.imageToViewportZoom(view.zoom / this.scale), undefined, immediately);
    viewport.panTo(image.imageToViewportCoordinates(x, y), immediately);
    viewport.setRotation(view.rotation, immediately);
  }

  /** Lay an overlay over the slide, of this pane alone or of what `other` differs in; the old one goes. */
  lay(overlay: Overlay, other: Pane | null): void {
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
    const lacking = isDifference(overlay.kind) && (!other || !suits(overlay.kind, other.stains));
    if (overlay.kind === 'none' || !suits(overlay.kind, this.stains) || lacking) return done(null);
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

  private densitySource(overlay: Overlay, other: Pane | null): object {
    const { slide, stains } = this;
    const url = (level: number, x: number, y: number): string =>
      isDifference(overlay.kind) && other
        ? differenceUrl(slide, other.slide, [stains, other.stains], level, x, y)
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

const failedWords = (message: string | undefined): string =>
  message?.includes('abort') ? '' : 'Some tiles cannot be read; the slide may be damaged, or the server has ended.';

/** The panes, and how they move. */
export class Panes {
  readonly list: Pane[] = [];
  mode: Mode = 'side';
  linked = true;
  overlay: Overlay = { kind: 'none', threshold: 0.2, opacity: 0.75 };
  onMove: () => void = () => {};
  onChange: () => void = () => {};
  private leading: Pane | null = null;
  private shown = 0; // in blink mode

  get first(): Pane | null {
    return this.list[0] ?? null;
  }

  find(slideId: string): Pane | undefined {
    return this.list.find((pane) => pane.slide.id === slideId);
  }

  /** Open a slide in a pane of its own, where the others look. */
  async add(slide: Slide, view: View | null = null): Promise<Pane> {
    const where = view ?? (this.first ? this.first.view() : null);
    const pane = new Pane(slide, (closed) => this.remove(closed), () => this.layOverlay());
    if (this.first) {
      const { scale, by } = await ask<{ scale: number; by: string }>(
        `slides/${this.first.slide.id}/beside/${slide.id}`,
      ).catch(() => ({ scale: 1, by: '' }));
      [pane.scale, pane.by] = [scale, by];
    }
    this.list.push(pane);
    this.arrange();
    await pane.ready;
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
    if (wasFirst && this.first) this.rebase(this.first);
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
    if (linked && !this.linked && this.first) {
      const view = this.first.view();
      for (const pane of this.list.slice(1)) {
        const centre = pane.centre(false);
        pane.offset = new OpenSeadragon.Point(centre.x - view.x * pane.scale, centre.y - view.y * pane.scale);
      }
    }
    this.linked = linked;
  }

  lead(work: (pane: Pane) => void): void {
    const pane = this.leading && this.list.includes(this.leading) ? this.leading : this.first;
    if (!pane) return;
    this.leading = pane;
    work(pane);
  }

  setCurtain(percent: number): void {
    const panes = byId('panes');
    panes.style.setProperty('--curtain', `${percent}%`);
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

  /** Let another pane be the first, in whose pixels places are told. */
  private rebase(first: Pane): void {
    const [scale, offset] = [first.scale, first.offset];
    for (const pane of this.list) {
      pane.offset = pane.offset.minus(offset.times(pane.scale / scale));
      pane.scale /= scale;
    }
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
      const viewport = pane.viewer.viewport;
      const centre = pane.centre(true);
      const view = {
        x: (centre.x - pane.offset.x) / pane.scale,
        y: (centre.y - pane.offset.y) / pane.scale,
        zoom: pane.imageZoom * pane.scale,
        rotation: viewport.getRotation(true),
      };
      for (const other of this.list) if (other !== pane) other.look(view);
    }
    this.onMove();
  }
}
