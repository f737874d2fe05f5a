// Measuring: regions in a list, their numbers in every open slide, files of both.

import type { Region, Table as Numbers } from './api';
import { regions } from './desk';
import { basename, download } from './dom';
import { Button, FileButton, Removal } from './parts';

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
        <Button id="undo" icon="undo" label="Undo" isIconOnly isDisabled={!regions.undone.value.length} onClick={() => regions.undo()} />
        <Button id="clear-regions" label="Clear" isDisabled={!list.length} onClick={() => regions.clear()} />
        <Button id="export-csv" icon="save" label="CSV" isDisabled={!measured} onClick={() => give('csv')} />
        <Button id="export-geojson" icon="save" label="GeoJSON" isDisabled={!measured} onClick={() => give('geojson')} />
      </div>
      <div id="numbers" tabIndex={0} role="region" aria-label="Numbers of regions">
        {measured && <ul class="notes">{measured.notes.map((note) => <li key={note} class="note">{note}</li>)}</ul>}
        {measured?.tables.map((table, index) => <Table key={index} table={table} />)}
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
  const color = properties?.classification?.color;
  return Array.isArray(color) ? `rgb(${color.slice(0, 3).map(Number).join(' ')})` : undefined;
}

/** A file with a name that says whether a virtual stain was measured. */
function give(kind: 'csv' | 'geojson'): void {
  const measured = regions.measured.value!;
  const type = kind === 'csv' ? 'text/csv' : 'application/geo+json';
  download(`regions${measured.is_virtual ? '-virtual-stain' : ''}.${kind}`, new Blob([measured[kind]], { type }));
}

/** The numbers of a region, a column for each slide. */
const Table = ({ table: { caption, columns, rows, why } }: { table: Numbers }) => (
  <div class="measured">
    <table>
      <caption>{caption}</caption>
      <thead>
        <tr>
          <td />
          {columns.map(({ name, is_virtual }) => (
            <th key={name} scope="col" title={name}>
              {basename(name).replace(/(\.ome)?\.\w+$/, '')}
              {is_virtual && <span class="badge virtual">VIRTUAL</span>}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        <tr class="stains">
          <th scope="row">stains</th>
          {columns.map(({ name, stains, stains_by }) => <td key={name}>{stains}<small> {stains_by}</small></td>)}
        </tr>
        {rows.map(({ label, cells }) => (
          <tr key={label}>
            <th scope="row">{label}</th>
            {cells.map(({ text, interval, of }, index) => (
              <td key={index}>{text}<small class="interval">{interval}</small>{of && <small> {of}</small>}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
    {why && <p class="hint">{why}</p>}
  </div>
);
