// Virtual stains that lie on the slide they were made of: shown or hidden, more or less opaque.

import { effect, signal } from '@preact/signals';
import { jobUrl, type Box, type Job, type Slide } from './api';
import { isDifference } from './density';
import { keep, kept, settled } from './dom';
import type { Pane, Picture } from './pane';
import type { Mode, Panes } from './panes';
import type { Slides } from './slides';
import { isUnderWay, type Works } from './works';

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

const SETTLED_MS = 30;

export class Layers {
  private readonly looks = signal<Record<string, Look>>(kept('layers', {}));
  readonly adjusted = signal<Record<string, Adjusted>>({});
  readonly map = signal<{ slide: string; picture: Picture } | null>(null); // of where a look would stain

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
    return this.works.list.value.filter(
      (job) => job.slide === slideId && (job.state === 'done' || (job.kind === 'trial' && isUnderWay(job))),
    );
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

  box({ location, size }: Job, { width, height }: Slide): Box {
    return location && size ? { location, size } : { location: [0, 0], size: [width, height] };
  }

  /** Where a browser gets the picture of a result as it is now: another where its step is. */
  address(job: Job): string {
    return `${jobUrl(job, 'picture.png')}?${this.query(job)}&step=${job.state === 'done' ? 'last' : job.step}`;
  }

  /** What was set of a trial's picture afterwards, as the server is asked. */
  query({ id }: Job): string {
    return new URLSearchParams(Object.entries(this.adjusted.value[id] ?? AS_IT_IS).map(([name, value]) => [name, `${value}`])).toString();
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
      const source = job.is_slide ? this.result(job) : this.address(job);
      const [box, { opacity, isHatched }] = [this.box(job, slide), this.look(job.id)];
      const hatched = { id: `${job.id} unlike`, source: jobUrl(job, 'unlike.png'), box, opacity: 1, isMap: true };
      return source ? [{ id: job.id, source, box, opacity }, ...(isHatched && job.unlike_percent ? [hatched] : [])] : [];
    });
    const { value } = this.map;
    return value?.slide === slide.id ? [...pictures, value.picture] : pictures;
  }

  /** The slide that was made, once the server has said what it is. */
  private result({ result }: Job): Slide | undefined {
    const known = result ? this.slides.facts.value[result] : undefined;
    if (result && !known) void this.slides.know(result).catch(() => {});
    return typeof known === 'object' ? known : undefined;
  }

  /** Lay a result beside what it was made of, which shows its own colours then, where one looks already. */
  async openBeside(job: Job, mode: Mode): Promise<void> {
    const isStain = job.kind === 'stain'; // nothing says where on the slide the result of a trial lies
    const view = isStain && this.panes.first?.image ? this.panes.first.view() : null;
    this.set(job.id, { shown: false });
    const ids = [isStain ? job.slide : job.region, job.result];
    await this.slides.open(ids.filter((id) => id !== null), view);
    if (this.panes.mode.value !== mode) this.panes.setMode(mode);
  }

  /** The stains that are seen on the first slide, to be measured. */
  get measurable(): string[] {
    const jobs = this.panes.first ? this.of(this.panes.first.slide.id) : [];
    return jobs.flatMap(({ id, kind, result }) => (kind === 'stain' && result && this.look(id).shown ? [result] : []));
  }
}
