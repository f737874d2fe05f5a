// Applying a stainer: what is in view at once, the whole slide in the background.

import { ask, post, type Slide, type Stain, type StainProgress } from './api';
import { button, duration, origin, Overlay, removal, UNDER_WAY, watching, type Desk } from './cards';
import { byId, make } from './dom';
import type { Panes } from './panes';
import { StainerChoice } from './stainer_choice';

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
    byId('stain-mpp-field').hidden = !slide || slide.mpp !== null;
  }

  private async stainView(): Promise<void> {
    const pane = this.panes.first;
    if (!pane?.image) return;
    const asked = { slide: pane.slide.id, ...this.choice.given(), ...given(pane.slide), ...pane.seen() };
    await this.start('stained-views', asked, 'Staining what you see…');
  }

  private async stainSlide(): Promise<void> {
    const slide = this.panes.first?.slide;
    if (slide) await this.start('stains', { slide: slide.id, ...this.choice.given(), ...given(slide) }, '');
  }

  private async start(path: string, asked: object, words: string): Promise<void> {
    const lacking = this.choice.lacking;
    byId('stain-message').textContent = lacking || words;
    if (lacking) return;
    try {
      this.follow(await post<Stain>(path, asked)).scrollIntoView({ block: 'nearest' });
      byId('stain-message').textContent = '';
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
  readonly element = make('li', { class: 'trial' });
  private readonly state = make('p', { role: 'status', class: 'trial-state' });
  private readonly bar = make('progress', { max: 1, 'aria-label': 'Blocks done' });
  private readonly buttons = make('div', { class: 'buttons' });
  private last = '';

  constructor(
    private stain: Stain,
    private readonly panes: Panes,
    private readonly desk: Desk,
  ) {
    const what = stain.size ? `${stain.size.join(' × ')} px of ${stain.name}` : `All of ${stain.name}`;
    const where = stain.size ? 'In the folder of the slide; it writes this part as a slide, without loss:' : 'In the folder of the slide:';
    const by = stain.marker ? `${stain.stainer}, ${stain.marker}` : stain.stainer;
    this.element.append(make('p', { class: 'trial-name' }, `${what}, by ${by}`), this.state, this.bar);
    if (stain.size) this.element.append(this.pictures());
    this.element.append(this.buttons, origin(where, stain.command, stain.python));
    void this.watch();
  }

  private get path(): string {
    return `stains/${this.stain.id}`;
  }

  private pictures(): HTMLElement {
    const picture = (alt: string, file: string): HTMLElement =>
      make('img', { alt, class: 'trial-picture', src: `/api/${this.path}/${file}` });
    return make('div', { class: 'trial-pictures' }, picture('What was seen', 'region.png'), picture('Virtual stain', 'result'));
  }

  private watch(): Promise<void> {
    const show = (now: StainProgress): void => {
      this.stain = now;
      this.show(now);
    };
    return watching(this.path, 1000, show, (words) => (this.state.textContent = words));
  }

  private show(now: StainProgress): void {
    const left = now.seconds_left === null ? '' : `, about ${duration(now.seconds_left)} left`;
    const words: Record<Stain['state'], string> = {
      waiting: 'Waiting for its turn',
      running: now.of ? `Block ${now.step} of ${now.of}${left}` : 'Starting: looking at the slide',
      done: now.of ? `Done: ${now.of} ${now.of > 1 ? 'blocks' : 'block'}` : 'Done',
      failed: `Failed: ${now.error}`,
      cancelled: 'Cancelled; finished blocks are kept',
      interrupted: 'Interrupted: the server ended meanwhile; finished blocks are kept',
    };
    this.state.textContent = words[now.state];
    this.element.dataset.state = now.state;
    this.bar.hidden = !UNDER_WAY.includes(now.state);
    if (now.of) this.bar.value = now.step / now.of;
    else this.bar.removeAttribute('value');
    if (this.last !== now.state) {
      this.last = now.state;
      this.offer(now);
    }
  }

  private offer(now: Stain): void {
    const act = (work: Promise<unknown>): void =>
      void work.then(() => this.watch()).catch((error: Error) => (this.state.textContent = error.message));
    const offered: HTMLElement[] = [];
    if (UNDER_WAY.includes(now.state)) offered.push(button('Cancel', () => act(ask(this.path, { method: 'DELETE' }))));
    else if (now.state !== 'done') offered.push(button('Resume', () => act(post(`${this.path}/resume`))));
    else offered.push(...this.uses(now));
    if (!UNDER_WAY.includes(now.state)) offered.push(this.removal(now));
    this.buttons.replaceChildren(...offered);
  }

  private removal(now: Stain): HTMLElement {
    const gone = async (): Promise<void> => {
      await post(`${this.path}/remove`);
      this.element.remove();
      await this.desk.forget(now.id);
    };
    return removal(now.state === 'done' ? 'the result' : 'the finished blocks', gone, (error) => (this.state.textContent = error.message));
  }

  private uses(now: Stain): HTMLElement[] {
    const address = `/api/${this.path}/result`;
    const before = now.location ? `${now.id}/region.png` : now.name;
    const uses = [
      button('Side by side', () => void this.desk.open([before, `${now.id}/${now.output}`])),
      make('a', { class: 'button', href: address, download: '' }, 'Download'),
    ];
    if (now.location && now.size) {
      const overlay = new Overlay(this.panes, { slide: now.slide, location: now.location, size: now.size });
      const lay = (): void => {
        if (!overlay.toggle(address)) this.state.textContent = 'Its slide is not open; open it first.';
      };
      uses.unshift(button('On the slide', lay));
    }
    return uses;
  }
}
