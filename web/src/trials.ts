// Trying a stain: a region, an exemplar and a preset go to the server's queue; the page watches them.

import { ask, post, type About, type Slide, type SlideLine, type Trial, type TrialProgress, type WorkState } from './api';
import { button, duration, Inlay, origin, UNDER_WAY, Work, type Desk } from './cards';
import { byId, make, settled, svg } from './dom';
import type { Box } from './pane';
import type { Panes } from './panes';
import { LABEL, labelledPicture, VIRTUAL } from './virtual';

const SIDE_PX = 512;

export class Trials {
  onChosen: (box: Box | null) => void = () => {};
  private box: Box | null = null;
  private of = ''; // the slide that the box is on
  private cards = new Map<string, Card>();
  private doubts = new Map<string, string>(); // of uploaded exemplars

  constructor(
    private readonly panes: Panes,
    private readonly desk: Desk,
  ) {
    byId('try-middle').addEventListener('click', () => this.chooseMiddle());
    byId('try-start').addEventListener('click', () => void this.start());
    byId('exemplar').addEventListener('change', () => void this.doubtExemplar());
    byId<HTMLInputElement>('upload').addEventListener('change', (event) => {
      const file = (event.target as HTMLInputElement).files?.[0];
      if (file) void this.upload(file);
    });
  }

  async begin(about: About): Promise<void> {
    byId('preset').replaceChildren(
      ...about.presets.map((name) => make('option', { value: name, selected: name === about.default_preset }, name)),
    );
    const found = (await ask<Trial[]>('trials')).slice(0, 20);
    for (const trial of found.reverse()) this.follow(trial);
    if (found.some((trial) => [...UNDER_WAY, 'interrupted'].includes(trial.state))) byId<HTMLDetailsElement>('try').open = true;
  }

  /** The slides that can be exemplars. */
  offer(slides: SlideLine[]): void {
    const select = byId<HTMLSelectElement>('exemplar');
    const chosen = select.value;
    const kept = [...select.options].filter((option) => /^(built-in|upload-)/.test(option.value));
    const words = (slide: SlideLine): string => (slide.virtual === null ? slide.name : `${slide.name} (${VIRTUAL.toLowerCase()})`);
    select.replaceChildren(...kept, ...slides.map((slide) => make('option', { value: slide.id }, words(slide))));
    select.value = chosen;
  }

  /** Warn of an exemplar that does not look like an IHC, or is none of tissue. */
  private async doubtExemplar(): Promise<void> {
    const { value } = byId<HTMLSelectElement>('exemplar');
    const known = this.doubts.get(value);
    const slide = known === undefined && /^[0-9a-f]{16}$/.test(value) ? await ask<Slide>(`slides/${value}`).catch(() => null) : null;
    const doubt = slide?.virtual != null ? 'is a virtual stain; a real IHC is expected' : (known ?? slide?.exemplar_doubt);
    if (value === byId<HTMLSelectElement>('exemplar').value)
      byId('exemplar-doubt').textContent = doubt ? `This exemplar ${doubt}.` : '';
  }

  choose(box: Box): void {
    const slide = this.panes.first?.slide;
    if (!slide) return;
    const [x, y] = box.location.map((at) => Math.max(0, at));
    const size: [number, number] = [Math.min(box.size[0], slide.width - x), Math.min(box.size[1], slide.height - y)];
    const fits = size.every((side) => side >= 64 && side <= 2048);
    this.box = fits ? { location: [x, y], size } : null;
    byId('try-region').textContent = fits
      ? `${size[0]} × ${size[1]} px at ${x}, ${y} of ${slide.name}`
      : `A region has 64 to 2048 px on each side; this one has ${size[0]} × ${size[1]}.`;
    byId<HTMLButtonElement>('try-start').disabled = !fits;
    this.of = slide.id;
    this.onChosen(this.box);
  }

  /** Forget the region where another slide is the first now. */
  update(): void {
    const now = this.panes.first?.slide.id ?? '';
    if (now === this.of) return;
    [this.box, this.of] = [null, now];
    byId('try-region').textContent = 'No region chosen yet.';
    byId<HTMLButtonElement>('try-start').disabled = true;
  }

