// Staining: what of which slide, by what; dials act on what was stained last, at once.

import { computed, signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { ask, post, type Slide, type Stainer } from './api';
import { about, layers, panes, parts, isNarrow, regions, showTab, slides, works } from './desk';
import { complain, duration, keptSignal, say, settled, short } from './dom';
import { VirtualLayers } from './layers_tab';
import type { Box } from './pane';
import { Button, Check, Choice, FileButton, Select, Slider } from './parts';
import { badgeOf } from './slides';
import { givesShares, hideMap, whereAsked, WhereChoice, WhereMap } from './where';

const [MIN_PX, MAX_PX] = [66, 2046]; // of a view at the stainer's pixel size; the server's limits, but for rounding
const [MIN_TRIAL_PX, MAX_TRIAL_PX] = [64, 2048];
const ASIDE = ['identity', 'color-transfer', 'normalize']; // which come with Chromogen, and stain nothing new
const DIALS: Record<string, [string, (value: number) => string]> = {
  share: ['Positive nuclei', (value) => `${Math.round(100 * value)} %`],
  seed: ['Chance', (value) => `no. ${value}`],
  intensity: ['Intensity', (value) => `× ${value.toFixed(2)}`],
  counterstain: ['Counterstain', (value) => `× ${value.toFixed(2)}`],
};

const ONLY_VIEWS = 'Dials act at once on a view. Zoom in, to 10× or more, and press “Stain this view”.';

const RANGES = [['-1..1', '-1 to 1 (most of CUT, CycleGAN, pix2pix)'], ['0..1', '0 to 1'], ['0..255', '0 to 255']] as const;

type What = 'view' | 'region' | 'slide';
type How = 'quick' | 'exemplar';

const stainers = signal<Stainer[]>([]);
const chosen = keptSignal('stainer', 'nuclear');
const dials = signal<Record<string, number>>({});
const fills = signal(false); // whether tissue that is unlike the exemplar's is stained, too
const trainedMpp = signal('');
const valueRange = signal('');
const slideMpp = signal('');
const what = signal<What>('view');
const how = signal<How>('quick');
const busy = signal(''); // what is being done
const message = signal('');
const perMpx = signal(0); // seconds that a million pixels took last
const exemplars = signal<[string, string][]>([['built-in', 'built in: colon, DAB']]);
const exemplar = signal('built-in');
const exemplarDoubt = signal('');
const trial = signal({ preset: '', steps: '' });
let live: { id: string; box: Box; slide: string } | null = null; // what dials act on

const stainer = computed(() => stainers.value.find(({ id }) => id === chosen.value));

async function readStainers(): Promise<void> {
  try {
    stainers.value = await ask<Stainer[]>('stainers');
    if (!stainer.value || stainer.value.problem) chosen.value = stainers.value.find(({ problem }) => !problem)!.id;
  } catch (error) {
    message.value = (error as Error).message;
  }
}

function choose(id: string): void {
  [chosen.value, dials.value, live] = [id, {}, null];
  valueRange.value = stainer.value?.value_range || '-1..1';
}

/** What a request says of the stainer and the slide; throws where something has to be told first. */
function asked(slide: Slide): object {
  const by = stainer.value;
  if (!by) throw new Error('Choose a stainer first.');
  if (by.asks_mpp && !trainedMpp.value) throw new Error('Type in the pixel size that it was trained at: 0.5 µm for 20x, 0.25 µm for 40x.');
  const { share, ...others } = dials.value;
  return {
    slide: slide.id,
    stainer: by.id,
    dials: givesShares.value || share === undefined ? others : dials.value,
    ...(isLook(by) ? { where: whereAsked(), fill: fills.value } : {}),
    ...(by.generator && trainedMpp.value ? { trained_mpp: Number(trainedMpp.value) } : {}),
    ...(by.generator ? { value_range: valueRange.value } : {}),
    ...(slide.mpp === null && slideMpp.value ? { mpp: Number(slideMpp.value) } : {}),
  };
}

/** Whether it is a measured look: dials are theirs alone. */
const isLook = ({ dials: of }: Stainer): boolean => of.length > 0;

const ownMpp = (slide: Slide): number | null => slide.mpp ?? (Number(slideMpp.value) || null);
const stainedMpp = (): number | null => stainer.value?.mpp ?? (Number(trainedMpp.value) || null);

/** How many pixels of a slide one of the stainer is; 1 where nobody has said. */
function step(slide: Slide): number {
  const [wanted, own] = [stainedMpp(), ownMpp(slide)];
  return wanted && own ? wanted / own : 1;
}

/** A box that is large enough to be stained, about the same middle. */
function enlarged(slide: Slide, { location, size }: Box): Box {
  const sides = [slide.width, slide.height].map((whole, i) => {
    const side = Math.round(Math.min(Math.max(size[i], MIN_PX * step(slide)), whole));
    const start = Math.round(location[i] + (size[i] - side) / 2);
    return [Math.min(Math.max(start, 0), whole - side), side];
  });
  return { location: [sides[0][0], sides[1][0]], size: [sides[0][1], sides[1][1]] };
}

/** What is to be stained; null for the whole slide. Throws where there is no region. */
function wantedBox(): Box | null {
  const pane = panes.first!;
  if (what.value === 'slide') return null;
  const box = what.value === 'region' ? regions.box() : pane.seen();
  if (!box) throw new Error('Draw a region first: the tools are above the picture.');
  if (box.size.some((side) => side <= 0)) throw new Error('Nothing of the first slide is in view. “Fit” shows it.');
  return enlarged(pane.slide, box);
}

new WhereMap(() => {
  const pane = panes.first;
  if (!pane?.image || !stainer.value || !isLook(stainer.value)) return null;
  const box = wantedBox() ?? enlarged(pane.slide, pane.seen());
  if (!fitsView(pane.slide, box)) throw new Error('Zoom in to see where the stain would lie.');
  return { slide: pane.slide, box, asked: { ...asked(pane.slide), dials: {}, fill: false } };
});

const fitsView = (slide: Slide, { size }: Box): boolean => size.every((side) => side <= MAX_PX * step(slide) + 1);
const mpxOf = (slide: Slide, size: [number, number]): number => (size[0] * size[1]) / step(slide) ** 2 / 1e6;

/** Stain: at once what fits into a view, else in the background. */
async function stain(): Promise<void> {
  const pane = panes.first;
  if (!pane || busy.value) return;
  const { slide } = pane;
  try {
    await pane.ready;
    const box = wantedBox();
    message.value = '';
    if (box && fitsView(slide, box)) return await stainAtOnce(slide, box);
    const job = await works.start('stains', 'stains', { ...asked(slide), ...box });
    layers.set(job.id, { shown: true, opacity: 1 });
    say('Chromogen stains this in the background. The stain lies on the slide when it is done.');
  } catch (error) {
    message.value = (error as Error).message;
  }
}

async function stainAtOnce(slide: Slide, box: Box, instead = ''): Promise<void> {
  busy.value = `Staining ${mpxOf(slide, box.size).toFixed(1)} million pixels…`;
  const began = performance.now();
  try {
    const job = await works.start('stains', 'stained-views', { ...asked(slide), ...box });
    perMpx.value = (performance.now() - began) / 1000 / Math.max(mpxOf(slide, box.size), 0.05);
    layers.set(job.id, { ...(instead ? layers.look(instead) : { opacity: 1 }), shown: true });
    live = { id: job.id, box, slide: slide.id };
    if (!instead) hideMap();
    if (instead) {
      const isBeside = panes.list.some((pane) => pane.slide.name.startsWith(instead));
      if (isBeside) await layers.openBeside(job, panes.mode.value); // before the one that is open there goes
      layers.set(instead, { shown: false });
      const before = works.find(instead);
      if (before) works.act(before, 'remove');
    }
    if (isNarrow.matches) parts.value = { slides: false, tools: false }; // the picture is what was asked for
  } finally {
    busy.value = '';
  }
}

/** A dial was moved: what was stained last is stained again, so that one sees what it does. */
const stainAgain = settled(() => {
  const slide = panes.first?.slide;
  if (!slide) return;
  if (!live || live.slide !== slide.id || !works.find(live.id)) {
    if (layers.of(slide.id).some(({ id }) => layers.look(id).shown)) message.value = ONLY_VIEWS;
    return;
  }
  if (busy.value) return stainAgain();
  void stainAtOnce(slide, live.box, live.id).catch((error: Error) => (message.value = error.message));
}, 250);

function turn(name: string, value: number): void {
  dials.value = { ...dials.value, [name]: value };
  stainAgain();
}

/** Take an exemplar from a file; its look is measured in seconds, and kept as a stainer. */
export async function takeExemplar(file: File): Promise<void> {
  showTab('Stain');
  how.value = 'exemplar';
  busy.value = `Taking in ${file.name}…`;
  try {
    const body = { method: 'POST', headers: { 'content-type': 'application/octet-stream' }, body: file };
    const taken = await ask<{ exemplar: string; exemplar_doubt: string | null }>('exemplars', body);
    exemplars.value = [...exemplars.value, [taken.exemplar, file.name]];
    [exemplar.value, exemplarDoubt.value] = [taken.exemplar, taken.exemplar_doubt ?? ''];
    await measureLook();
  } catch (error) {
    complain(new Error(`${file.name}: ${(error as Error).message}`));
  } finally {
    busy.value = '';
  }
}

const exemplarName = (): string => exemplars.value.find(([id]) => id === exemplar.value)?.[1] ?? slides.find(exemplar.value)?.name ?? exemplar.value;

async function measureLook(): Promise<void> {
  busy.value = `Measuring the look of ${short(exemplarName())}…`;
  try {
    const { stainer: made, doubts } = await post<{ stainer: Stainer; doubts: string[] }>('looks', { exemplar: exemplar.value, name: exemplarName() });
    stainers.value = [...stainers.value.filter(({ id }) => id !== made.id), made];
    choose(made.id);
    say(doubts.length ? doubts.join(' ') : `The look of ${short(exemplarName())} is kept as a stainer. “Stain” uses it now.`, doubts.length > 0);
  } catch (error) {
    message.value = (error as Error).message;
  } finally {
    busy.value = '';
  }
}

/** Whether an exemplar of the list may be none: what the server says of the slide. */
async function chooseExemplar(id: string): Promise<void> {
  [exemplar.value, exemplarDoubt.value] = [id, ''];
  const slide = /^[0-9a-f]{16}$/.test(id) ? await slides.know(id).catch(() => null) : null;
  const doubt = slide && slide.virtual !== null ? 'is a virtual stain; a real IHC is expected' : slide?.exemplar_doubt;
  if (exemplar.value === id) exemplarDoubt.value = doubt ?? '';
}

/** Style transfer of a region or of the middle of the view, in the background. */
async function startTrial(): Promise<void> {
  const pane = panes.first;
  if (!pane) return;
  try {
    await pane.ready;
    const box = middle(pane.slide, what.value === 'region' ? wantedBox()! : pane.seen());
    const { preset, steps } = trial.value;
    const given = { slide: pane.slide.id, ...box, exemplar: exemplar.value, preset: preset || about.value!.default_preset };
    const job = await works.start('trials', 'trials', { ...given, ...(steps ? { steps: Number(steps) } : {}) });
    layers.set(job.id, { shown: true, opacity: 1 });
    say(`Style transfer of ${box.size.join(' × ')} px has begun. It shows on the slide as it develops.`);
  } catch (error) {
    message.value = (error as Error).message;
  }
}

/** So much of a box as style transfer takes in a few minutes, about its middle. */
function middle(slide: Slide, { location, size }: Box): Box {
  const most = what.value === 'region' ? MAX_TRIAL_PX : 512;
  const cut = [slide.width, slide.height].map((whole, i) => {
    const side = Math.min(Math.max(size[i], MIN_TRIAL_PX), most, whole);
    return [Math.round(Math.min(Math.max(location[i] + (size[i] - side) / 2, 0), whole - side)), side];
  });
  return { location: [cut[0][0], cut[1][0]], size: [cut[0][1], cut[1][1]] };
}

export function StainTab() {
  useEffect(() => void readStainers(), [slides.lines.value]); // a stainer may have come into the folder as well
  const slide = panes.first?.slide;
  if (!slide) return <p class="hint">Open a slide on the left; then stain it here.</p>;
  const doubt = slide.virtual !== null ? 'is a virtual stain; an H&E is expected' : slide.input_doubt;
  return (
    <>
      <p class="of">To <b title={slide.name}>{short(slide.name)}</b></p>
      {doubt && <p class="note" id="stain-doubt" role="status">{slide.name} {doubt}.</p>}
      <div class="row">
        <span class="row-name">What</span>
        <Choice name="what" legend="What is stained" value={what.value} onChoose={(value) => (what.value = value)} of={[['view', 'View'], ['region', 'Region'], ['slide', 'Slide']]} />
      </div>
      <div class="row">
        <span class="row-name">How</span>
        <Choice name="how" legend="By what it is stained" value={how.value} onChoose={(value) => (how.value = value)} of={[['quick', 'Quick'], ['exemplar', 'Exemplar']]} />
      </div>
      {how.value === 'exemplar' && <Exemplar />}
      <StainerChoice slide={slide} />
      <Button id="stain" label={busy.value || `Stain this ${what.value}${forecast(slide)}`} isMain isDisabled={!stainer.value || busy.value !== ''} class="wide" onClick={() => void stain()} />
      <p id="stain-message" class="note" role="status">{message.value}</p>
      <Dials />
      <VirtualLayers />
    </>
  );
}

/** About how long it takes, where something was stained before. */
function forecast(slide: Slide): string {
  if (!perMpx.value || what.value !== 'view' || !panes.place.value || !panes.first?.image) return '';
  return `, about ${duration(perMpx.value * mpxOf(slide, panes.first.seen().size))}`;
}

function StainerChoice({ slide }: { slide: Slide }) {
  const by = stainer.value;
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
                <option key={id} value={id} disabled={problem !== ''} title={name}>{short(name).replace(/\.json$/, '')}: {problem ? 'cannot be used' : target_stain}</option>
              ))}
            </optgroup>
          ))}
        </select>
      </label>
      {!stainers.value.length && !message.value && <p class="hint" role="status">Looking for stainers…</p>}
      {by && (isLook(by) ? <WhereChoice slide={slide} onChange={stainAgain} /> : <p class="hint" id="stainer-claim">{by.claim || 'Its file does not say how it was taught'}.</p>)}
      {by?.asks_mpp && <Mpp id="trained-mpp" label="Pixel size it was trained at, µm" of={trainedMpp} />}
      {by?.generator && (
        <Select id="value-range" label="Numbers it takes" value={valueRange.value} of={RANGES} onChoose={(range) => (valueRange.value = range)} />
      )}
      {slide.mpp === null && <Mpp id="stain-mpp" label="Pixel size of the slide, µm: its file does not say" of={slideMpp} />}
      {useless.length > 0 && (
        <details id="stainer-problems" class="hint">
          <summary>{useless.length === 1 ? '1 model cannot be used' : `${useless.length} models cannot be used`}</summary>
          <ul>{useless.map(({ id, name, problem }) => <li key={id}>{name}: {problem}</li>)}</ul>
        </details>
      )}
    </>
  );
}

