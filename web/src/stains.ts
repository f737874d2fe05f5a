// Applying a stainer: what is in view at once, the whole slide in the background.

import { ask, post, type Slide, type Stain, type StainProgress, type WorkState } from './api';
import { button, duration, Inlay, origin, UNDER_WAY, Work, type Desk } from './cards';
import { byId, make } from './dom';
import type { Box } from './pane';
import type { Panes } from './panes';
import { StainerChoice } from './stainer_choice';
import { LABEL, labelledPicture } from './virtual';

const [LEAST_PX, MOST_PX] = [66, 2046]; // of a view at the stainer's pixel size; the server's limits, but for rounding

export class Stains {
  private readonly choice = new StainerChoice();

  constructor(
    private readonly panes: Panes,
    private readonly desk: Desk,
  ) {
    byId('stain-view').addEventListener('click', () => void this.stainView());
    byId('stain-slide').addEventListener('click', () => void this.stainSlide());
    byId('apply').addEventListener('toggle', () => void this.readStainers());
  }

  async begin(): Promise<void> {
    const found = (await ask<Stain[]>('stains')).slice(0, 20);
    for (const stain of found.reverse()) this.follow(stain);
    if (found.some((stain) => [...UNDER_WAY, 'interrupted'].includes(stain.state))) byId<HTMLDetailsElement>('apply').open = true;
  }

  /** When they are first wanted: reading models takes a process of its own. */
  private async readStainers(): Promise<void> {
    if (!byId<HTMLDetailsElement>('apply').open || this.choice.known) return;
    byId('stain-message').textContent = 'Looking for stainers…';
    try {
      await this.choice.begin();
      byId('stain-message').textContent = '';
    } catch (error) {
      byId('stain-message').textContent = (error as Error).message;
    }
    this.update();
  }

  /** What can be done with the slides that are open now. */
  update(): void {
    const slide = this.panes.first?.slide;
    byId<HTMLButtonElement>('stain-view').disabled = !slide || !this.choice.known;
    byId<HTMLButtonElement>('stain-slide').disabled = !slide || !this.choice.known;
    byId('stain-of').textContent = slide ? `To ${slide.name}.` : 'Open a slide first: choose one on the left.';
    const doubt = slide?.virtual != null ? 'is a virtual stain; an H&E is expected' : slide?.input_doubt;
    for (const id of ['stain-doubt', 'try-doubt']) byId(id).textContent = slide && doubt ? `${slide.name} ${doubt}.` : '';
    byId('stain-mpp-field').hidden = !slide || slide.mpp !== null;
  }

  private async stainView(): Promise<void> {
    const pane = this.panes.first;
    if (!pane) return;
    await pane.ready;
    const seen = pane.seen();
    const part = this.stainable(pane.slide, seen);
    const [cut, added] = [seen.size.some((side, i) => side > part.size[i]), seen.size.some((side, i) => side < part.size[i])];
    const where = cut ? `the middle of what you see, ${part.size.join(' × ')} px` : added ? 'what you see and a little around it' : 'what you see';
    const asked = { slide: pane.slide.id, ...this.choice.given(), ...given(pane.slide), ...part };
    const note = cut ? `Stained is ${where}: more does not fit into a view. Zoom in, or stain the whole slide.` : '';
    await this.start('stained-views', asked, `Staining ${where}…`, note);
  }

  /** The part of what is seen that a view can be, around its middle, at the pixel sizes of slide and stainer. */
  private stainable(slide: Slide, { location, size }: Box): Box {
    const wanted = this.choice.mpp;
    const own = slide.mpp ?? given(slide).mpp ?? wanted;
    if (!wanted || !own) return { location, size }; // the server says what lacks
    const sides = [slide.width, slide.height].map((whole, i) => {
      const side = Math.round(Math.min(Math.max(size[i], (LEAST_PX * wanted) / own), (MOST_PX * wanted) / own, whole));
      const start = Math.round(location[i] + (size[i] - side) / 2);
      return [Math.min(Math.max(start, 0), whole - side), side];
    });
    return { location: [sides[0][0], sides[1][0]], size: [sides[0][1], sides[1][1]] };
  }

