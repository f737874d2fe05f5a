// Jobs: how many are under way, in the header; and behind that a card for each.

import { jobUrl, type Job } from './api';
import { layers, slides, works } from './desk';
import { AS_IT_IS } from './layers';
import { Button, CopyButton, Removal } from './parts';
import { LABEL } from './virtual';
import { isUnderWay } from './works';

const MAX_SHOWN = 25;
const dialog = (): HTMLDialogElement => document.getElementById('jobs') as HTMLDialogElement;

export function JobsButton() {
  const busy = works.underWay.value;
  const part = Math.round((100 * busy.reduce((sum, job) => sum + (job.part ?? 0), 0)) / busy.length);
  const words = busy.length ? `${busy.length} ${busy.length > 1 ? 'jobs' : 'job'} ${part} %` : 'Jobs';
  return (
    <>
      {works.isLost.value && <span id="lost" role="alert">Chromogen does not answer</span>}
      <Button id="jobs-open" icon="jobs" label={words} class={busy.length ? 'busy' : ''} onClick={() => dialog().showModal()} />
    </>
  );
}

export function Jobs() {
  const list = works.list.value.slice(0, MAX_SHOWN);
  return (
    <dialog id="jobs" aria-labelledby="jobs-title">
      <h2 id="jobs-title">Jobs</h2>
      {list.length ? <ul class="results">{list.map((job) => <Card key={job.id} job={job} />)}</ul> : <p class="hint">Nothing was stained yet.</p>}
      <form method="dialog"><button class="main">Close</button></form>
    </dialog>
  );
}

function Card({ job }: { job: Job }) {
  const isBusy = isUnderWay(job);
  const isDone = job.state === 'done';
  return (
    <li class="job" data-state={job.state} data-kind={job.kind}>
      <p class="job-name"><b>{job.title}</b> {job.settings}</p>
      <p class="hint">{job.size ? `${job.size.join(' × ')} px of ` : 'All of '}{slides.find(job.slide)?.name ?? 'a slide'}</p>
      <p class="job-state" role="status">{job.status}</p>
      {isBusy && <progress max={1} value={job.part ?? undefined} aria-label="How far it is" />}
      {job.region && !job.is_slide && job.state !== 'waiting' && (
        <div class="pictures">
          <img alt="H&E that went in" src={jobUrl(job, 'region.png')} />
          <span class="labelled">
            <img alt={LABEL} src={layers.address(job)} />
            <span class="picture-label" aria-hidden="true">{LABEL}</span>
          </span>
        </div>
      )}
      {job.losses.length > 1 && <Curve losses={job.losses} />}
      <div class="buttons">
        {isBusy && <Button label="Cancel" onClick={() => works.act(job, 'cancel')} />}
        {!isBusy && !isDone && <Button label="Resume" onClick={() => works.act(job, 'resume')} />}
        {isDone && <Button icon="eye" label="On the slide" onClick={() => void onSlide(job)} />}
        {!isBusy && <Removal what={isDone ? 'the result' : 'what there is of it'} onRemove={() => works.act(job, 'remove')} />}
      </div>
      <Origin job={job} />
    </li>
  );
}

async function onSlide(job: Job): Promise<void> {
  dialog().close();
  await slides.open([job.slide]);
  layers.set(job.id, { shown: true });
}

function Curve({ losses }: { losses: number[] }) {
  const logs = losses.map((loss) => Math.log(Math.max(loss, 1e-12)));
  const [low, high] = [Math.min(...logs), Math.max(...logs)];
  const at = logs.map((value, i) => `${((200 * i) / (logs.length - 1)).toFixed(1)},${(56 - (52 * (value - low)) / (high - low || 1)).toFixed(1)}`);
  return (
    <svg viewBox="0 0 200 60" class="curve" role="img" preserveAspectRatio="none" aria-label={`Loss by step, from ${losses[0].toPrecision(3)} to ${losses.at(-1)!.toPrecision(3)}`}>
      <polyline points={at.join(' ')} />
    </svg>
  );
}

/** The command line and the Python that make it again. */
function Origin({ job }: { job: Job }) {
  const { strength, dab_amount } = layers.adjusted.value[job.id] ?? AS_IT_IS;
  const isMoved = strength !== 1 || dab_amount !== 1;
  const after = [
    'from chromogen.app.view.pictures import adjusted',
    `picture = adjusted(read_image("region.png"), result.image, strength=${strength}, dab_amount=${dab_amount})`,
    'write_image("adjusted.png", picture)',
  ];
  const python = isMoved ? [job.python, ...after].join('\n') : job.python;
  return (
    <details class="origin">
      <summary>How to make it again</summary>
      <p class="hint">{job.folder}{isMoved && ' The sliders act afterwards, in Python alone.'}</p>
      <pre tabIndex={0}>{job.command}</pre>
      <pre tabIndex={0}>{python}</pre>
      <div class="buttons">
        <CopyButton label="Copy command" text={() => job.command} />
        <CopyButton label="Copy Python" text={() => python} />
      </div>
    </details>
  );
}
