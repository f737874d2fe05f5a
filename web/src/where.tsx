// Where a look stains: the slide's own tissue, regions, or a file; seen on the slide before it is stained.

import { computed, effect, signal, untracked } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { answerTo, ask, type Box, type Region, type Slide, type WhereLine } from './api';
import { layers, panes, regions } from './desk';
import { basename, oneByOne, sentence } from './dom';
import { Check, Slider } from './parts';

const [TISSUE, REGIONS, ELSEWHERE] = ['tissue', 'regions', 'elsewhere'];
const lines = signal<WhereLine[]>([]);
const source = signal(TISSUE);
const levels = signal<Record<string, number>>({});
const isShown = signal(false);
const state = signal(''); // why there is no map, or that it is coming

const percent = (part: number): string => `${Math.round(100 * part)} %`;

/** The class of a region, as the server has it: its own, else its name. */
const classOf = ({ name, properties }: Region): string => properties?.classification?.name || name || '1';
const line = computed(() => lines.value.find(({ id }) => id === source.value));
const classes = computed(() => (source.value === REGIONS ? [...new Set(regions.list.value.map(classOf))] : (line.value?.classes ?? [])));
const levelOf = (name: string): number => levels.value[name] ?? (name === ELSEWHERE ? 0 : 1);

/** Whether the source gives the share of positive nuclei itself. */
export const givesShares = computed(() => source.value !== TISSUE);

/** What a request says of where. Throws where there is no region yet. */
export function whereAsked(): object {
  const isDrawn = source.value === REGIONS;
  if (isDrawn && !classes.value.length) throw new Error('Draw a region first, or import some under “Measure”; the tools are above the picture.');
  const named = classes.value.length ? [...classes.value, ELSEWHERE] : [];
  const given = Object.fromEntries(named.map((name) => [name, levelOf(name)]));
  return { source: source.value, levels: given, ...(isDrawn ? { regions: regions.list.value } : {}) };
}

let last = ''; // what the map that is shown is the answer to

function showMap(map: typeof layers.map.value, asked = '', words = ''): void {
  const { value } = layers.map;
  [layers.map.value, last, state.value] = [map, asked, words];
  if (value) URL.revokeObjectURL(value.picture.source as string);
}

/** Show the map of what would be stained: asked for once things are quiet, one at a time. */
export function watchMap(wanted: () => ({ slide: string } & object) | null): void {
  const look = oneByOne(async () => {
    const asked = isShown.value && wanted();
    if (!asked || JSON.stringify(asked) === last) return;
    state.value = 'Looking where the stain would lie…';
    const answer = await answerTo('where-maps', asked);
    const [x, y, width, height] = answer.headers.get('chromogen-box')!.split(',').map(Number);
    const source = URL.createObjectURL(await answer.blob());
    const box: Box = { location: [x, y], size: [width, height] };
    showMap({ slide: asked.slide, picture: { id: 'where', source, box, opacity: 1, isMap: true } }, JSON.stringify(asked));
    if (!isShown.value) showMap(null);
  }, (error) => showMap(null, '', error.message), 350);
  effect(() => {
    void [isShown.value, source.value, levels.value, regions.list.value, panes.place.value];
    untracked(() => (isShown.value ? look() : showMap(null)));
  });
}

export const hideMap = (): void => void (isShown.value = false);

export function WhereChoice({ slide, onChange }: { slide: Slide; onChange: () => void }) {
  useEffect(() => {
    ask<WhereLine[]>(`wheres?slide=${slide.id}`).then(
      (found) => {
        lines.value = found;
        if (!found.some(({ id }) => id === source.value)) source.value = TISSUE;
      },
      () => {},
    );
  }, [slide.id]);
  const choose = (id: string): void => {
    source.value = id;
    onChange();
  };
  const set = (name: string, level: number): void => {
    levels.value = { ...levels.value, [name]: level };
    onChange();
  };
  const { claim = '' } = line.value ?? {};
  return (
    <>
      <label class="field">Where
        <select id="where-source" value={source.value} onChange={(event) => choose(event.currentTarget.value)}>
          <option value={TISSUE}>The slide’s own tissue</option>
          <option value={REGIONS}>Regions on this slide ({regions.list.value.length})</option>
          {lines.value.filter(({ id }) => ![TISSUE, REGIONS].includes(id)).map(({ id, name }) => <option key={id} value={id} title={name}>{basename(name)}</option>)}
        </select>
      </label>
      {claim && <p class="hint" id="where-claim">{sentence(claim)}.</p>}
      {classes.value.length > 0 && (
        <div id="levels">
          {[...classes.value, ELSEWHERE].map((name) => (
            <Slider key={name} label={name === ELSEWHERE ? 'Elsewhere' : name} value={levelOf(name)} low={0} high={1} step={0.05} shown={percent(levelOf(name))} onInput={(level) => set(name, level)} />
          ))}
        </div>
      )}
      <Check id="where-map" label="Show it on the slide" isOn={isShown.value} onToggle={(on) => (isShown.value = on)} />
      {isShown.value && <div class="legend where"><span class="ramp" /><span class="ends"><span>not stained</span><span>fully stained</span></span></div>}
      <p id="where-message" class="hint" role="status">{state.value}</p>
    </>
  );
}
