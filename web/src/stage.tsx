// The middle of the page: tools, the slides themselves, and where one looks.

import { useEffect, useRef, useState } from 'preact/hooks';
import type { StainVectors } from './api';
import { landmarks, panes, regions, setSplit, slides } from './desk';
import { notice, say } from './dom';
import { Drawn } from './drawn';
import type { Pane } from './pane';
import type { Mode } from './panes';
import { Badge, Button, Icon, Select, type IconName } from './parts';
import type { Drawing } from './regions';
import { badgeOf } from './slides';
import { snapshot } from './snapshot';

const DRAWN: [Drawing, IconName, string][] = [
  ['rectangle', 'rectangle', 'Rectangle'],
  ['polygon', 'polygon', 'Polygon'],
  ['ruler', 'ruler', 'Ruler'],
];
const LAYOUTS: [Mode, IconName, string][] = [
  ['side', 'side', 'Side by side'],
  ['curtain', 'curtain', 'Curtain'],
  ['blink', 'blink', 'Blink'],
  ['fade', 'fade', 'Fade'],
];
const BLINKS_MS: [number, string][] = [[400, '0.4 s'], [800, '0.8 s'], [1600, '1.6 s'], [0, 'by key B']];
const MAGNIFICATIONS = [5, 10, 20, 40];

export function Stage() {
  const stage = useRef<HTMLElement>(null);
  return (
    <section id="stage" aria-label="Viewer" ref={stage}>
      <Toolbar />
      <div id="panes" class={panes.linked.value ? '' : 'apart'} data-mode={panes.layout} data-count={panes.list.length} style={{ '--split': `${panes.split.value}%`, '--fade': 1 - panes.split.value / 100, '--shown': panes.filter }}>
        {panes.list.map((pane, index) => <PaneView key={pane.slide.id} pane={pane} index={index} />)}
        {panes.layout === 'curtain' && <CurtainEdge />}
        {!panes.list.length && <Empty />}
        {notice.value && (
          <div id="notice-over" class={notice.value.isProblem ? 'problem' : ''} role={notice.value.isProblem ? 'alert' : 'status'}>
            <span>{notice.value.words}</span>
            <Button icon="close" label="Close this message" isIconOnly onClick={() => say('')} />
          </div>
        )}
      </div>
      <Footer />
    </section>
  );
}

function Toolbar() {
  const drawing = regions.drawing.value;
  const hasMany = panes.list.length > 1;
  return (
    <div id="toolbar" role="toolbar" aria-label="Tools of the picture">
      <div class="group">
        <Button icon="hand" label="Move the picture" isIconOnly isPressed={!drawing} onClick={() => drawing && regions.draw(null)} />
        {DRAWN.map(([kind, icon, label]) => (
          <Button key={kind} id={`draw-${kind}`} icon={icon} label={label} isIconOnly isPressed={drawing === kind} onClick={() => regions.draw(kind)} />
        ))}
      </div>
      <div class="group" id="modes">
        {LAYOUTS.map(([mode, icon, label]) => (
          <Button key={mode} id={`mode-${mode}`} icon={icon} label={label} class="worded" isPressed={panes.mode.value === mode} isDisabled={!hasMany} onClick={() => panes.mode.value !== mode && panes.setMode(mode)} />
        ))}
      </div>
      {hasMany && <LayoutMore />}
      <span class="space" />
      <Button id="snapshot" icon="camera" label="Save what is seen as a picture" isIconOnly isDisabled={!panes.list.length} onClick={() => void snapshot()} />
    </div>
  );
}

/** What there is to set of the layout that holds. */
function LayoutMore() {
  const [everyMs, setEvery] = useState(800);
  const { mode } = panes;
  useEffect(() => {
    if (mode.value !== 'blink' || !everyMs) return;
    const timer = setInterval(() => panes.blink(), everyMs);
    return () => clearInterval(timer);
  }, [mode.value, everyMs]);
  const split = mode.value === 'curtain' || mode.value === 'fade';
  return (
    <div class="group">
      {split && (
        <input id="curtain" type="range" min="0" max="100" value={panes.split.value} aria-label="How much of the first slide is seen" onInput={(event) => setSplit(Number(event.currentTarget.value))} />
      )}
      {split && panes.list.length > 2 && (
        <Select id="behind" label="Behind it" isLabelHidden value={panes.behind} of={panes.others} onChoose={(index) => (panes.front.value = Number(index))} />
      )}
      {mode.value === 'blink' && (
        <Select id="blink-every" label="Blink every" isLabelHidden value={everyMs} of={BLINKS_MS} onChoose={(ms) => setEvery(Number(ms))} />
      )}
      <Button id="linked" icon="link" label="Move together" isIconOnly isPressed={panes.linked.value} onClick={() => panes.setLinked(!panes.linked.value)} />
    </div>
  );
}