const Mpp = ({ id, label, of }: { id: string; label: string; of: { value: string } }) => (
  <label class="field">{label}
    <input id={id} type="number" min="0.05" max="20" step="any" placeholder="0.5 for 20x, 0.25 for 40x" value={of.value} onInput={(event) => (of.value = event.currentTarget.value)} />
  </label>
);

function Dials() {
  const given = (stainer.value?.dials ?? []).filter(({ name }) => !(name === 'share' && givesShares.value));
  if (!given.length) return null;
  return (
    <div id="dials">
      {given.map(({ name, low, high, step: by, default: before }) => {
        const value = dials.value[name] ?? before;
        const [label, words] = DIALS[name] ?? [name[0].toUpperCase() + name.slice(1).replaceAll('_', ' '), (at: number) => `${at.toFixed(2)}`];
        if (name === 'seed')
          return <div key={name} class="row"><span class="row-name">{label}</span><output>{words(value)}</output><Button id="dial-seed" label="Another" onClick={() => turn(name, (value + 1) % (high + 1))} /></div>;
        return <Slider key={name} id={`dial-${name}`} label={label} value={value} low={low} high={high} step={by} shown={words(value)} onInput={(to) => turn(name, to)} />;
      })}
      <Check id="fill" label="Stain tissue unlike the exemplar’s, too" isOn={fills.value} onToggle={(on) => { fills.value = on; stainAgain(); }} />
    </div>
  );
}

