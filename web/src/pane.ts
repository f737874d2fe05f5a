// One open slide: its viewer, where it looks, and what is laid over it.

import { computed, signal } from '@preact/signals';
import OpenSeadragon from 'openseadragon';
import { boxAround, fromPose, fromRows, moved, poseOf, toRows, type Affine, type Place, type Pose } from './affine';
import { densityUrl, differenceUrl, tileUrl, type Beside, type Box, type Slide, type StainVectors } from './api';
import { isDifference, paint, rawTile, suits, type OverlayKind } from './density';
import { keep, kept } from './dom';
import { NO_NUCLEI } from './nuclei';
import { NOT_FOR_DIAGNOSIS, paintBand, paintBorder, VIRTUAL } from './virtual';

const MIN_MOVED_PX = 2; // on the screen, of a slide's corners: less is no move by hand
const OVERLAY = 'overlay'; // its id among what is laid over a slide
const OUTSIDE = 'This slide ends before what is in view. “Fit” shows it; without “Move together” it moves alone.';

/** Where one looks: centre in level-0 pixels of the first slide, screen pixels per slide pixel, degrees, turned over or not. */
export interface View {
  x: number;
  y: number;
  zoom: number;
  rotation: number;
  isFlipped: boolean;
}

/** What is laid over slides. */
export interface OverlayChoice {
  kind: OverlayKind;
  threshold: number;
  opacity: number;
}

/** What is laid over a part of a slide: an image's address, a slide, or tiles that are painted here. */
export interface Picture {
  id: string;
  source: string | Slide | PaintedTiles;
  box: Box;
  opacity: number;
  isMap?: boolean; // of something about the slide: no virtual stain
}

/** Tiles of densities, painted as an overlay has it; of the same `key` they are the same. */
interface PaintedTiles {
  key: string;
  urlOf: (level: number, x: number, y: number) => string;
  overlay: OverlayChoice;
}

interface Laid {
  picture: Picture;
  item: OpenSeadragon.TiledImage;
}

/** How the first slide lies on itself. */
export const ON_ITSELF: Beside = { affine: toRows(new DOMMatrix()), by: '', is_guess: false, bends: false, is_kept: false };

export class Pane {
  readonly beside = signal<Beside>(ON_ITSELF); // how it lies on the first slide
  readonly lies = computed<Affine>(() => fromRows(this.beside.value.affine)); // from the first slide's level-0 pixels
  readonly pose = computed<Pose>(() => poseOf(this.lies.value));
  readonly onScreen = signal<Affine>(new DOMMatrix()); // from this slide's level-0 pixels to the pane's
  readonly firstOnScreen = computed<Affine>(() => this.onScreen.value.multiply(this.lies.value));
  readonly stains = signal<StainVectors>('h-e');
  readonly stainsChosen = signal(false); // by the user, not recognised
  readonly message = signal('');
  readonly computing = signal(false);
  readonly isOpen = signal(false);
  readonly label = signal(''); // what is virtual in this pane, in words; empty where nothing is
  readonly nuclei = signal(NO_NUCLEI);
  readonly ready: Promise<void>;
  viewer!: OpenSeadragon.Viewer; // once the page has a place for it
  private opened!: () => void;
  private laid = new Map<string, Laid>();
  private differsFrom: Slide | null = null;
  private layTicket = 0;

  constructor(readonly slide: Slide) {
    const chosen = kept<StainVectors | null>(`stains ${slide.id}`, null);
    [this.stains.value, this.stainsChosen.value] = [chosen ?? slide.stains, chosen !== null];
    this.ready = new Promise((resolve) => (this.opened = resolve));
    this.tellLabel();
  }