  private chooseMiddle(): void {
    const pane = this.panes.first;
    if (!pane) return this.say('Open a slide first.');
    const centre = pane.centre();
    const [w, h] = [Math.min(SIDE_PX, pane.slide.width), Math.min(SIDE_PX, pane.slide.height)];
    const x = Math.round(Math.min(Math.max(centre.x - w / 2, 0), pane.slide.width - w));
    const y = Math.round(Math.min(Math.max(centre.y - h / 2, 0), pane.slide.height - h));
    this.choose({ location: [x, y], size: [w, h] });
  }

  private async upload(file: File): Promise<void> {
    this.say(`Taking in ${file.name}…`);
    try {
      const { exemplar, exemplar_doubt } = await ask<{ exemplar: string; exemplar_doubt: string | null }>('exemplars', {
        method: 'POST',
        headers: { 'content-type': 'application/octet-stream' },
        body: file,
      });
      const select = byId<HTMLSelectElement>('exemplar');
      select.append(make('option', { value: exemplar }, `own: ${file.name}`));
      select.value = exemplar;
      this.doubts.set(exemplar, exemplar_doubt ?? '');
      void this.doubtExemplar();
      this.say('');
    } catch (error) {
      byId<HTMLInputElement>('upload').value = ''; // its name would pass for the exemplar
      this.say((error as Error).message);
    }
  }

  private async start(): Promise<void> {
    const pane = this.panes.first;
    if (!pane || !this.box) return;
    const steps = byId<HTMLInputElement>('steps').value;
    const dab = Number(byId<HTMLInputElement>('dab').value);
    try {
      const trial = await post<Trial>('trials', {
        slide: pane.slide.id,
        ...this.box,
        exemplar: byId<HTMLSelectElement>('exemplar').value,
        preset: byId<HTMLSelectElement>('preset').value,
        ...(steps ? { steps: Number(steps) } : {}),
        ...(dab !== 1 ? { dab_amount: dab } : {}),
      });
      this.say('');
      this.follow(trial).scrollIntoView({ block: 'nearest' });
    } catch (error) {
      this.say((error as Error).message);
    }
  }

  private follow(trial: Trial): HTMLElement {
    const card = new Card(trial, this.panes, this.desk);
    this.cards.set(trial.id, card);
    byId('trials').prepend(card.element);
    return card.element;
  }

  private say(words: string): void {
    byId('try-message').textContent = words;
    if (words) byId('try-message').scrollIntoView({ block: 'nearest' });
  }
}

/** One trial on the page. */
class Card {
  private readonly work: Work<TrialProgress>;
  private readonly bar = make('progress', { max: 1, value: 0, 'aria-label': 'Steps done' });
  private readonly before = make('img', { alt: 'H&E that went in', class: 'trial-picture' });
  private readonly picture = make('img', { alt: `${LABEL}, as it is now`, class: 'trial-picture' });
  private readonly curve = svg('svg', {
    viewBox: '0 0 200 60',
    class: 'curve',
    role: 'img',
    preserveAspectRatio: 'none',
    'aria-label': 'Loss by step: none yet',
  });
  private readonly sliders = make('div', {});
  private readonly download = make('a', { class: 'button' }, 'Download');
  private readonly labelled = make('a', { class: 'button', download: '' }, 'Picture with label');
  private readonly inlay: Inlay;
  private origin: HTMLDetailsElement;
  private preview = -1;

  constructor(
    private readonly trial: Trial,
    panes: Panes,
    private readonly desk: Desk,
  ) {
    this.work = new Work('trials', trial.id, 700, desk, (now) => this.show(now));
    this.inlay = new Inlay(panes, trial);
    this.origin = origin(this.where, trial.command, trial.python);
    this.before.src = `/api/${this.work.path}/region.png`;
    this.element.append(
      this.work.line,
      this.bar,
      make('div', { class: 'trial-pictures' }, this.before, labelledPicture(this.picture)),
      this.curve,
      this.sliders,
      this.work.buttons,
      this.origin,
    );
    void this.work.watch();
  }

  get element(): HTMLElement {
    return this.work.element;
  }

  private get where(): string {
    return `In the folder ${this.trial.id} of the results.`;
  }