function PaneView({ pane, index }: { pane: Pane; index: number }) {
  const canvas = useRef<HTMLDivElement>(null);
  const element = useRef<HTMLDivElement>(null);
  useEffect(() => {
    pane.mount(canvas.current!);
    pane.viewer.addHandler('canvas-click', ({ quick, originalEvent }) => quick && landmarks.clicked(pane, pane.fromWindow(originalEvent as PointerEvent)));
    return () => pane.viewer.destroy();
  }, [pane]);
  useEffect(() => {
    const watcher = new ResizeObserver(() => pane.viewer?.forceResize());
    watcher.observe(element.current!);
    return () => watcher.disconnect();
  }, [pane]);
  const { slide, message, label, beside, computing } = pane;
  const mode = panes.layout;
  const isFirst = index === 0;
  const isBehind = !['single', 'side'].includes(mode) && (mode === 'blink' ? index !== panes.behind : !isFirst && index !== panes.behind);
  return (
    <div ref={element} class={['pane', label.value && 'is-virtual', isBehind && 'hidden', regions.drawing.value && 'drawing', landmarks.isPlacing.value && 'placing'].filter(Boolean).join(' ')} data-index={index}>
      <div class="canvas" ref={canvas} />
      <Drawn pane={pane} />
      <div class="pane-bar">
        <PaneInfo pane={pane} />
        <span class="pane-name" title={slide.name}>{slide.title}</span>
        {label.value && slide.virtual === null && <span class="badge virtual" title={label.value}>{pane.isLaidOver ? 'VIRTUAL' : 'from VIRTUAL'}</span>}
        {slide.stains_doubt && !pane.stainsChosen.value && <span class="doubt" title={slide.stains_doubt}>not sure</span>}
        {beside.value.is_guess && <span class="guess" title={`Lies on the first slide ${beside.value.by}`}>placed by a guess</span>}
        {computing.value && <span class="computing" role="status">overlay…</span>}
        <Button icon="close" label={`Close ${slide.name}`} isIconOnly onClick={() => panes.remove(pane)} />
      </div>
      {message.value && <p class="pane-message" role="status">{message.value}</p>}
    </div>
  );
}

/** What a slide is: its badge, and behind that all that is known of it. */
function PaneInfo({ pane }: { pane: Pane }) {
  const { slide, stains } = pane;
  const { by } = pane.beside.value;
  const kind = badgeOf(slide, { ...slide, stains: stains.value });
  const facts: [string, string][] = [
    ['Size', `${slide.width.toLocaleString('en')} × ${slide.height.toLocaleString('en')} px`],
    ['Pixel size', slide.mpp ? `${slide.mpp.toPrecision(3)} µm` : 'its file does not state one'],
    ...(slide.virtual !== null ? [['Made by', slide.virtual] as [string, string]] : []),
    ...(by ? [['Lies', by] as [string, string]] : []),
  ];
  return (
    <details class="pane-info">
      <summary><Badge kind={kind} /><span class="unseen"> About {slide.name}</span></summary>
      <div class="pop">
        <p class="full-name">{slide.name}</p>
        <dl>{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
        <Select label="Taken apart as" value={stains.value.startsWith('h-e') ? 'h-e' : 'h-dab'} of={[['h-e', 'H&E'], ['h-dab', 'H-DAB']]} onChoose={(vectors) => pane.chooseStains(vectors as StainVectors)} />
        {slide.stains_doubt && <p class="note">Not sure: {slide.stains_doubt}.</p>}
        {slide.associated.map((name) => (
          <a key={name} href={`/api/slides/${slide.id}/associated/${encodeURIComponent(name)}.jpg`} target="_blank">{name}</a>
        ))}
      </div>
    </details>
  );
}

/** The edge of the curtain, to be dragged. */
function CurtainEdge() {
  const drag = (event: PointerEvent): void => {
    const edge = event.currentTarget as HTMLElement;
    edge.setPointerCapture(event.pointerId);
    const { left, width } = edge.parentElement!.getBoundingClientRect();
    const move = (moved: PointerEvent): void => setSplit((100 * (moved.clientX - left)) / width);
    edge.addEventListener('pointermove', move);
    edge.addEventListener('lostpointercapture', () => edge.removeEventListener('pointermove', move), { once: true });
  };
  return <div id="curtain-edge" aria-hidden="true" onPointerDown={drag}><span><Icon name="curtain" /></span></div>;
}

function Empty() {
  if (slides.failed.value) return <Words title="This does not open">{slides.failed.value}</Words>;
  if (slides.opening.value) return <Words title="Opening…">{slides.opening.value}</Words>;
  if (!slides.isListed.value) return null;
  if (slides.lines.value.length)
    return (
      <Words title="Choose a slide">
        Click one on the left to look at it. “+” lays another beside it. <em>Stain this view</em>, on the right, turns an H&E into a virtual IHC.
        Everything stays on this computer.
      </Words>
    );
  return (
    <Words title="There are no slides here">
      Put slides or images (SVS, NDPI, TIFF, PNG, JPEG and others) into the folder that you gave to <code>chromogen view</code>, and press “Look for new
      slides” on the left. Or stop it with Ctrl-C, and give it theirs: <code>chromogen view FOLDER</code>.
    </Words>
  );
}

const Words = ({ title, children }: { title: string; children: preact.ComponentChildren }) => (
  <div id="empty">
    <h2>{title}</h2>
    <p>{children}</p>
  </div>
);

const twoSigns = (value: number): string => (value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(2))));