function Exemplar() {
  const { preset, steps } = trial.value;
  const others = slides.lines.value.filter((line) => badgeOf(line, slides.facts.value[line.id]) !== 'H&E');
  const real = others.map(({ id, name, virtual }): [string, string] => [id, virtual === null ? name : `${name} (virtual stain)`]);
  return (
    <div id="exemplar-box">
      <p class="hint">Drop an IHC image on the page, or choose one. Its look is measured in seconds, and kept as a stainer.</p>
      <div class="row">
        <Select id="exemplar" label="Exemplar" isLabelHidden value={exemplar.value} of={[...exemplars.value, ...real]} onChoose={(id) => void chooseExemplar(id)} />
        <FileButton id="upload" label="File" accept="image/png,image/jpeg,image/tiff" onFile={(file) => void takeExemplar(file)} />
      </div>
      <p class="note" id="exemplar-doubt" role="status">{exemplarDoubt.value && `This exemplar ${exemplarDoubt.value}.`}</p>
      <Button id="measure-look" label="Measure its look" isDisabled={busy.value !== ''} onClick={() => void measureLook()} />
      <details id="try">
        <summary>Style transfer instead: minutes</summary>
        <p class="hint">Optimizes a region, or the middle of the view, until it looks like the exemplar. Where the brown lies is not a measurement.</p>
        <Select id="preset" label="Preset" value={preset || about.value!.default_preset} of={about.value!.presets.map((name) => [name, name] as const)} onChoose={(name) => (trial.value = { ...trial.value, preset: name })} />
        <label class="field">Steps
          <input id="steps" type="number" min="1" max="2000" placeholder="of the preset" value={steps} onInput={(event) => (trial.value = { ...trial.value, steps: event.currentTarget.value })} />
        </label>
        <Button id="try-start" label="Begin style transfer" onClick={() => void startTrial()} />
      </details>
    </div>
  );
}

