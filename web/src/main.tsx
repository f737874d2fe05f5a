// The page: its parts, its keys, and how it begins.

import { render } from 'preact';
import { useRef } from 'preact/hooks';
import { ask, post, Refused, type PageFacts } from './api';
import { AlignTab } from './align_tab';
import { Cases } from './cases';
import { about, beginWithPicture, caseName, isDark, landmarks, nuclei, panes, parts, regions, remember, restore, setSplit, setThreshold, showTab, slides, tab, toggleOverlay, works, isNarrow, type Tab } from './desk';
import { complain, say, sentence } from './dom';
import { Jobs, JobsButton } from './jobs';
import { LayersTab } from './layers_tab';
import { MeasureTab } from './measure_tab';
import type { Mode } from './panes';
import { Button, CopyButton } from './parts';
import { Stage } from './stage';
import { StainTab, takeExemplar } from './stain_tab';
import { takeToken } from './state';

const TABS: Record<Tab, () => preact.ComponentChildren> = {
  Stain: () => <StainTab />,
  Measure: () => <MeasureTab />,
  Layers: () => <LayersTab />,
  Align: () => <AlignTab />,
};

const setMode = (mode: Mode) => (): void => panes.setMode(mode);
const dialog = (id: string): HTMLDialogElement => document.getElementById(id) as HTMLDialogElement;

function stopDrawing(): void {
  if (regions.drawing.value) regions.draw(null);
  if (landmarks.isPlacing.value) landmarks.place(false);
}

/** What each key does, and how the list of keys says it; lines without words belong to the one before. */
const KEYS: [string[], string, Record<string, () => void>][] = [
  [['←', '→', '↑', '↓'], 'move', { ArrowLeft: () => panes.panBy(-1, 0), ArrowRight: () => panes.panBy(1, 0), ArrowUp: () => panes.panBy(0, -1), ArrowDown: () => panes.panBy(0, 1) }],
  [['+', '−'], 'zoom', { '+': () => panes.zoomBy(1.5), '=': () => panes.zoomBy(1.5), '-': () => panes.zoomBy(1 / 1.5) }],
  [['0', '1'], 'whole slide; one to one', { 0: () => panes.fit(), 1: () => panes.zoomTo(1) }],
  [['R', 'Shift+R'], 'rotate right, left', { r: () => panes.turnBy(15), R: () => panes.turnBy(-15) }],
  [['S', 'C', 'B', 'F'], 'side by side, curtain, blink (again: the other slide), fade', { s: setMode('side'), c: setMode('curtain'), b: setMode('blink'), f: setMode('fade') }],
  [[',', '.'], 'move the curtain', { ',': () => setSplit(panes.split.value - 5), '.': () => setSplit(panes.split.value + 5) }],
  [['O', '[', ']'], 'overlay on and off; threshold down, up', { o: toggleOverlay, '[': () => setThreshold(panes.overlay.value.threshold - 0.01), ']': () => setThreshold(panes.overlay.value.threshold + 0.01) }],
  [['N'], 'outlines of nuclei on and off', { n: () => nuclei.show(!nuclei.shown.value) }],
  [['D', 'P', 'V', 'M'], 'rectangle, polygon, the view as a region, ruler', { d: () => regions.draw('rectangle'), p: () => regions.draw('polygon'), v: () => regions.addView(), m: () => regions.draw('ruler') }],
  [['Enter', 'Esc'], 'close a polygon; stop drawing', { Enter: () => regions.closePolygon(), Escape: stopDrawing }],
  [['?'], 'this list', { '?': () => dialog('help').showModal() }],
];
const ACTIONS: Record<string, () => void> = Object.assign({}, ...KEYS.map(([, , actions]) => actions));

function App() {
  return (
    <>
      <Header />
      <main>
        {parts.value.slides && <Cases />}
        <Stage />
        {parts.value.tools && <Tools />}
      </main>
      <Help />
      <Jobs />
      <Login />
    </>
  );
}

function Header() {
  const toggle = (name: 'slides' | 'tools'): void => {
    const open = !parts.value[name];
    parts.value = isNarrow.matches ? { slides: false, tools: false, [name]: open } : { ...parts.value, [name]: open };
  };
  const { slides: hasSlides, tools: hasTools } = parts.value;
  return (
    <header>
      <Button id="slides-toggle" icon="slides" label="Slides" isIconOnly isPressed={hasSlides} onClick={() => toggle('slides')} />
      <h1>Chromogen</h1>
      {caseName.value && <span id="case" title={caseName.value}>{caseName.value.split('/').pop()}</span>}
      <p id="notice" role="note">{about.value && `${sentence(about.value.notice)}.`}</p>
      <JobsButton />
      <CopyButton id="copy-link" icon="share" label="Share" text={() => location.href} />
      <Button id="help-open" icon="help" label="Keys" isIconOnly onClick={() => dialog('help').showModal()} />
      <Button id="theme" icon={isDark.value ? 'sun' : 'moon'} label={isDark.value ? 'Light' : 'Dark'} isIconOnly onClick={() => (isDark.value = !isDark.value)} />
      <Button id="tools-toggle" icon="tools" label="Tools" isIconOnly isPressed={hasTools} onClick={() => toggle('tools')} />
    </header>
  );
}