/** How long a bar of at most 150 px is, in px of the screen, and what it stands for. */
export function scaleBar(zoom: number, mpp: number | null): [number, string] {
  const unit = (mpp ?? 1) / zoom; // per pixel of the screen
  const power = 10 ** Math.floor(Math.log10(150 * unit));
  const length = [5, 2, 1].map((step) => step * power).find((candidate) => candidate <= 150 * unit)!;
  return [length / unit, !mpp ? `${length} px` : length >= 1000 ? `${length / 1000} mm` : `${length} µm`];
}

function Footer() {
  const place = panes.place.value;
  const mpp = panes.first?.slide.mpp ?? null;
  const [length, words] = place ? scaleBar(place.zoom, mpp) : [0, ''];
  const now = place && mpp ? (10 * place.zoom) / mpp : 0;
  return (
    <footer>
      <span id="scale-bar" aria-hidden="true">
        <span id="scale-line" style={{ width: `${length}px` }} />
        <span id="scale-text">{words}</span>
      </span>
      <span id="zoom">{place && (mpp ? <><b>{twoSigns(now)}×</b><span>{twoSigns(mpp / place.zoom)} µm/px</span></> : <b>{twoSigns(100 * place.zoom)} %</b>)}</span>
      <span class="group magnifications">
        {mpp && MAGNIFICATIONS.map((times) => (
          <Button key={times} label={`${times}×`} isPressed={Math.abs(now / times - 1) < 0.02} onClick={() => panes.zoomTo((times * mpp) / 10)} />
        ))}
        <Button id="one-to-one" label="1:1" isDisabled={!place} onClick={() => panes.zoomTo(1)} />
      </span>
      <Where key={panes.list.map(({ slide }) => slide.id).join()} />
      <span class="space" />
      <span class="group">
        <Button id="zoom-in" icon="plus" label="Zoom in" isIconOnly isDisabled={!place} onClick={() => panes.zoomBy(1.5)} />
        <Button id="zoom-out" icon="minus" label="Zoom out" isIconOnly isDisabled={!place} onClick={() => panes.zoomBy(1 / 1.5)} />
        <Button id="fit" icon="fit" label="Fit the whole slide" isIconOnly isDisabled={!place} onClick={() => panes.fit()} />
      </span>
      <span class="group turns">
        <Button id="turn-left" icon="left" label="Rotate left by 15 degrees" isIconOnly isDisabled={!place} onClick={() => panes.turnBy(-15)} />
        <Button id="turned" label={`${Math.round(((place?.rotation ?? 0) + 360) % 360)}°`} isDisabled={!place?.rotation} onClick={() => panes.turnBack()} />
        <Button id="turn-right" icon="right" label="Rotate right by 15 degrees" isIconOnly isDisabled={!place} onClick={() => panes.turnBy(15)} />
      </span>
    </footer>
  );
}

/** Which place of a slide the pointer is on. */
function Where() {
  const [words, setWords] = useState<string[]>([]);
  useEffect(() => {
    const show = (event: PointerEvent): void => {
      const index = (event.target as HTMLElement).closest<HTMLElement>('.pane')?.dataset.index;
      const pane = index && panes.list[Number(index)];
      if (!pane || !pane.image) return;
      const [x, y] = pane.fromWindow(event);
      const { mpp } = pane.slide;
      const mm = mpp ? `${((x * mpp) / 1000).toFixed(3)}, ${((y * mpp) / 1000).toFixed(3)} mm` : '';
      setWords([`x ${x.toFixed(0)}, y ${y.toFixed(0)} px`, mm]);
    };
    const stage = document.getElementById('stage')!;
    stage.addEventListener('pointermove', show);
    return () => stage.removeEventListener('pointermove', show);
  }, []);
  return <span id="where">{panes.list.length ? words.map((one) => <span key={one}>{one}</span>) : null}</span>;
}
