// Layers: virtual stains on the slide, densities and other overlays, nuclei; each with its legend.

import { layers, nuclei, panes, setOverlay, setThreshold, works } from './desk';
import { HINTS, lacking, MAX_THRESHOLD_OD10, type OverlayKind } from './density';
import { short } from './dom';
import { partOf, stateOf } from './jobs';
import { AS_IT_IS, isSlide, nameOf, unlikeOf } from './layers';
import { Button, Check, Icon, Removal, Select, Slider } from './parts';
import { whereInWords } from './where';
import type { Job } from './works';

const OVERLAYS: [OverlayKind, string][] = [
  ['none', 'None'],
  ['dab', 'DAB density (IHC)'],
  ['hematoxylin', 'Haematoxylin density'],
  ['eosin', 'Eosin density (H&E)'],
  ['tissue', 'Tissue'],
  ['difference', 'Difference of two slides: DAB'],
  ['difference-hematoxylin', 'Difference: haematoxylin'],
  ['kept', 'Structure kept'],
];

/** The virtual stains of the first slide, the newest first. */
export function VirtualLayers() {
  const slide = panes.first?.slide;
  const jobs = slide ? layers.of(slide.id) : [];
  const coming = works.underWay.filter((job) => job.slide === slide?.id);
  return (
    <section class="layers">
      <h3>Virtual stains of this slide</h3>
      <ul>
        {coming.map((job) => <Coming key={job.id} job={job} />)}
        {jobs.map((job) => <Layer key={job.id} job={job} />)}
      </ul>
      {!jobs.length && !coming.length && <p class="hint">None yet. What you stain lies on the slide, and is listed here.</p>}
    </section>
  );
}

const whatOf = (job: Job): string => (job.size ? `${job.size.join(' × ')} px` : 'whole slide');

/** What was set of it, but for what stands anyway. */
const setOf = (job: Job): string =>
  job.kind === 'stains' ? [...Object.entries(job.dials).map(([name, value]) => `${name} ${Number(value.toFixed(2))}`), ...(job.fill ? ['filled'] : [])].join(', ') : '';

/** What is not there yet, and how far it is. */
const Coming = ({ job }: { job: Job }) => (
  <li class="layer coming">
    <div class="layer-head">
      <span class="layer-name"><b>{nameOf(job)}</b><small>{stateOf(job)}</small></span>
      <Button label="Cancel" onClick={() => works.act(job, 'cancel')} />
    </div>
    <progress max={1} value={partOf(job)} aria-label="How far it is" />
  </li>
);

function Layer({ job }: { job: Job }) {
  const { shown, opacity } = layers.look(job.id);
  const name = nameOf(job);
  const slide = panes.first!.slide;
  const toggle = (): void => {
    layers.set(job.id, { shown: !shown });
    if (!shown) panes.lead((pane) => job.location && pane.slide.id === slide.id && pane.lookAt(layers.box(job, slide)));
  };
  return (
    <li class={shown ? 'layer shown' : 'layer'} data-id={job.id}>
      <div class="layer-head">
        <Button icon={shown ? 'eye' : 'hidden'} label={shown ? `Hide ${name}` : `Show ${name} on the slide`} isIconOnly isPressed={shown} class="eye" onClick={toggle} />
        <span class="layer-name"><b>{name}</b><small>{[whatOf(job), setOf(job)].filter(Boolean).join(' · ')}</small></span>
        <span class="badge virtual">VIRTUAL</span>
        {job.state === 'done' && <Removal what="the result" isIconOnly onRemove={() => works.act(job, 'remove')} />}
      </div>
      {shown && <Slider label="Opacity" value={opacity} low={0} high={1} step={0.05} shown={`${Math.round(100 * opacity)} %`} onInput={(value) => layers.set(job.id, { opacity: value })} />}
      {shown && job.kind === 'trials' && job.state === 'done' && <Adjusting job={job} />}
      {shown && job.kind === 'stains' && <p class="hint">{whereInWords(job.told)}</p>}
      {shown && unlikeOf(job) > 0 && <Unlike job={job} />}
      {(shown || panes.list.some((pane) => pane.slide.name.startsWith(job.id))) && <div class="buttons">
        <Button icon="beside" label="Beside" isDisabled={job.state !== 'done'} onClick={() => void layers.openBeside(job, 'side')} />
        <Button icon="curtain" label="Curtain" isDisabled={job.state !== 'done'} onClick={() => void layers.openBeside(job, 'curtain')} />
        {job.state === 'done' && <Downloads job={job} />}
      </div>}
    </li>
  );
}

/** How much of the tissue the exemplar says nothing of, and where that is. */
function Unlike({ job }: { job: Job }) {
  const { isHatched = false } = layers.look(job.id);
  const became = job.kind === 'stains' && job.fill ? 'It is stained all the same.' : 'It is left counterstained.';
  return (
    <>
      <p class="note">{(100 * unlikeOf(job)).toFixed(1)} % of the tissue is unlike any in the exemplar. {became}</p>
      <Check label="Hatch tissue unlike the exemplar’s" isOn={isHatched} onToggle={(on) => layers.set(job.id, { isHatched: on })} />
      {isHatched && <p class="legend"><i class="unlike" /> unlike the exemplar’s <i class="unlike tint" /> little like it</p>}
    </>
  );
}

