// Layers: virtual stains on the slide, densities and other overlays, nuclei; each with its legend.

import { jobUrl, type Job, type Slide } from './api';
import { layers, nuclei, panes, setOverlay, setThreshold, works } from './desk';
import { lacking, MAX_THRESHOLD_OD10, OVERLAYS, type OverlayKind } from './density';
import { AS_IT_IS } from './layers';
import { Button, Check, Icon, Removal, Select, Slider } from './parts';

/** The virtual stains of slides that are open, the newest first: of each that has some. */
export function VirtualLayers() {
  const made = panes.list.map(({ slide }) => ({
    slide,
    coming: works.underWay.value.filter((job) => job.slide === slide.id),
    jobs: layers.of(slide.id),
  }));
  const [first, ...others] = made;
  const more = others.filter(({ coming, jobs }) => coming.length + jobs.length);
  return <>{[first, ...more].filter(Boolean).map((one) => <LayersOf key={one.slide.id} {...one} isAlone={!more.length} />)}</>;
}

function LayersOf({ slide, coming, jobs, isAlone }: { slide: Slide; coming: Job[]; jobs: Job[]; isAlone: boolean }) {
  return (
    <section class="layers">
      <h3>Virtual stains of {isAlone ? 'this slide' : slide.title}</h3>
      <ul>
        {coming.map((job) => <Coming key={job.id} job={job} />)}
        {jobs.map((job) => <Layer key={job.id} job={job} />)}
      </ul>
      {!jobs.length && !coming.length && <p class="hint">None yet. What you stain lies on the slide, and is listed here.</p>}
    </section>
  );
}

const whatOf = (job: Job): string => (job.size ? `${job.size.join(' × ')} px` : 'whole slide');

/** What is not there yet, and how far it is. */
const Coming = ({ job }: { job: Job }) => (
  <li class="layer coming">
    <div class="layer-head">
      <span class="layer-name"><b>{job.title}</b><small>{job.status}</small></span>
      <Button label="Cancel" onClick={() => works.act(job, 'cancel')} />
    </div>
    <progress max={1} value={job.part ?? undefined} aria-label="How far it is" />
  </li>
);

function Layer({ job }: { job: Job }) {
  const { shown, opacity } = layers.look(job.id);
  const name = job.title;
  const { slide } = panes.find(job.slide)!;
  const toggle = (): void => {
    layers.set(job.id, { shown: !shown });
    if (!shown) panes.lead((pane) => job.location && pane.slide.id === slide.id && pane.lookAt(layers.box(job, slide)));
  };
  return (
    <li class={shown ? 'layer shown' : 'layer'} data-id={job.id}>
      <div class="layer-head">
        <Button icon={shown ? 'eye' : 'hidden'} label={shown ? `Hide ${name}` : `Show ${name} on the slide`} isIconOnly isPressed={shown} class="eye" onClick={toggle} />
        <span class="layer-name"><b>{name}</b><small>{[whatOf(job), job.settings].filter(Boolean).join(' · ')}</small></span>
        <span class="badge virtual">VIRTUAL</span>
        {job.state === 'done' && <Removal what="the result" isIconOnly onRemove={() => works.act(job, 'remove')} />}
      </div>
      {shown && <Slider label="Opacity" value={opacity} low={0} high={1} step={0.05} shown={`${Math.round(100 * opacity)} %`} onInput={(value) => layers.set(job.id, { opacity: value })} />}
      {shown && job.kind === 'trial' && job.state === 'done' && <Adjusting job={job} />}
      {shown && job.where && <p class="hint">{job.where}</p>}
      {shown && job.unlike_percent > 0 && <Unlike job={job} />}
      {(shown || (job.result && panes.find(job.result))) && <div class="buttons">
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
  const became = job.is_filled ? 'It is stained all the same.' : 'It is left counterstained.';
  return (
    <>
      <p class="note">{job.unlike_percent.toFixed(1)} % of the tissue is unlike any in the exemplar. {became}</p>
      <Check label="Hatch tissue unlike the exemplar’s" isOn={isHatched} onToggle={(on) => layers.set(job.id, { isHatched: on })} />
      {isHatched && <p class="legend"><i class="unlike" /> unlike the exemplar’s <i class="unlike tint" /> little like it</p>}
    </>
  );
}

const Downloads = ({ job }: { job: Job }) => (
  <>
    <a class="button" href={job.is_slide ? jobUrl(job, 'result') : `${jobUrl(job, 'picture.png')}?${layers.query(job)}`} download=""><Icon name="save" /><span>Download</span></a>
    {!job.is_slide && <a class="button" href={`${jobUrl(job, 'labelled.png')}?${layers.query(job)}`} download=""><span>With label</span></a>}
  </>
);

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
        <Select id="overlay" label="Overlay" isLabelHidden value={kind} of={Object.entries(OVERLAYS).map(([key, { name }]) => [key, name] as const)} onChoose={(chosen) => setOverlay(chosen as OverlayKind)} />
        <Legend kind={kind} />
        <p class="hint" id="overlay-hint">{lacking(kind, stains) || OVERLAYS[kind].hint}</p>
        <Slider id="threshold" label="Threshold" value={threshold} low={0} high={MAX_THRESHOLD_OD10} step={0.01} shown={threshold.toFixed(2) + (kind === 'kept' ? '' : ' OD')} isDisabled={isNone || kind === 'tissue'} onInput={setThreshold} />
        <Slider id="opacity" label="Opacity" value={opacity} low={0} high={1} step={0.05} shown={`${Math.round(100 * opacity)} %`} isDisabled={isNone} onInput={setOpacity} />
        <div id="stains-doubt" role="status">
          {doubted.map(({ slide }) => <p key={slide.id} class="note">{slide.title}: not sure of its stains: {slide.stains_doubt}. Choose H&E or H-DAB behind its badge.</p>)}
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

