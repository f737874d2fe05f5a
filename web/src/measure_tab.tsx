// Measuring: regions in a list, their numbers in every open slide, files of both.

import { regions } from './desk';
import { download, short } from './dom';
import { Button, FileButton, Removal } from './parts';
import { COLUMNS, csv, geojson, intervalOf, isHe, notes, shown, stainsBy, whyOf, type Measurement, type Region } from './region_numbers';

export function MeasureTab() {
  const list = regions.list.value;
  const measured = regions.measured.value;
  const isMeasuring = regions.state.value === 'measuring';
  const words = isMeasuring ? 'Measuring…' : regions.state.value || (list.length ? '' : 'Draw a region to get its numbers for every open slide.');
  return (
    <>
      <div class="buttons">
        <Button icon="rectangle" label="Rectangle" isPressed={regions.drawing.value === 'rectangle'} onClick={() => regions.draw('rectangle')} />
        <Button icon="polygon" label="Polygon" isPressed={regions.drawing.value === 'polygon'} onClick={() => regions.draw('polygon')} />
        <Button id="region-view" label="This view" onClick={() => regions.addView()} />
        <FileButton id="import" label="Import GeoJSON" accept=".geojson,.json" onFile={(file) => void regions.importFile(file)} />
      </div>
      <p id="regions-message" role="status" class="hint">{words}</p>
      {list.length > 0 && <ol id="regions">{list.map((region, index) => <Line key={index} region={region} index={index} />)}</ol>}
      <div class="buttons">
        <Button id="undo" icon="undo" label="Undo" isDisabled={!regions.undone.value.length} onClick={() => regions.undo()} />
        <Button id="clear-regions" label="Clear" isDisabled={!list.length} onClick={() => regions.clear()} />
        <Button id="export-csv" icon="save" label="CSV" isDisabled={!measured} onClick={() => give('csv')} />
        <Button id="export-geojson" icon="save" label="GeoJSON" isDisabled={!list.length || isMeasuring} onClick={() => give('geojson')} />
      </div>
      <div id="numbers" tabIndex={0} role="region" aria-label="Numbers of regions">
        {measured && notes(measured).length > 0 && <ul class="notes">{notes(measured).map((note) => <li key={note} class="note">{note}</li>)}</ul>}
        {measured && list.map((region, index) => <Table key={index} caption={region.name} index={index} measured={measured} />)}
      </div>
    </>
  );
}

function Line({ region, index }: { region: Region; index: number }) {
  return (
    <li class={index === regions.chosen.value ? 'chosen' : ''}>
      <i class="swatch" style={{ background: colorOf(region) }} />
      <input type="text" aria-label={`Name of region ${index + 1}`} value={region.name} onFocus={() => (regions.chosen.value = index)} onChange={(event) => regions.rename(index, event.currentTarget.value)} />
      <Button icon="fit" label={`Show ${region.name}`} isIconOnly onClick={() => regions.choose(index)} />
      <Removal what={region.name} isIconOnly onRemove={() => regions.remove(index)} />
    </li>
  );
}

/** The colour of its class, as QuPath has it. */
function colorOf({ properties }: Region): string | undefined {
  const color = (properties?.classification as { color?: number[] } | undefined)?.color;
  return Array.isArray(color) ? `rgb(${color.slice(0, 3).map(Number).join(' ')})` : undefined;
}

/** A file with a name that says whether a virtual stain was measured. */
function give(kind: 'csv' | 'geojson'): void {
  const measured = regions.measured.value;
  const virtual = measured?.slides.some((slide) => slide.virtual !== null);
  const text = kind === 'csv' ? csv(measured!) : geojson(regions.list.value, measured);
  const type = kind === 'csv' ? 'text/csv' : 'application/geo+json';
  download(`regions${virtual ? '-virtual-stain' : ''}.${kind}`, new Blob([text], { type }));
}

/** The numbers of a region, a column for each slide. */
function Table({ caption, index, measured: { numbers, slides, threshold } }: { caption: string; index: number; measured: Measurement }) {
  const lines = numbers.filter((line) => line.region === index);
  const columns = lines.map((line) => ({ line, slide: slides.find(({ id }) => id === line.slide)! }));
  const why = columns.map(({ line, slide }) => whyOf(line) && `${short(slide.name)}: ${whyOf(line)}`).filter(Boolean);
  return (
    <div class="measured">
      <table>
        <caption>{caption}</caption>
        <thead>
          <tr>
            <td />
            {columns.map(({ slide }) => <th key={slide.id} scope="col" title={slide.name}>{short(slide.name).replace(/(\.ome)?\.\w+$/, '')}{slide.virtual !== null && <span class="badge virtual">VIRTUAL</span>}</th>)}
          </tr>
        </thead>
        <tbody>
          <tr class="stains">
            <th scope="row">stains</th>
            {columns.map(({ slide }) => <td key={slide.id}>{isHe(slide) ? 'H&E' : 'H-DAB'}<small> {stainsBy(slide)}</small></td>)}
          </tr>
          {COLUMNS.map(([key, words, digits]) => {
            const above = key === 'above_threshold_percent';
            return (
              <tr key={key}>
                <th scope="row">{above ? `${words} ${threshold.toFixed(2)}` : words}</th>
                {columns.map(({ line, slide }) => <td key={slide.id}>{shown(line[key], digits)}<small class="interval">{intervalOf(line, key, digits)}</small>{above && <small>{isHe(slide) ? ' eosin' : ' DAB'}</small>}</td>)}
              </tr>
            );
          })}
        </tbody>
      </table>
      {why.length > 0 && <p class="hint">{why.map((one) => one.replace(/\.$/, '')).join('; ')}.</p>}
    </div>
  );
}

