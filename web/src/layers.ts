// Virtual stains that lie on the slide they were made of: shown or hidden, more or less opaque.

import { effect, signal } from '@preact/signals';
import { ask, type Slide, type SlideLine } from './api';
import { isDifference } from './density';
import { keep, kept, settled, short } from './dom';
import type { Box, Pane, Picture } from './pane';
import type { Mode, Panes } from './panes';
import type { Slides } from './slides';
import { UNDER_WAY, type Job, type Works } from './works';

interface Look {
  shown: boolean;
  opacity: number;
  isHatched?: boolean; // whether tissue that is unlike the exemplar's is hatched
}

/** What can be set of a trial's picture afterwards. */
export interface Adjusted {
  strength: number;
  dab_amount: number;
}

export const AS_IT_IS: Adjusted = { strength: 1, dab_amount: 1 };
const HIDDEN: Look = { shown: false, opacity: 1 };

/** By what a virtual stain was made, in a few words. */
export const nameOf = (job: Job): string =>
  job.kind === 'trials' ? 'style transfer' : short(job.stainer).replace(/\.(json|safetensors|onnx)$/, '');

/** Whether its result is a slide, not one picture. */
export const isSlide = (job: Job): boolean => job.kind === 'stains' && job.output.endsWith('.ome.tif');

const SETTLED_MS = 30;
const MIN_TOLD = 0.0005; // of the tissue: less rounds to nothing

/** How much of the tissue is unlike the exemplar's; 0 where nobody says, or it is next to nothing. */
export function unlikeOf(job: Job): number {
  const found = (job.kind === 'stains' && job.told.unlike_fraction) || 0;
  return found >= MIN_TOLD ? found : 0;
}

export class Layers {
  private readonly looks = signal<Record<string, Look>>(kept('layers', {}));
  readonly adjusted = signal<Record<string, Adjusted>>({});
  readonly map = signal<{ slide: string; picture: Picture } | null>(null); // of where a look would stain
  private readonly results = signal<Record<string, Slide>>({}); // of work whose result is a slide

  constructor(
    private readonly panes: Panes,
    private readonly works: Works,
    private readonly slides: Slides,
  ) {
    let lays: (() => void)[] = [];
    const layAll = settled(() => lays.forEach((lay) => lay()), SETTLED_MS);
    effect(() => {
      lays = panes.list.map((pane, index) => this.layOf(pane, index));
      layAll();
    });
  }

  /** What was made of a slide, the newest first. */
  of(slideId: string): Job[] {
    return this.works.list.value.filter((job) => job.slide === slideId && (job.state === 'done' || (job.kind === 'trials' && UNDER_WAY.includes(job.state))));
  }

  look(id: string): Look {
    return this.looks.value[id] ?? HIDDEN;
  }

  set(id: string, changes: Partial<Look>): void {
    this.looks.value = { ...this.looks.value, [id]: { ...this.look(id), ...changes } };
    keep('layers', Object.fromEntries(Object.entries(this.looks.value).slice(-200)));
  }

  get shown(): string[] {
    return this.panes.list.flatMap(({ slide }) => this.of(slide.id).map(({ id }) => id)).filter((id) => this.look(id).shown);
  }

  /** Show these on the slides that are open, and no others. */
  showOnly(ids: string[]): void {
    for (const id of new Set([...this.shown, ...ids])) this.set(id, { shown: ids.includes(id) });
  }

  box(job: Job, slide: Slide): Box {
    return job.location && job.size ? { location: job.location, size: job.size } : { location: [0, 0], size: [slide.width, slide.height] };
  }

  /** Where a browser gets the picture of a result as it is now. */
  address(job: Job): string {
    if (job.kind === 'stains') return `/api/stains/${job.id}/result`;
    const query = this.query(job);
    return query ? `/api/trials/${job.id}/adjusted.png?${query}` : `/api/trials/${job.id}/picture.png?step=${job.state === 'done' ? 'last' : (job.progress?.preview ?? 0)}`;
  }

  /** What was set of a trial's picture afterwards, as the server is asked; empty where nothing was. */
  query({ id }: Job): string {
    const { strength, dab_amount } = this.adjusted.value[id] ?? AS_IT_IS;
    return strength === 1 && dab_amount === 1 ? '' : `strength=${strength}&dab_amount=${dab_amount}`;
  }

  /** What lays on a pane all that is to lie there now. */
  private layOf(pane: Pane, index: number): () => void {
    const overlay = this.panes.overlay.value;
    const other = isDifference(overlay.kind) && !index ? (this.panes.list[1] ?? null) : null;
    const over = pane.overlayPicture(overlay, other);
    const pictures = [...this.picturesOn(pane.slide), ...(over ? [over] : [])];
    return () => void pane.layPictures(pictures, over && other?.slide.virtual ? other.slide : null);
  }

  private picturesOn(slide: Slide): Picture[] {
    const jobs = this.of(slide.id).filter(({ id }) => this.look(id).shown);
    const pictures = jobs.reverse().flatMap((job): Picture[] => {
      const source = isSlide(job) ? this.result(job) : this.address(job);
      const [box, { opacity, isHatched }] = [this.box(job, slide), this.look(job.id)];
      const hatched = { id: `${job.id} unlike`, source: `/api/stains/${job.id}/unlike.png`, box, opacity: 1, isMap: true };
      return source ? [{ id: job.id, source, box, opacity }, ...(isHatched && unlikeOf(job) ? [hatched] : [])] : [];
    });
    const { value } = this.map;
    return value?.slide === slide.id ? [...pictures, value.picture] : pictures;
  }

  /** The slide that was made, once the server has said what it is. */
  private result(job: Job): Slide | undefined {
    const known = this.results.value[job.id];
    if (!known) void this.resultOf(job).catch(() => {});
    return known;
  }

  /** A result as a slide of its own: any that a file says how it lies on its source. */
  async resultOf(job: Job): Promise<Slide> {
    const known = this.results.peek()[job.id];
    if (known) return known;
    const name = this.nameOf(job);
    const line = (await ask<SlideLine[]>('slides')).find((one) => one.name === name);
    if (!line) throw new Error('Its file is not there any more.');
    const slide = await this.slides.know(line.id);
    this.results.value = { ...this.results.peek(), [job.id]: slide };
    return slide;
  }

  /** The names in the list of slides: of the result, and of a trial's region, since nothing says where on the slide that lies. */
  private nameOf = (job: Job): string => `${job.id}/${job.kind === 'stains' ? job.output : 'result.png'}`;

  /** Lay a result beside what it was made of, which shows its own colours then, where one looks already. */
  async openBeside(job: Job, mode: Mode): Promise<void> {
    const isStain = job.kind === 'stains';
    const view = isStain && this.panes.first?.image ? this.panes.first.view() : null;
    this.set(job.id, { shown: false });
    await this.slides.openByName([isStain ? job.slide : `${job.id}/region.png`, this.nameOf(job)], view);
    if (this.panes.mode.value !== mode) this.panes.setMode(mode);
  }

  /** The stains that are seen on the first slide, to be measured. */
  async measurable(): Promise<Slide[]> {
    const first = this.panes.first;
    const jobs = first ? this.of(first.slide.id).filter((job) => job.kind === 'stains' && this.look(job.id).shown) : [];
    const named = (job: Job) => (slide: Slide): Slide => ({ ...slide, name: `${nameOf(job)} ${job.id.slice(-6)}` });
    const found = await Promise.all(jobs.map((job) => this.resultOf(job).then(named(job)).catch(() => null)));
    return found.filter((slide): slide is Slide => slide !== null);
  }
}