function Downloads({ job }: { job: Job }) {
  const query = layers.query(job);
  const plain = job.kind === 'stains' ? 'result' : query ? `adjusted.png?${query}` : 'result.png';
  return (
    <>
      <a class="button" href={`/api/${job.kind}/${job.id}/${plain}`} download={job.kind === 'trials' ? `virtual-ihc-${job.id}.png` : ''}><Icon name="save" /><span>Download</span></a>
      {!isSlide(job) && <a class="button" href={`/api/${job.kind}/${job.id}/labelled.png${query && `?${query}`}`} download=""><span>With label</span></a>}
    </>
  );
}

/** What can be set of a trial's picture without a new run. */
function Adjusting({ job }: { job: Job }) {
  const now = layers.adjusted.value[job.id] ?? AS_IT_IS;
  const set = (changes: object): void => {
    layers.adjusted.value = { ...layers.adjusted.value, [job.id]: { ...now, ...changes } };
  };
  return (
    <>
      <Slider label="Style strength" value={now.strength} low={0} high={1} step={0.05} shown={`${Math.round(100 * now.strength)} %`} onInput={(strength) => set({ strength })} />
      <Slider label="DAB amount" value={now.dab_amount} low={0} high={3} step={0.1} shown={`× ${now.dab_amount.toFixed(1)}`} onInput={(dab_amount) => set({ dab_amount })} />
    </>
  );
}

export function LayersTab() {
  const { kind, threshold, opacity } = panes.overlay.value;
  const stains = panes.list.map((pane) => pane.stains.value);
  const doubted = panes.list.filter((pane) => pane.slide.stains_doubt && !pane.stainsChosen.value);
  const isNone = kind === 'none';
  const setOpacity = (opacity: number): void => void (panes.overlay.value = { ...panes.overlay.value, opacity });
  return (
    <>
      <VirtualLayers />
      <section>
        <h3>Overlay</h3>
        <Select id="overlay" label="Overlay" isLabelHidden value={kind} of={OVERLAYS} onChoose={(chosen) => setOverlay(chosen as OverlayKind)} />
        <Legend kind={kind} />
        <p class="hint" id="overlay-hint">{lacking(kind, stains) || HINTS[kind]}</p>
        <Slider id="threshold" label="Threshold" value={threshold} low={0} high={MAX_THRESHOLD_OD10} step={0.01} shown={threshold.toFixed(2) + (kind === 'kept' ? '' : ' OD')} isDisabled={isNone || kind === 'tissue'} onInput={setThreshold} />
        <Slider id="opacity" label="Opacity" value={opacity} low={0} high={1} step={0.05} shown={`${Math.round(100 * opacity)} %`} isDisabled={isNone} onInput={setOpacity} />
        <div id="stains-doubt" role="status">
          {doubted.map(({ slide }) => <p key={slide.id} class="note">{short(slide.name)}: not sure of its stains: {slide.stains_doubt}. Choose H&E or H-DAB behind its badge.</p>)}
        </div>
      </section>
      <section>
        <div class="panel-head"><h3>Brightness</h3><Button id="brightness-reset" label="Reset" isDisabled={panes.brightness.value === 1} onClick={() => (panes.brightness.value = 1)} /></div>
        <Slider id="brightness" label="On the screen alone" value={panes.brightness.value} low={0.5} high={2} step={0.05} shown={`× ${panes.brightness.value.toFixed(2)}`} onInput={(value) => (panes.brightness.value = value)} />
      </section>
      <section>
        <h3>Nuclei</h3>
        <Check id="nuclei" label="Outline the nuclei in view" isOn={nuclei.shown.value} onToggle={(on) => nuclei.show(on)} />
        <p class="legend"><i class="line negative" /> negative <i class="line positive" /> positive <i class="line" /> of an H&E</p>
        <div id="nuclei-message" role="status">{nuclei.lines.value.map((line) => <p key={line} class="hint">{line}</p>)}</div>
      </section>
    </>
  );
}

/** What the colours of an overlay mean. */
function Legend({ kind }: { kind: OverlayKind }) {
  if (['dab', 'eosin', 'hematoxylin'].includes(kind))
    return <div id="ramp"><span class="ramp" /><span class="ends"><span>0</span><span>0.6</span><span>1.2 OD and more</span></span></div>;
  if (kind === 'tissue') return <p class="legend"><i class="tissue" /> tissue</p>;
  if (kind === 'kept') return <p class="legend"><i class="more" /> structure not kept</p>;
  if (kind.startsWith('difference')) return <p class="legend"><i class="more" /> the second slide has more <i class="less" /> it has less</p>;
  return null;
}