  private show(now: TrialProgress): void {
    const left = now.step && now.of ? ((now.of - now.step) * now.seconds) / now.step : 0;
    const words: Record<WorkState, string> = {
      waiting: 'Waiting for its turn',
      running: now.step
        ? `Step ${now.step} of ${now.of}, at most ${duration(left)} left, loss ${now.losses.at(-1)!.toPrecision(3)}`
        : 'Starting: loading the network and measuring the exemplar',
      done: `Done: ${now.step} steps in ${duration(now.seconds)}`,
      failed: `Failed: ${now.error}`,
      cancelled: 'Cancelled',
      interrupted: 'Interrupted: the server ended meanwhile',
    };
    this.bar.value = now.state === 'done' ? 1 : now.of ? now.step / now.of : 0;
    this.bar.hidden = !UNDER_WAY.includes(now.state);
    this.drawCurve(now.losses);
    const shown = now.state === 'done' ? Infinity : now.preview;
    if (shown !== this.preview) {
      this.preview = shown;
      this.setPicture(`/api/${this.work.path}/picture.png?step=${shown}`);
    }
    this.work.tell(now.state, words[now.state], 'the trial', () => this.uses(now));
  }

  private setPicture(address: string): void {
    this.picture.src = address;
    this.inlay.renew(address);
  }

  private drawCurve(losses: number[]): void {
    if (losses.length < 2) return;
    const logs = losses.map((loss) => Math.log(Math.max(loss, 1e-12)));
    const [low, high] = [Math.min(...logs), Math.max(...logs)];
    const at = logs.map((value, i) => {
      const x = (200 * i) / (logs.length - 1);
      return `${x.toFixed(1)},${(56 - (52 * (value - low)) / (high - low || 1)).toFixed(1)}`;
    });
    this.curve.replaceChildren(svg('polyline', { points: at.join(' ') }));
    this.curve.setAttribute('aria-label', `Loss by step, from ${losses[0].toPrecision(3)} to ${losses.at(-1)!.toPrecision(3)}`);
  }

  private uses(now: Trial): HTMLElement[] {
    const uses: HTMLElement[] = [button('On the slide', () => this.work.lay(this.inlay, this.picture.src))];
    if (now.state !== 'done') return uses;
    this.download.href = `/api/${this.work.path}/result.png`;
    this.download.download = `virtual-ihc-${now.id}.png`;
    this.labelled.href = `/api/${this.work.path}/labelled.png`;
    this.offerSliders();
    return [...uses, button('Side by side', () => void this.desk.open([`${now.id}/region.png`, `${now.id}/result.png`])), this.download, this.labelled];
  }

  private offerSliders(): void {
    const strength = make('input', { type: 'range', min: 0, max: 1, step: 0.05, value: 1 });
    const dab = make('input', { type: 'range', min: 0, max: 3, step: 0.1, value: 1 });
    const apply = settled(() => {
      const query = `strength=${strength.value}&dab_amount=${dab.value}`;
      this.setPicture(`/api/${this.work.path}/adjusted.png?${query}`);
      this.download.href = `/api/${this.work.path}/adjusted.png?${query}`;
      this.labelled.href = `/api/${this.work.path}/labelled.png?${query}`;
      this.tellAdjusting(Number(strength.value), Number(dab.value));
    }, 60);
    for (const slider of [strength, dab]) slider.addEventListener('input', apply);
    this.sliders.replaceChildren(
      make('label', { class: 'field' }, 'Style strength ', strength),
      make('label', { class: 'field' }, 'DAB amount ', dab),
    );
  }

  /** How the picture comes about when the sliders have been moved. */
  private tellAdjusting(strength: number, dab: number): void {
    const { command, python } = this.trial;
    const lines = [
      'from chromogen.app.view.adjusted import adjusted',
      `picture = adjusted(read_image("region.png"), result.image, strength=${strength}, dab_amount=${dab})`,
      'write_image("adjusted.png", picture)',
    ];
    const moved = strength !== 1 || dab !== 1;
    const where = moved ? `${this.where} The sliders act afterwards, in Python alone.` : this.where;
    const told = origin(where, command, moved ? [python, ...lines].join('\n') : python);
    told.open = this.origin.open;
    this.origin.replaceWith(told);
    this.origin = told;
  }
}
