// Applying a stainer: what is in view at once, the whole slide in the background.

import { ask, post, type Slide, type Stain, type Stainer, type StainProgress } from './api';
import { button, duration, origin, Overlay, UNDER_WAY } from './cards';
import { byId, make } from './dom';
import type { Panes } from './panes';

type Open = (names: string[]) => Promise<void>;

export class Stains {
  constructor(
    private readonly panes: Panes,
    private readonly open: Open,
  ) {
    byId('stain-view').addEventListener('click', () => void this.stainView());
    byId('stain-slide').addEventListener('click', () => void this.stainSlide());
  }

  async begin(): Promise<void> {
    const stainers = await ask<Stainer[]>('stainers');
    byId('stainer').replaceChildren(
      ...stainers.map(({ id, name, target_stain }) =>
        make('option', { value: id, selected: name === 'color-transfer' }, `${name}: ${target_stain}`),
      ),
    );
    const found = (await ask<Stain[]>('stains')).slice(0, 20);
    for (const stain of found.reverse()) this.follow(stain);
    if (found.some((stain) => [...UNDER_WAY, 'interrupted'].includes(stain.state))) byId<HTMLDetailsElement>('apply').open = true;
  }

  /** What can be done with the slides that are open now. */
  update(): void {
    const slide = this.panes.first?.slide;
    byId<HTMLButtonElement>('stain-view').disabled = !slide;
    byId<HTMLButtonElement>('stain-slide').disabled = !slide;
    byId('stain-mpp-field').hidden = !slide || slide.mpp !== null;
  }

  private get stainer(): string {
    return byId<HTMLSelectElement>('stainer').value;
  }

  private async stainView(): Promise<void> {
    const pane = this.panes.first;
    if (!pane?.image) return;
    const asked = { slide: pane.slide.id, stainer: this.stainer, ...given(pane.slide), ...pane.seen() };
    await this.start('stains/view', asked, 'Staining what you see…');
  }

  private async stainSlide(): Promise<void> {
    const slide = this.panes.first?.slide;
    if (slide) await this.start('stains/slide', { slide: slide.id, stainer: this.stainer, ...given(slide) }, '');
  }

  private async start(path: string, asked: object, words: string): Promise<void> {
    byId('stain-message').textContent = words;
    try {
      this.follow(await post<Stain>(path, asked)).scrollIntoView({ block: 'nearest' });
      byId('stain-message').textContent = '';
    } catch (error) {
      byId('stain-message').textContent = (error as Error).message;
    }
  }

  private follow(stain: Stain): HTMLElement {
    const { element } = new Card(stain, this.panes, this.open);
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
    private readonly open: Open,
  ) {
    const what = stain.size ? `${stain.size.join(' × ')} px of ${stain.name}` : `All of ${stain.name}`;
    const where = stain.size ? `In the folder ${stain.id} of the results:` : 'Where the slide lies:';
    this.element.append(make('p', { class: 'trial-name' }, `${what}, ${stain.stainer}`), this.state, this.bar);
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

  private async watch(): Promise<void> {
    for (;;) {
      try {
        const now = await ask<StainProgress>(this.path);
        this.stain = now;
        this.show(now);
        if (!UNDER_WAY.includes(now.state)) return;
      } catch (error) {
        this.state.textContent = (error as Error).message;
      }
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
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
    this.buttons.replaceChildren(...offered);
  }

  private uses(now: Stain): HTMLElement[] {
    const address = `/api/${this.path}/result`;
    const before = now.location ? `${now.id}/region.png` : now.name;
    const uses = [
      button('Side by side', () => void this.open([before, `${now.id}/${now.output}`])),
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
