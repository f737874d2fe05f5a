// Aligning: how a slide lies on the first, by registration, by landmarks, or by hand; the server keeps it as a transform.

import { signal } from '@preact/signals';
import { ask, besidePath, post, type Beside, type Stage } from './api';
import { landmarks, panes } from './desk';
import { complain, say, sentence } from './dom';
import type { Pane } from './pane';
import { LEAST } from './landmarks';
import { Button, Choice, Removal, Select } from './parts';

const TELLING = { similarity: 5, affine: 6 }; // pairs among which a wrong one shows
const STAGE_MS = 300;
const stage = signal<Stage | null>(null); // of the registration that is under way

export function AlignTab() {
  const other = landmarks.other.value;
  if (!other || !panes.first) return <p class="hint">Open two slides of one block, and bring their tissue together here.</p>;
  const { beside } = other;
  return (
    <>
      <p class="of">Lay <b>{other.slide.title}</b> on <b>{panes.first.slide.title}</b></p>
      {panes.list.length > 2 && <Select id="align-other" label="Slide" value={panes.list.indexOf(other)} of={panes.others} onChoose={(index) => (landmarks.index.value = Number(index))} />}
      <p id="lies" class={beside.value.is_guess ? 'note' : 'hint'} role="status">It lies {beside.value.by}.</p>
      <Button id="register" label="Register automatically" isMain class="wide" isDisabled={!!stage.value} onClick={() => void register(other)} />
      {stage.value && (
        <div id="registering" role="status">
          <progress max={1} value={stage.value.part ?? undefined} aria-label="How far the registration is" />
          <p class="hint">{sentence(stage.value.words || 'about a minute')}…</p>
        </div>
      )}
      <section>
        <h3>By hand</h3>
        <p class="hint">Press “Move alone”, drag and rotate the slide, and press it again.</p>
        <div class="buttons">
          <Button id="move-alone" label="Move alone" isPressed={!panes.linked.value} onClick={() => panes.setLinked(!panes.linked.value)} />
          <Button id="turn-over" label="Turn over" onClick={() => panes.turnOver(other)} />
        </div>
      </section>
      <LandmarkList />
      {beside.value.is_kept && (
        <div class="buttons">
          <a class="button" id="transform-file" href={`/api/${besidePath(panes.first.slide, other.slide)}/transform.json`} download="transform.json">Download transform</a>
          <Removal what="this alignment" onRemove={() => void forget(other)} />
        </div>
      )}
    </>
  );
}

function LandmarkList() {
  const { pairs, kind, fitted } = landmarks.now.value;
  const isPlacing = landmarks.isPlacing.value;
  return (
    <section>
      <h3>By landmarks</h3>
      <Choice name="kind" legend="What landmarks may change" value={kind} onChoose={(value) => landmarks.setKind(value)} of={[['similarity', 'Turn and scale'], ['affine', 'Stretch too']]} />
      <div class="buttons">
        <Button id="place-landmarks" label={isPlacing ? 'Stop placing' : 'Place landmarks'} isPressed={isPlacing} onClick={() => landmarks.place(!isPlacing)} />
        {!fitted && pairs.length >= LEAST && <Button label="Lay by landmarks" onClick={() => void landmarks.fit()} />}
      </div>
      <ol id="landmarks">
        {pairs.map((pair, index) => (
          <li key={index} class={index === fitted?.doubtful ? 'doubtful' : ''}>
            <b>{index + 1}</b>
            <span>{!(pair.first && pair.other) ? 'click it on the other slide' : fitted ? `${fitted.residuals_um[index].toFixed(1)} µm off` : 'placed'}</span>
            <Removal what={`landmark ${index + 1}`} isIconOnly onRemove={() => landmarks.remove(index)} />
          </li>
        ))}
      </ol>
      <p id="landmarks-message" class={fitted?.doubtful == null ? 'hint' : 'note'} role="status">{inWords()}</p>
    </section>
  );
}

/** How well landmarks agree, or how many more are wanted. */
function inWords(): string {
  const { pairs, kind, fitted } = landmarks.now.value;
  if (!pairs.length) return 'Click the same place on both slides, three times or more, far apart.';
  if (pairs.length < LEAST) return `${LEAST - pairs.length} more to lay the slide by them.`;
  if (!fitted) return '';
  const off = `${fitted.rms_um.toFixed(1)} µm off, root mean square.`;
  if (fitted.doubtful !== null) return `${off} Landmark ${fitted.doubtful + 1} lies further off than the others allow: check it, or remove it.`;
  return pairs.length < TELLING[kind] ? `${off} With ${TELLING[kind]} or more, Chromogen names one that is wrong.` : off;
}

async function register(other: Pane): Promise<void> {
  const path = `${besidePath(panes.first!.slide, other.slide)}/registration`;
  const look = (): Promise<unknown> => ask<Stage>(path).then((now) => stage.value && (stage.value = now), () => {});
  stage.value = { part: 0, words: '' };
  const timer = setInterval(() => void look(), STAGE_MS);
  await post<Beside>(path).then((beside) => {
    panes.lie(other, beside);
    say('Registered. The slides move together, and regions follow the tissue.');
  }, complain);
  clearInterval(timer);
  stage.value = null;
}

const forget = (other: Pane): Promise<void> =>
  ask<Beside>(besidePath(panes.first!.slide, other.slide), { method: 'DELETE' }).then((beside) => panes.lie(other, beside), complain);