function Tools() {
  const names = Object.keys(TABS) as Tab[];
  const move = (event: KeyboardEvent): void => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.stopPropagation();
    const next = names[(names.indexOf(tab.value) + by + names.length) % names.length];
    showTab(next);
    document.getElementById(`tab-${next}`)?.focus();
  };
  return (
    <aside id="tools" aria-label="Tools">
      <div role="tablist" aria-label="Tools" onKeyDown={move}>
        {names.map((name) => (
          <button key={name} id={`tab-${name}`} type="button" role="tab" aria-selected={tab.value === name} aria-controls="panel" tabIndex={tab.value === name ? 0 : -1} onClick={() => showTab(name)}>{name}</button>
        ))}
      </div>
      <div id="panel" role="tabpanel" aria-labelledby={`tab-${tab.value}`} tabIndex={0}>
        <h2 class="unseen">{tab.value}</h2>
        {TABS[tab.value]()}
      </div>
    </aside>
  );
}

const Help = () => (
  <dialog id="help" aria-labelledby="help-title">
    <h2 id="help-title">Keys</h2>
    <dl>
      {KEYS.map(([keys, words]) => (
        <div key={words}>
          <dt>{keys.map((key) => <kbd key={key}>{key}</kbd>)}</dt>
          <dd>{words}</dd>
        </div>
      ))}
    </dl>
    <p class="hint">Drop IHC images on the page to stain after them, or GeoJSON files to measure their regions.</p>
    <form method="dialog"><button class="main">Close</button></form>
  </dialog>
);

function Login() {
  const token = useRef<HTMLInputElement>(null);
  const message = useRef<HTMLParagraphElement>(null);
  const enter = async (event: Event): Promise<void> => {
    event.preventDefault();
    try {
      await post('login', { token: token.current!.value.trim() });
      dialog('login').close();
      void begin();
    } catch (error) {
      message.current!.textContent = (error as Error).message;
    }
  };
  return (
    <dialog id="login" aria-labelledby="login-title">
      <form onSubmit={(event) => void enter(event)}>
        <h2 id="login-title">Token</h2>
        <p>This server asks for the token that it printed when it started.</p>
        <label class="field">Token <input id="token" type="password" autocomplete="off" ref={token} /></label>
        <p id="login-message" role="alert" ref={message} />
        <button id="login-go" class="main">Open</button>
      </form>
    </dialog>
  );
}

// Keys

const TYPED_INTO = 'textarea, dialog, input:not([type=range], [type=radio], [type=checkbox])';
let chosenByPointer: HTMLElement | null = null;

/** A drop-down keeps the keys while one works in it by keys; after a choice by mouse or finger they are the page's again. */
function keepsKeys(target: HTMLElement): boolean {
  return target.closest(TYPED_INTO) !== null || (target.matches('select') && (target !== chosenByPointer || isUnfolded(target)));
}

function isUnfolded(select: HTMLElement): boolean {
  try {
    return select.matches(':open');
  } catch {
    return true; // an older browser does not say
  }
}

function pressed(event: KeyboardEvent): void {
  const target = event.target as HTMLElement;
  if (event.key === 'Tab') chosenByPointer = null;
  if (event.ctrlKey || event.metaKey || event.altKey || keepsKeys(target)) return;
  if (target.matches('input') && event.key.startsWith('Arrow')) return; // sliders and radio buttons have their own
  if (event.key === 'Enter' && !regions.drawing.value) return;
  const work = ACTIONS[event.key];
  if (!work) return;
  event.preventDefault();
  work();
}

/** Files that are dropped, one after the other: regions, or exemplars. */
async function dropped(event: DragEvent): Promise<void> {
  event.preventDefault();
  document.body.classList.remove('dropping');
  for (const file of [...(event.dataTransfer?.files ?? [])]) {
    const isRegions = /\.(geo)?json$/i.test(file.name);
    if (isRegions) showTab('Measure');
    if (/\.(svs|ndpi|mrxs|scn|bif|dcm|czi)$/i.test(file.name)) say(`Put ${file.name} into the folder that you gave to chromogen view, and press “Look for new slides”.`, true);
    else await (isRegions ? regions.importFile(file) : takeExemplar(file));
  }
}

function listen(): void {
  document.addEventListener('keydown', pressed);
  document.addEventListener('pointerdown', (event) => {
    const target = event.target as HTMLElement;
    chosenByPointer = target.closest('select');
    for (const open of document.querySelectorAll<HTMLDetailsElement>('.pane-info[open]')) if (!open.contains(target)) open.open = false;
  });
  document.addEventListener('change', (event) => {
    const target = event.target as HTMLElement;
    if (target.matches('select') && target === chosenByPointer) target.blur();
  });
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  document.addEventListener('dragleave', (event) => !event.relatedTarget && document.body.classList.remove('dropping'));
  document.addEventListener('drop', (event) => void dropped(event));
  window.addEventListener('hashchange', () => void restore());
}

async function begin(): Promise<void> {
  const token = takeToken();
  if (token) await post('login', { token }).catch(() => {});
  try {
    about.value = await ask<PageFacts>('app');
    await slides.list();
    await works.watch();
    await (location.hash ? restore() : beginWithPicture()); // without a link, what was opened meanwhile stays
    remember();
    slides.begun();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) dialog('login').showModal();
    else if (error instanceof Refused && error.status === 0) setTimeout(() => void begin(), 2000);
    else complain(error);
  }
}

// OpenSeadragon would write a style element of its own, which the page's policy forbids; style.css has that rule.
const style = document.createElement('style');
style.dataset.openseadragonMobileCss = 'true';
document.head.append(style);
render(<App />, document.body);
listen();
void begin();