  private async stainSlide(): Promise<void> {
    const slide = this.panes.first?.slide;
    if (slide) await this.start('stains', { slide: slide.id, ...this.choice.given(), ...given(slide) }, '');
  }

  private async start(path: string, asked: object, words: string, note = ''): Promise<void> {
    const lacking = this.choice.lacking;
    byId('stain-message').textContent = lacking || words;
    if (lacking) return;
    try {
      this.follow(await post<Stain>(path, asked)).scrollIntoView({ block: 'nearest' });
      byId('stain-message').textContent = note;
    } catch (error) {
      byId('stain-message').textContent = (error as Error).message;
    }
  }

  private follow(stain: Stain): HTMLElement {
    const { element } = new Card(stain, this.panes, this.desk);
    byId('stains').prepend(element);
    return element;
  }
}

function given(slide: Slide): { mpp?: number } {
  const mpp = Number(byId<HTMLInputElement>('stain-mpp').value);
  return slide.mpp === null && mpp ? { mpp } : {};
}

/** One stain on the page. */
class Card {
  private readonly bar = make('progress', { max: 1, 'aria-label': 'Blocks done' });
  private readonly work: Work<StainProgress>;

  constructor(
    stain: Stain,
    private readonly panes: Panes,
    private readonly desk: Desk,
  ) {
    this.work = new Work('stains', stain.id, 1000, desk, (now) => this.show(now));
    const what = stain.size ? `${stain.size.join(' × ')} px of ${stain.name}` : `All of ${stain.name}`;
    const where = stain.size ? 'In the folder of the slide; it writes this part as a slide, without loss:' : 'In the folder of the slide:';
    const by = stain.marker ? `${stain.stainer}, ${stain.marker}` : stain.stainer;
    this.element.append(make('p', { class: 'trial-name' }, `${what}, by ${by}`), this.work.line, this.bar);
    if (stain.size) this.element.append(this.pictures());
    this.element.append(this.work.buttons, origin(where, stain.command, stain.python));
    void this.work.watch();
  }

  get element(): HTMLElement {
    return this.work.element;
  }

  private pictures(): HTMLElement {
    const picture = (alt: string, file: string): HTMLImageElement =>
      make('img', { alt, class: 'trial-picture', src: `/api/${this.work.path}/${file}` });
    return make('div', { class: 'trial-pictures' }, picture('What was seen', 'region.png'), labelledPicture(picture(LABEL, 'result')));
  }

  private show(now: StainProgress): void {
    const left = now.seconds_left === null ? '' : `, about ${duration(now.seconds_left)} left`;
    const words: Record<WorkState, string> = {
      waiting: 'Waiting for its turn',
      running: now.of ? `Block ${now.step} of ${now.of}${left}` : 'Starting: looking at the slide',
      done: now.of ? `Done: ${now.of} ${now.of > 1 ? 'blocks' : 'block'}` : 'Done',
      failed: `Failed: ${now.error}`,
      cancelled: 'Cancelled; finished blocks are kept',
      interrupted: 'Interrupted: the server ended meanwhile; finished blocks are kept',
    };
    this.bar.hidden = !UNDER_WAY.includes(now.state);
    if (now.of) this.bar.value = now.step / now.of;
    else this.bar.removeAttribute('value');
    this.work.tell(now.state, words[now.state], 'the finished blocks', () => (now.state === 'done' ? this.uses(now) : []));
  }

  private uses(now: Stain): HTMLElement[] {
    const address = `/api/${this.work.path}/result`;
    const before = now.location ? `${now.id}/region.png` : now.name;
    const uses = [
      button('Side by side', () => void this.desk.open([before, `${now.id}/${now.output}`])),
      make('a', { class: 'button', href: address, download: '' }, 'Download'),
    ];
    if (now.location && now.size) {
      const inlay = new Inlay(this.panes, { slide: now.slide, location: now.location, size: now.size });
      uses.unshift(button('On the slide', () => this.work.lay(inlay, address)));
      uses.push(make('a', { class: 'button', href: `/api/${this.work.path}/labelled.png`, download: '' }, 'Picture with label'));
    }
    return uses;
  }
}
