// The slides on the left, grouped by case, each with what it is.

import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import type { SlideLine } from './api';
import { panes, slides } from './desk';
import { complain } from './dom';
import { Badge, Button } from './parts';
import { badgeOf, type Badge as Kind } from './slides';

const MAX_ROWS = 120; // of thousands; the rest by search
const wanted = signal('');

const KINDS: (Kind | '')[] = ['H&E', 'IHC', '', 'VIRTUAL']; // in this order within a case
const kindOf = (line: SlideLine): Kind | '' => badgeOf(line, slides.facts.value[line.id]);

export function Cases() {
  const lines = slides.lines.value;
  const words = wanted.value.toLowerCase();
  const found = lines.filter((line) => `${line.name} ${slides.caseOf(line)} ${kindOf(line)}`.toLowerCase().includes(words));
  const groups = new Map<string, SlideLine[]>();
  for (const line of found.slice(0, MAX_ROWS)) groups.set(slides.caseOf(line), [...(groups.get(slides.caseOf(line)) ?? []), line]);
  for (const own of groups.values()) own.sort((a, b) => KINDS.indexOf(kindOf(a)) - KINDS.indexOf(kindOf(b)));
  const message = !slides.isListed.value ? '' : !lines.length ? 'No slides.' : !found.length ? 'No slide of that name.' : '';
  return (
    <nav id="slides" aria-label="Slides">
      <div class="panel-head">
        <h2>Cases</h2>
        <Button id="reload" icon="right" label="Look for new slides" isIconOnly onClick={() => void slides.list().catch(complain)} />
      </div>
      <input id="find" type="search" aria-label="Find a slide by its name" autocomplete="off" placeholder="Name, case or stain" value={wanted} onInput={(event) => (wanted.value = event.currentTarget.value)} />
      <p id="slides-message" role="status">{message}</p>
      <ul id="slide-list">
        {[...groups].map(([name, own]) => (
          <li key={name} class="case">
            {own.length > 1 && <h3 title={name}>{name.split('/').pop()}</h3>}
            <ul>{own.map((line) => <Row key={line.id} line={line} />)}</ul>
          </li>
        ))}
      </ul>
      {found.length > MAX_ROWS && <p class="hint">{found.length - MAX_ROWS} more; type a part of a name to find them.</p>}
    </nav>
  );
}

function Row({ line }: { line: SlideLine }) {
  const element = useRef<HTMLLIElement>(null);
  useEffect(() => {
    const watcher = new IntersectionObserver(([seen]) => {
      if (!seen.isIntersecting) return;
      watcher.disconnect();
      slides.knowLater(line.id);
    });
    watcher.observe(element.current!);
    return () => watcher.disconnect();
  }, [line.id, line.version]);
  const slide = slides.facts.value[line.id];
  const isBroken = typeof slide === 'string';
  const isOpen = panes.find(line.id) !== undefined;
  const { title } = line;
  const kind = kindOf(line);
  return (
    <li ref={element} data-id={line.id} class={isOpen ? 'slide is-open' : 'slide'}>
      <button type="button" class="open" title={line.name} onClick={() => void slides.open([line.id])}>
        {isBroken ? <span class="no-picture" /> : <img alt="" loading="lazy" src={`/api/slides/${line.id}/thumbnail.jpg?v=${line.version}`} />}
        <span class="name">{title}</span>
        {title !== line.name && <span class="unseen">{line.name}</span>}
        <span class="about">
          <Badge kind={kind} doubt={typeof slide === 'object' ? slide.stains_doubt : null} />
          {kind === 'IHC' && line.marker && <b>{line.marker}</b>}
          {isBroken ? <span class="broken">cannot be read</span> : slide?.mpp ? <span>{slide.mpp.toPrecision(2)} µm</span> : null}
        </span>
      </button>
      {!isBroken && (
        <Button icon={isOpen ? 'minus' : 'plus'} class="beside" label={isOpen ? `Close ${title}` : `${title}: beside`} isIconOnly isPressed={isOpen} onClick={() => void slides.toggleBeside(line.id)} />
      )}
    </li>
  );
}