  /** Begin to show the slide in an element of the page. */
  mount(element: HTMLElement): void {
    this.viewer = OpenSeadragon({
      element,
      drawer: 'canvas',
      showNavigationControl: false,
      showNavigator: true,
      navigatorPosition: 'BOTTOM_RIGHT',
      navigatorSizeRatio: 0.18,
      navigatorAutoFade: false,
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
    inner.setAttribute('aria-label', `${this.slide.name}; move with the arrow keys, zoom with + and −`);
    const overview = this.viewer.navigator.element as HTMLElement;
    overview.setAttribute('aria-hidden', 'true'); // it shows what the picture shows, for the mouse
    for (const part of [overview, ...overview.querySelectorAll('[tabindex]')]) part.setAttribute('tabindex', '-1');
    this.viewer.addOnceHandler('open', () => {
      this.isOpen.value = true;
      this.opened();
    });
    this.viewer.addHandler('tile-load-failed', (event) => (this.message.value = failedWords(event.message)));
    this.viewer.addHandler('tile-loaded', () => (this.message.value = ''));
    this.viewer.addHandler('update-viewport', () => {
      this.paintLabel();
      this.tellPlace();
    });
    this.viewer.open(tileSource(this.slide));
  }

  /** The slide itself, under whatever lies over it; null while it opens. */
  get image(): OpenSeadragon.TiledImage | null {
    return this.viewer?.world?.getItemAt(0) ?? null;
  }

  get imageZoom(): number {
    return this.image?.viewportToImageZoom(this.viewer.viewport.getZoom(true)) ?? 1;
  }

  private centre(current: boolean): Place {
    const { x, y } = this.image!.viewportToImageCoordinates(this.viewer.viewport.getCenter(current));
    return [x, y];
  }

  chooseStains(stains: StainVectors): void {
    [this.stains.value, this.stainsChosen.value] = [stains, true];
    keep(`stains ${this.slide.id}`, stains);
  }

  /** Which place of the first slide the centre is, or the pointer is on; both in level-0 pixels. */
  toFirst(place: Place): Place {
    return moved(this.lies.value.inverse(), place);
  }

  /** A box of the first slide, as it lies on this one. */
  fromFirst({ location: [x, y], size: [w, h] }: Box): Box {
    const corners = ([[x, y], [x + w, y], [x, y + h], [x + w, y + h]] as Place[]).map((at) => moved(this.lies.value, at));
    return boxAround(corners, this.slide);
  }

  /** The affine by which this slide, as one sees it now, would lie on the first, which looks at `view`; its scale stays. */
  affineAsSeen(view: View): Affine {
    const viewport = this.viewer.viewport;
    const isMirrored = viewport.getFlip() !== view.isFlipped;
    const turn = isMirrored ? -view.rotation - viewport.getRotation() : view.rotation - viewport.getRotation();
    return fromPose({ turn, scale: this.pose.value.scale, isMirrored }, [view.x, view.y], this.centre(false));
  }

  /** Whether this slide would lie elsewhere by an affine, as far as one sees. */
  wouldMove(affine: Affine): boolean {
    const corners: Place[] = [[0, 0], [this.slide.width, 0], [0, this.slide.height]];
    return corners.some((corner) => {
      const [[x, y], [toX, toY]] = [this.lies.value, affine].map((lies) => moved(lies.inverse(), corner));
      return Math.hypot(x - toX, y - toY) * this.imageZoom * this.pose.value.scale > MIN_MOVED_PX;
    });
  }

  private get stainsOver(): Laid[] {
    return [...this.laid.values()].filter(({ picture }) => !picture.isMap);
  }

  get isLaidOver(): boolean {
    return this.stainsOver.length > 0;
  }

  private tellLabel(): void {
    const isVirtual = this.slide.virtual !== null;
    const words = isVirtual ? VIRTUAL : this.isLaidOver ? `${VIRTUAL} laid over the slide` : this.differsFrom ? `Difference from a ${VIRTUAL}` : '';
    this.label.value = words && `${words} - ${NOT_FOR_DIAGNOSIS}`;
    this.viewer?.forceRedraw();
  }

  /** In the picture itself, however it is taken: a band, and a hatched border around what is virtual. */
  private paintLabel(): void {
    const { context } = this.viewer.drawer as unknown as { context: CanvasRenderingContext2D };
    const ratio = OpenSeadragon.pixelDensityRatio;
    const boxes = this.stainsOver.map(({ picture }) => picture.box);
    if (this.slide.virtual !== null) boxes.push({ location: [0, 0], size: [this.slide.width, this.slide.height] });
    for (const { location: [x, y], size: [w, h] } of this.image ? boxes : []) {
      const corners: Place[] = [[x, y], [x + w, y], [x + w, y + h], [x, y + h]];
      paintBorder(context, corners.map((corner) => this.toScreen(corner).map((at) => at * ratio) as Place), ratio);
    }
    if (this.label.value) paintBand(context, this.label.value, ratio);
  }

  /** Where a place of this slide, in level-0 pixels, is in the pane. */
  private toScreen(place: Place): Place {
    const { x, y } = this.image!.imageToViewerElementCoordinates(new OpenSeadragon.Point(...place));
    return [this.flippedX(x), y];
  }

  /** Which place of this slide is at a place of the window. */
  fromWindow({ clientX, clientY }: { clientX: number; clientY: number }): Place {
    const { left, top } = this.viewer.element.getBoundingClientRect();
    const at = new OpenSeadragon.Point(this.flippedX(clientX - left), clientY - top);
    const { x, y } = this.image!.viewerElementToImageCoordinates(at);
    return [x, y];
  }

  private flippedX(x: number): number {
    const { viewport } = this.viewer;
    return viewport.getFlip() ? viewport.getContainerSize().x - x : x;
  }

  private tellPlace(): void {
    if (!this.image) return;
    const far = 1000; // pixels, over which OpenSeadragon's rounding does not show
    const [[x, y], [rightX, rightY], [downX, downY]] = ([[0, 0], [far, 0], [0, far]] as Place[]).map((at) => this.toScreen(at));
    const now = new DOMMatrix([(rightX - x) / far, (rightY - y) / far, (downX - x) / far, (downY - y) / far, x, y]);
    if (String(now) !== String(this.onScreen.peek())) this.onScreen.value = now; // OpenSeadragon also draws where nothing moves
  }

  /** What of the slide is in view, in its level-0 pixels. */
  seen(): Box {
    const { x, y, width, height } = this.image!.viewportToImageRectangle(this.viewer.viewport.getBoundsNoRotate());
    return boxAround([[x, y], [x + width, y + height]], this.slide);
  }

  /** Why nothing is seen, where this slide ends before what is in view. */
  sayOutside(): void {
    if (!this.image) return;
    const outside = this.seen().size.some((side) => side <= 0);
    if (outside || this.message.value === OUTSIDE) this.message.value = outside ? OUTSIDE : '';
  }

  /** Where one looks, or, where that is still under way, will look. */
  view(current = false): View {
    const viewport = this.viewer.viewport;
    const { turn, scale, isMirrored } = this.pose.value;
    const [x, y] = this.toFirst(this.centre(current));
    const zoom = this.image!.viewportToImageZoom(viewport.getZoom(current)) * scale;
    const rotation = viewport.getRotation(current) + turn;
    return { x, y, zoom, rotation: isMirrored ? -rotation : rotation, isFlipped: viewport.getFlip() !== isMirrored };
  }

  look(view: View, immediately = true): void {
    const image = this.image;
    if (!image) return;
    const viewport = this.viewer.viewport;
    const { turn, scale, isMirrored } = this.pose.value;
    const [x, y] = moved(this.lies.value, [view.x, view.y]);
    viewport.setFlip(view.isFlipped !== isMirrored);
    viewport.zoomTo(image.imageToViewportZoom(view.zoom / scale), undefined, immediately);
    viewport.panTo(image.imageToViewportCoordinates(x, y), immediately);
    viewport.setRotation((isMirrored ? -view.rotation : view.rotation) - turn, immediately);
  }

  lookAt({ location: [x, y], size: [w, h] }: Box): void {
    const width = this.slide.width;
    this.viewer.viewport.fitBounds(new OpenSeadragon.Rect((x - w / 4) / width, (y - h / 4) / width, (1.5 * w) / width, (1.5 * h) / width));
  }

  /** Lay these pictures over the slide, the last on top, and no others; an old one goes once the new ones are there. */
  async layPictures(pictures: Picture[], differsFrom: Slide | null): Promise<void> {
    const ticket = ++this.layTicket;
    await this.ready;
    const isNew = ({ id, source }: Picture): boolean => keyOf(this.laid.get(id)?.picture.source) !== keyOf(source);
    const added = await Promise.all(pictures.filter(isNew).map((picture) => this.added(picture)));
    const world = this.viewer.world;
    if (ticket !== this.layTicket || !world) return added.forEach((laid) => laid && world?.removeItem(laid.item));
    const wanted = new Set(pictures.map(({ id }) => id));
    const goes = [...this.laid.values()].filter(({ picture }) => !wanted.has(picture.id) || added.some((one) => one?.picture.id === picture.id));
    for (const { item, picture } of goes) {
      world.removeItem(item);
      this.laid.delete(picture.id);
    }
    for (const laid of added) if (laid) this.laid.set(laid.picture.id, laid);
    for (const { id, opacity } of pictures) {
      const item = this.laid.get(id)?.item;
      item?.setOpacity(opacity);
      if (item) world.setItemIndex(item, world.getItemCount() - 1);
    }
    this.differsFrom = differsFrom;
    this.tellComputing();
    this.tellLabel();
  }

  private added(picture: Picture): Promise<Laid | null> {
    const { width } = this.slide;
    const [x, y] = picture.box.location.map((at) => at / width);
    return new Promise((resolve) => {
      this.viewer.addTiledImage({
        tileSource: this.sourceOf(picture.source),
        x,
        y,
        width: picture.box.size[0] / width,
        opacity: picture.opacity,
        success: (event: unknown) => {
          const { item } = event as { item: OpenSeadragon.TiledImage };
          item.addHandler('fully-loaded-change', () => this.tellComputing());
          resolve({ picture, item });
        },
        error: () => resolve(null),
      } as never);
    });
  }

  private sourceOf(source: Picture['source']): object {
    if (typeof source === 'string') return { type: 'image', url: new URL(source, location.href).href };
    return 'key' in source ? { ...geometry(this.slide), ...painted(source) } : tileSource(source);
  }

  /** Say that an overlay is not all there yet: what is not painted might be taken for nothing. */
  private tellComputing(): void {
    const item = this.laid.get(OVERLAY)?.item;
    this.computing.value = item !== undefined && !item.getFullyLoaded();
  }

  /** What an overlay is in this slide, alone or by what `other` differs in; null where it says nothing here. */
  overlayPicture(overlay: OverlayChoice, other: Pane | null): Picture | null {
    const stains = this.stains.value;
    const isLacking = isDifference(overlay.kind) && (!other || !suits(overlay.kind, other.stains.value));
    if (overlay.kind === 'none' || isLacking || !suits(overlay.kind, stains)) return null;
    const urlOf = (level: number, x: number, y: number): string =>
      other
        ? differenceUrl([this.slide, other.slide], [stains, other.stains.value], other.lies.value, level, x, y)
        : densityUrl(this.slide, stains, level, x, y);
    const key = `${overlay.kind} ${overlay.threshold} ${urlOf(0, 0, 0)}`;
    const box: Box = { location: [0, 0], size: [this.slide.width, this.slide.height] };
    return { id: OVERLAY, source: { key, urlOf, overlay }, box, opacity: overlay.opacity, isMap: true };
  }
}

/** What tells one source from another. */
const keyOf = (source: Picture['source'] | undefined): unknown => (typeof source === 'object' && 'key' in source ? source.key : source);

/** A tile source that paints density tiles. */
const painted = ({ key, urlOf, overlay }: PaintedTiles): object => ({
  getTileUrl: urlOf,
  getTileHashKey: (_l: number, _x: number, _y: number, address: string) => `${address}#${key}`,
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
});

const geometry = ({ width, height, levels, tile_px }: Slide): object => ({
  ...{ width, height, tileSize: tile_px, tileOverlap: 0, minLevel: 0, maxLevel: levels - 1 },
});

const tileSource = (slide: Slide): never =>
  ({ ...geometry(slide), getTileUrl: (level: number, x: number, y: number) => tileUrl(slide, level, x, y) }) as never;

const failedWords = (message: string | undefined): string =>
  message?.includes('abort') ? '' : 'Some tiles cannot be read; the slide may be damaged, or the server has ended.';
