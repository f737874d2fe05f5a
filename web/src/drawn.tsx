// What is drawn over a slide: nuclei in its own pixels, regions and landmarks in those of the first slide.

import type { ReadonlySignal } from '@preact/signals';
import OpenSeadragon from 'openseadragon';
import type { ComponentChildren } from 'preact';
import { useMemo } from 'preact/hooks';
import { moved, ringsOf, type Affine, type Place } from './affine';
import type { NucleiInView, Region } from './api';
import { landmarks, panes, regions } from './desk';
import type { MarkOn } from './landmarks';
import type { Pane } from './pane';
import type { Ring } from './regions';

type Frame = ReadonlySignal<Affine>;

export function Drawn({ pane }: { pane: Pane }) {
  const found = pane.nuclei.value.nuclei;
  const outlines = useMemo(() => found && outlinesOf(found), [found]);
  const pressed = (event: PointerEvent): void => void (regions.drawing.value && regions.pressed(pane, event));
  return (
    <>
      <svg class="nuclei" aria-hidden="true"><Placed by={pane.onScreen}>{outlines}</Placed></svg>
      <svg class="regions" aria-hidden="true" onPointerDown={pressed} onDblClick={() => regions.closePolygon()} ref={(layer) => zoomByWheel(layer, pane)}>
        <Placed by={pane.firstOnScreen}><Regions /><New /></Placed>
        <Names by={pane.firstOnScreen} />
        {landmarks.placesOn(pane).map((mark) => <Mark key={mark.number} by={pane.onScreen} {...mark} />)}
      </svg>
    </>
  );
}

function Regions() {
  const [list, chosen] = [regions.list.value, regions.chosen.value];
  return <>{list.map((region, index) => <path key={index} d={pathOf(region)} class={index === chosen ? 'region chosen' : 'region'} />)}</>;
}

/** What is being drawn. */
const New = () => <path d={pathOfRing(regions.points.value, regions.drawing.value === 'rectangle')} class="region new" />;

function Names({ by }: { by: Frame }) {
  const ruler = regions.drawing.value === 'ruler' ? regions.points.value : [];
  const list = regions.list.value;
  const corners = useMemo(() => list.map((_, index) => regions.box(index)?.location), [list]);
  return (
    <g class="labels">
      {list.map(({ name }, index) => <Label key={index} by={by} at={corners[index]} words={name} />)}
      <Label by={by} at={ruler[1]} words={lengthOf(ruler)} />
    </g>
  );
}

/** A group that follows the slide; what is in it is not made anew for that. */
const Placed = ({ by, children }: { by: Frame; children: ComponentChildren }) => <g transform={by.value.toString()}>{children}</g>;

function Label({ by, at, words }: { by: Frame; at: Place | undefined; words: string }) {
  if (!at) return null;
  const [x, y] = moved(by.value, at);
  return <text x={x + 4} y={y - 5}>{words}</text>;
}

/** A landmark: a cross with its number. */
function Mark({ by, at, number, isDoubtful }: MarkOn & { by: Frame }) {
  const [x, y] = moved(by.value, at);
  return (
    <g transform={`translate(${x} ${y})`} class={isDoubtful ? 'mark doubtful' : 'mark'}>
      <path d="M-9 0H9M0-9V9" />
      <text x="8" y="-6">{number}</text>
    </g>
  );
}

/** One path for each colour. */
function outlinesOf({ outlines, positive, nuclei_threshold_source }: NucleiInView) {
  const drawn: Record<string, string> = {};
  outlines.forEach((outline, index) => {
    const kind = !nuclei_threshold_source ? '' : positive[index] ? 'positive' : 'negative';
    drawn[kind] = `${drawn[kind] ?? ''}M${outline.join(' ')}Z`;
  });
  return Object.entries(drawn).map(([kind, d]) => <path key={kind} d={d} class={`nucleus ${kind}`.trim()} />);
}

const pathOfRing = (ring: Ring, isClosed: boolean): string => (ring.length ? `M${ring.map((corner) => corner.map(Number).join(' ')).join('L')}${isClosed ? 'Z' : ''}` : '');

const pathOf = ({ geometry }: Region): string =>
  ringsOf(geometry).map((ring) => pathOfRing(ring.map(([x, y]) => [x, y]), true)).join('');

function lengthOf([start, end]: Ring): string {
  const mpp = panes.first?.slide.mpp;
  const length = end ? Math.hypot(end[0] - start[0], end[1] - start[1]) : 0;
  return mpp ? `${(length * mpp).toFixed(1)} µm` : `${length.toFixed(0)} px`;
}

/** While one draws, the picture is under the drawing: the wheel zooms it all the same. */
function zoomByWheel(layer: SVGSVGElement | null, pane: Pane): void {
  if (!layer) return;
  layer.onwheel = (event): void => {
    event.preventDefault();
    const { viewport } = pane.viewer;
    const at = pane.image!.imageToViewportCoordinates(new OpenSeadragon.Point(...pane.fromWindow(event)));
    viewport.zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, at).applyConstraints();
  };
}
