// Staining: what of which slide, by what; dials act on what was stained last, at once.

import { computed, signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { ask, post, upload, type Box, type Job, type MeasuredLook, type Slide, type Stainer, type Uploaded } from './api';
import { about, isNarrow, layers, panes, parts, regions, showTab, slides, works } from './desk';
import { basename, duration, keptSignal, say, sentence, settled } from './dom';
import { VirtualLayers } from './layers_tab';
import type { Pane } from './pane';
import { Button, Check, Choice, FileButton, NumberField, Select, Slider } from './parts';
import { badgeOf } from './slides';
import { givesShares, hideMap, whereAsked, watchMap, WhereChoice } from './where';

const TRIAL_PX = 512; // of a view, at most: more takes long
const ASIDE = ['identity', 'color-transfer', 'normalize']; // which come with Chromogen, and stain nothing new
const times = (value: number): string => `× ${value.toFixed(2)}`;
const DIALS: Record<string, [string, (value: number) => string]> = {
  share: ['Positive nuclei', (value) => `${Math.round(100 * value)} %`],
  seed: ['Chance', (value) => `no. ${value}`],
  intensity: ['Intensity', times],
  counterstain: ['Counterstain', times],
};
const ONLY_VIEWS = 'Dials act at once on a view. Zoom in, to 10× or more, and press “Stain this view”.';
const RANGES = [['-1..1', '-1 to 1 (most of CUT, CycleGAN, pix2pix)'], ['0..1', '0 to 1'], ['0..255', '0 to 255']] as const;

const chosen = keptSignal('stainer', 'nuclear');
const stainers = signal<Stainer[]>([]);
const exemplars = signal<[string, string][]>([['built-in', 'built in: colon, DAB']]);
const dials = signal<Record<string, number>>({});
const busy = signal(''); // what is being done
const message = signal('');
const perPixel = signal(0); // seconds that a pixel of the slide took last
let live: Job[] = []; // what dials act on

/** What was chosen and typed in. */
const form = signal({
  what: 'view' as 'view' | 'region' | 'slide',
  how: 'quick' as 'quick' | 'exemplar',
  fills: false, // whether tissue that is unlike the exemplar's is stained, too
  trainedMpp: '',
  valueRange: '',
  slideMpp: '',
  exemplar: 'built-in',
  exemplarDoubt: '',
  preset: '',
  steps: '',
});
const set = (changes: Partial<typeof form.value>): void => void (form.value = { ...form.value, ...changes });

const stainer = computed(() => stainers.value.find(({ id }) => id === chosen.value));

/** Do what takes a while: say so meanwhile, and say why where it fails. */
async function busily(words: string, work: () => Promise<void>): Promise<void> {
  [busy.value, message.value] = [words, ''];
  await work().catch((error: Error) => (message.value = error.message));
  busy.value = '';
}

async function readStainers(): Promise<void> {
  stainers.value = await ask<Stainer[]>('stainers');
  if (!stainer.value || stainer.value.problem) chosen.value = stainers.value.find(({ problem }) => !problem)!.id;
}

function choose(id: string): void {
  [chosen.value, dials.value, live] = [id, {}, []];
  set({ valueRange: stainer.value?.value_range || '-1..1' });
}

/** Whether it is a measured look: dials are theirs alone. */
const isLook = (by: Stainer | undefined): boolean => !!by?.dials.length;

/** What a request says of the stainer and the slide; throws where something has to be told first. */
function asked({ slide }: Pane): object {
  const by = stainer.value;
  const { trainedMpp, valueRange, slideMpp, fills } = form.value;
  if (!by) throw new Error('Choose a stainer first.');
  if (by.asks_mpp && !trainedMpp) throw new Error('Type in the pixel size that it was trained at: 0.5 µm for 20x, 0.25 µm for 40x.');
  const { share, ...others } = dials.value;
  return {
    slide: slide.id,
    stainer: by.id,
    dials: givesShares.value || share === undefined ? others : dials.value,
    ...(isLook(by) && { where: whereAsked(), fill: fills }),
    ...(by.generator && { value_range: valueRange, trained_mpp: Number(trainedMpp) || null }),
    ...(slide.mpp === null && { mpp: Number(slideMpp) || null }),
  };
}

/** What of a slide is to be stained, nothing for all of it. Throws where there is no region, or nothing in view. */
function boxOf(pane: Pane): Partial<Box> {
  if (form.value.what === 'slide') return {};
  const region = regions.box();
  if (form.value.what === 'region' && !region) throw new Error('Draw a region first: the tools are above the picture.');
  const box = form.value.what === 'region' ? pane.fromFirst(region!) : pane.seen();
  if (box.size.some((side) => side <= 0)) throw new Error(`Nothing of ${pane.slide.title} is in view. “Fit” shows it.`);
  return box;
}

watchMap(() => {
  const { first } = panes;
  if (!first?.image || !isLook(stainer.value)) return null;
  return { slide: first.slide.id, ...asked(first), ...first.seen(), ...boxOf(first), dials: {}, fill: false };
});

/** The H&E slides that are open. */
const open = computed(() => panes.list.filter(({ slide, stains }) => slide.virtual === null && stains.value.startsWith('h-e')));

/** Stain: the server does at once what fits into a view, and the rest in the background. */
const stain = (all: Pane[]): Promise<void> =>
  busily('Staining…', async () => {
    const made: Job[] = [];
    for (const pane of all) {
      await pane.ready;
      made.push(await stainBox(pane, boxOf(pane)));
    }
    live = made.filter(({ state }) => state === 'done');
    hideMap();
    if (live.length < made.length) say('Chromogen stains this in the background. The stain lies on the slide when it is done.');
    else if (isNarrow.matches) parts.value = { slides: false, tools: false }; // the picture is what was asked for
  });

async function stainBox(pane: Pane, box: Partial<Box>, before?: Job): Promise<Job> {
  const began = performance.now();
  const job = await works.start('stains', { ...asked(pane), ...box });
  layers.set(job.id, { opacity: 1, ...(before && layers.look(before.id)), shown: true });
  if (job.state === 'done') perPixel.value = (performance.now() - began) / 1000 / areaOf(job.size!);
  return job;
}

const areaOf = ([width, height]: [number, number]): number => width * height;

/** A dial was moved: what was stained last is stained again, so that one sees what it does. */
const stainAgain = settled(() => {
  const slide = panes.first?.slide;
  const again = live.filter((job) => works.find(job.id) && panes.find(job.slide));
  if (!slide) return;
  if (!again.length && layers.of(slide.id).some(({ id }) => layers.look(id).shown)) message.value = ONLY_VIEWS;
  if (!again.length) return;
  if (busy.value) return stainAgain();
  void busily('Staining…', async () => void (live = await Promise.all(again.map(replaced))));
}, 250);

/** Stain again what a job stained, and let the result lie where that lay. */
async function replaced(before: Job): Promise<Job> {
  const { location, size } = before;
  const job = await stainBox(panes.find(before.slide)!, { location: location!, size: size! }, before);
  if (before.result && panes.find(before.result)) await layers.openBeside(job, panes.mode.value); // before that one goes
  layers.set(before.id, { shown: false });
  works.act(before, 'remove');
  return job;
}

function turn(name: string, value: number): void {
  dials.value = { ...dials.value, [name]: value };
  stainAgain();
}

/** Take an exemplar from a file; its look is measured in seconds, and kept as a stainer. */
export async function takeExemplar(file: File): Promise<void> {
  showTab('Stain');
  set({ how: 'exemplar' });
  await busily(`Taking in ${file.name}…`, async () => {
    const taken = await upload<Uploaded>('exemplars', file);
    exemplars.value = [...exemplars.value, [taken.exemplar, file.name]];
    set({ exemplar: taken.exemplar, exemplarDoubt: taken.exemplar_doubt ?? '' });
  });
  if (message.value) say(`${file.name}: ${message.value}`, true);
  else await measureLook();
}

async function measureLook(): Promise<void> {
  const { exemplar } = form.value;
  const name = exemplars.value.find(([id]) => id === exemplar)?.[1] ?? slides.find(exemplar)?.name ?? exemplar;
  await busily(`Measuring the look of ${basename(name)}…`, async () => {
    const { stainer: made, doubts } = await post<MeasuredLook>('looks', { exemplar, name });
    stainers.value = [...stainers.value.filter(({ id }) => id !== made.id), made];
    choose(made.id);
    const words = `The look of ${basename(name)} is kept as a stainer. “Stain” uses it now.`;
    say(doubts.join(' ') || words, doubts.length > 0);
  });
}

/** Whether an exemplar of the list may be none: what the server says of the slide. */
async function chooseExemplar(exemplar: string): Promise<void> {
  set({ exemplar, exemplarDoubt: '' });
  const slide = slides.find(exemplar) && (await slides.know(exemplar).catch(() => null));
  const doubt = slide && slide.virtual !== null ? 'is a virtual stain; a real IHC is expected' : slide?.exemplar_doubt;
  if (form.value.exemplar === exemplar) set({ exemplarDoubt: doubt ?? '' });
}

/** Style transfer of a region or of the middle of the view, in the background. */
const startTrial = (pane: Pane): Promise<void> =>
  busily('Starting…', async () => {
    const { what, exemplar, preset, steps } = form.value;
    const box = what === 'region' ? boxOf(pane) : { ...pane.seen(), most_px: TRIAL_PX };
    const how = { exemplar, preset: preset || about.value!.default_preset, steps: Number(steps) || null };
    const job = await works.start('trials', { slide: pane.slide.id, ...box, ...how });
    layers.set(job.id, { shown: true, opacity: 1 });
    say(`Style transfer of ${job.size!.join(' × ')} px has begun. It shows on the slide as it develops.`);
  });

export function StainTab() {
  useEffect(() => void readStainers().catch((error: Error) => (message.value = error.message)), [slides.lines.value]); // a stainer may have come into the folder as well
  const { first } = panes;
  if (!first) return <p class="hint">Open a slide on the left; then stain it here.</p>;
  const { slide } = first;
  const { what, how } = form.value;
  const doubt = slide.virtual !== null ? 'is a virtual stain; an H&E is expected' : slide.input_doubt;
  return (
    <>
      <p class="of">To <b title={slide.name}>{slide.title}</b></p>
      {doubt && <p class="note" id="stain-doubt" role="status">{slide.name} {doubt}.</p>}
      <div class="row">
        <span class="row-name">What</span>
        <Choice name="what" legend="What is stained" value={what} onChoose={(value) => set({ what: value })} of={[['view', 'View'], ['region', 'Region'], ['slide', 'Slide']]} />
      </div>
      <div class="row">
        <span class="row-name">How</span>
        <Choice name="how" legend="By what it is stained" value={how} onChoose={(value) => set({ how: value })} of={[['quick', 'Quick'], ['exemplar', 'Exemplar']]} />
      </div>
      {how === 'exemplar' && <Exemplar pane={first} />}
      <StainerChoice slide={slide} />
      <Button id="stain" label={busy.value || `Stain this ${what}${forecast()}`} isMain isDisabled={!stainer.value || busy.value !== ''} class="wide" onClick={() => void stain([first])} />
      {open.value.length > 1 && (
        <Button id="stain-all" label={`Stain all ${open.value.length} open H&E slides`} isDisabled={!stainer.value || busy.value !== ''} class="wide" onClick={() => void stain(open.value)} />
      )}
      <p id="stain-message" class="note" role="status">{message.value}</p>
      <Dials />
      <VirtualLayers />
    </>
  );
}

/** About how long it takes, where something was stained before. */
function forecast(): string {
  if (!perPixel.value || form.value.what !== 'view' || !panes.place.value || !panes.first?.image) return '';
  return `, about ${duration(perPixel.value * areaOf(panes.first.seen().size))}`;
}

function StainerChoice({ slide }: { slide: Slide }) {
  const by = stainer.value;
  const { trainedMpp, slideMpp, valueRange } = form.value;
  const useless = stainers.value.filter(({ problem }) => problem);
  const groups: [string, Stainer[]][] = [
    ['With Chromogen', stainers.value.filter(({ id, name }) => id === name && !ASIDE.includes(id))],
    ['After exemplars', stainers.value.filter(({ name }) => name.endsWith('.json'))],
    ['In your folders', stainers.value.filter(({ id, name }) => id !== name && !name.endsWith('.json'))],
    ['For comparison', stainers.value.filter(({ id }) => ASIDE.includes(id))],
  ];
  return (
    <>
      <label class="field">Stainer
        <select id="stainer" value={chosen.value} onChange={(event) => choose(event.currentTarget.value)}>
          {groups.filter(([, own]) => own.length).map(([label, own]) => (
            <optgroup key={label} label={label}>
              {own.map(({ id, name, target_stain, problem }) => (
                <option key={id} value={id} disabled={problem !== ''} title={name}>{basename(name).replace(/\.json$/, '')}: {problem ? 'cannot be used' : target_stain}</option>
              ))}
            </optgroup>
          ))}
        </select>
      </label>
      {!stainers.value.length && !message.value && <p class="hint" role="status">Looking for stainers…</p>}
      {by && (isLook(by) ? <WhereChoice slide={slide} onChange={stainAgain} /> : <p class="hint" id="stainer-claim">{by.claim || 'Its file does not say how it was taught'}.</p>)}
      {by?.asks_mpp && <NumberField id="trained-mpp" label="Pixel size it was trained at, µm" {...MPP} value={trainedMpp} onInput={(value) => set({ trainedMpp: value })} />}
      {by?.generator && (
        <Select id="value-range" label="Numbers it takes" value={valueRange} of={RANGES} onChoose={(range) => set({ valueRange: range })} />
      )}
      {slide.mpp === null && <NumberField id="stain-mpp" label="Pixel size of the slide, µm: its file does not say" {...MPP} value={slideMpp} onInput={(value) => set({ slideMpp: value })} />}
      {useless.length > 0 && (
        <details id="stainer-problems" class="hint">
          <summary>{useless.length === 1 ? '1 model cannot be used' : `${useless.length} models cannot be used`}</summary>
          <ul>{useless.map(({ id, name, problem }) => <li key={id}>{name}: {problem}</li>)}</ul>
        </details>
      )}
    </>
  );
}

const MPP = { min: 0.05, max: 20, placeholder: '0.5 for 20x, 0.25 for 40x' };

function Dials() {
  const given = (stainer.value?.dials ?? []).filter(({ name }) => !(name === 'share' && givesShares.value));
  if (!given.length) return null;
  return (
    <div id="dials">
      {given.map(({ name, low, high, step: by, default: before }) => {
        const value = dials.value[name] ?? before;
        const [label, words] = DIALS[name] ?? [sentence(name).replaceAll('_', ' '), (at: number) => `${at.toFixed(2)}`];
        if (name === 'seed')
          return <div key={name} class="row"><span class="row-name">{label}</span><output>{words(value)}</output><Button id="dial-seed" label="Another" onClick={() => turn(name, (value + 1) % (high + 1))} /></div>;
        return <Slider key={name} id={`dial-${name}`} label={label} value={value} low={low} high={high} step={by} shown={words(value)} onInput={(to) => turn(name, to)} />;
      })}
      <Check id="fill" label="Stain tissue unlike the exemplar’s, too" isOn={form.value.fills} onToggle={(fills) => { set({ fills }); stainAgain(); }} />
    </div>
  );
}

function Exemplar({ pane }: { pane: Pane }) {
  const { exemplar, exemplarDoubt, preset, steps } = form.value;
  const others = slides.lines.value.filter((line) => badgeOf(line, slides.facts.value[line.id]) !== 'H&E');
  const real = others.map(({ id, name, virtual }): [string, string] => [id, virtual === null ? name : `${name} (virtual stain)`]);
  return (
    <div id="exemplar-box">
      <p class="hint">Drop an IHC image on the page, or choose one. Its look is measured in seconds, and kept as a stainer.</p>
      <div class="row">
        <Select id="exemplar" label="Exemplar" isLabelHidden value={exemplar} of={[...exemplars.value, ...real]} onChoose={(id) => void chooseExemplar(id)} />
        <FileButton id="upload" label="File" accept="image/png,image/jpeg,image/tiff" onFile={(file) => void takeExemplar(file)} />
      </div>
      <p class="note" id="exemplar-doubt" role="status">{exemplarDoubt && `This exemplar ${exemplarDoubt}.`}</p>
      <Button id="measure-look" label="Measure its look" isDisabled={busy.value !== ''} onClick={() => void measureLook()} />
      <details id="try">
        <summary>Style transfer instead: minutes</summary>
        <p class="hint">Optimizes a region, or the middle of the view, until it looks like the exemplar. Where the brown lies is not a measurement.</p>
        <Select id="preset" label="Preset" value={preset || about.value!.default_preset} of={about.value!.presets.map((name) => [name, name] as const)} onChoose={(name) => set({ preset: name })} />
        <NumberField id="steps" label="Steps" min={1} max={2000} placeholder="of the preset" value={steps} onInput={(value) => set({ steps: value })} />
        <Button id="try-start" label="Begin style transfer" onClick={() => void startTrial(pane)} />
      </details>
    </div>
  );
}

