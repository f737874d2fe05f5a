// What is seen, as a picture to be kept: the panes as they lie, regions and nuclei, a scale bar, and the notice.

import { about, panes } from './desk';
import { download, say } from './dom';
import { scaleBar } from './stage';

const FOOT_PX = 46;

export async function snapshot(): Promise<void> {
  const box = document.getElementById('panes')!.getBoundingClientRect();
  const ratio = devicePixelRatio;
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [box.width * ratio, (box.height + FOOT_PX) * ratio];
  const context = canvas.getContext('2d')!;
  context.scale(ratio, ratio);
  context.fillStyle = '#ffffff';
  context.fillRect(0, 0, box.width, box.height + FOOT_PX);
  const elements = [...document.querySelectorAll<HTMLElement>('.pane:not(.hidden)')];
  if (panes.layout !== 'side') elements.reverse(); // the first lies on top
  for (const element of elements) drawPane(context, element, box);
  drawFoot(context, box);
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, 'image/png'));
  if (!blob) return say('The picture could not be made; make the window smaller.', true);
  const isVirtual = panes.list.some((pane) => pane.label.value);
  download(`${isVirtual ? 'virtual-stain-' : ''}${panes.first!.slide.title.replace(/\.[^.]*$/, '')}.png`, blob);
}

function drawPane(context: CanvasRenderingContext2D, element: HTMLElement, within: DOMRect): void {
  const box = element.getBoundingClientRect();
  const isFirst = element.dataset.index === '0';
  context.save();
  context.translate(box.left - within.left, box.top - within.top);
  const seen = panes.layout === 'curtain' && isFirst ? panes.split.value / 100 : 1;
  context.beginPath();
  context.rect(0, 0, box.width * seen, box.height);
  context.clip();
  const picture = element.querySelector<HTMLCanvasElement>('.canvas canvas')!;
  context.globalAlpha = Number(getComputedStyle(element.querySelector('.canvas')!).opacity);
  context.fillStyle = getComputedStyle(element).backgroundColor;
  context.fillRect(0, 0, box.width, box.height);
  context.filter = panes.filter;
  context.drawImage(picture, 0, 0, box.width, box.height);
  context.filter = 'none';
  for (const path of element.querySelectorAll<SVGPathElement>('.nuclei path, .regions path')) {
    const { a, b, c, d, e, f } = (path.parentElement as unknown as SVGGElement).transform.baseVal.consolidate()!.matrix;
    const placed = new Path2D();
    placed.addPath(new Path2D(path.getAttribute('d')!), { a, b, c, d, e, f });
    const { stroke, strokeWidth } = getComputedStyle(path);
    [context.strokeStyle, context.lineWidth] = [stroke, parseFloat(strokeWidth)];
    context.stroke(placed);
  }
  context.restore();
}

function drawFoot(context: CanvasRenderingContext2D, box: DOMRect): void {
  const { first, place } = panes;
  const [length, words] = scaleBar(place.value!.zoom, first!.slide.mpp);
  context.fillStyle = '#1c1b22';
  context.fillRect(12, box.height + 12, length, 4);
  context.font = '13px system-ui, sans-serif';
  context.fillText(words, 12, box.height + 34);
  const made = panes.list.map(({ slide }) => slide.title).join(' | ');
  const notice = about.value?.notice ?? '';
  context.fillText(`${made}  ·  ${notice}`, 24 + Math.max(length, 60), box.height + 26, box.width - length - 90);
}
