// Jobs: how many are under way, in the header; and behind that a card for each.

import type { Stain, Trial } from './api';
import { layers, slides, works } from './desk';
import { duration, short } from './dom';
import { AS_IT_IS, nameOf } from './layers';
import { Button, CopyButton, Removal } from './parts';
import { UNDER_WAY, type Job } from './works';

const MAX_SHOWN = 25;

/** How far it is, 0 to 1; nothing where nobody knows. */
export const partOf = ({ progress }: Job): number | undefined => (progress?.of ? progress.step / progress.of : undefined);

export function JobsButton() {
  const busy = works.underWay;
  const part = busy.length ? Math.round((100 * busy.reduce((sum, job) => sum + (partOf(job) ?? 0), 0)) / busy.length) : 0;
  const words = busy.length ? `${busy.length} ${busy.length > 1 ? 'jobs' : 'job'} ${part} %` : 'Jobs';
  const open = (): void => {
    (document.getElementById('jobs') as HTMLDialogElement).showModal();
    void works.complete();
  };
  return (
    <>
      {works.isLost.value && <span id="lost" role="alert">Chromogen does not answer</span>}
      <Button id="jobs-open" icon="jobs" label={words} class={busy.length ? 'busy' : ''} onClick={open} />
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

/** How far it is, or how it ended, in words. */
export function stateOf(job: Job): string {
  const { state, progress, error } = job;
  const ends = { failed: `Failed: ${error}`, waiting: 'Waiting for its turn' };
  if (state in ends) return ends[state as keyof typeof ends];
  const isTrial = job.kind === 'trials';
  const [one, many] = isTrial ? ['step', 'steps'] : ['block', 'blocks'];
  const kept = isTrial ? 'it goes on where it was, if it ran for more than a minute' : 'finished blocks are kept';
  if (state === 'cancelled') return `Cancelled; ${kept}`;
  if (state === 'interrupted') return `Interrupted, as the server ended meanwhile; ${kept}`;
  if (state === 'done') return `Done${progress?.step ? `: ${progress.step} ${progress.step > 1 ? many : one}${isTrial ? ` in ${duration(progress.seconds)}` : ''}` : ''}`;
  if (!progress?.step) return isTrial ? 'Starting: loading the network and measuring the exemplar' : 'Starting: looking at the slide';
  const left = progress.seconds_left ?? ((progress.of - progress.step) * progress.seconds) / progress.step;
  return `${isTrial ? 'Step' : 'Block'} ${progress.step} of ${progress.of}, about ${duration(left)} left`;
}

function Card({ job }: { job: Job }) {
  const isBusy = UNDER_WAY.includes(job.state);
  const slide = slides.find(job.slide)?.name ?? (job.kind === 'stains' ? job.name : 'a slide');
  const part = job.size ? `${job.size.join(' × ')} px of ` : 'All of ';
  const options = job.kind === 'trials' ? job.options.filter((_, i) => i % 2).slice(0, 1) : Object.entries(job.dials).map(([name, value]) => `${name} ${value}`);
  const isPicture = job.kind === 'trials' || (job.location && job.output === 'result.png');
  return (
    <li class="job" data-state={job.state} data-kind={job.kind}>
      <p class="job-name"><b>{nameOf(job)}</b> {options.join(', ')}</p>
      <p class="hint">{part}{slide}</p>
      <p class="job-state" role="status">{stateOf(job)}</p>
      {isBusy && <progress max={1} value={partOf(job)} aria-label="How far it is" />}
      {isPicture && job.state !== 'waiting' && (
        <div class="pictures">
          <img alt="H&E that went in" src={`/api/${job.kind}/${job.id}/region.png`} />
          <span class="labelled"><img alt="VIRTUAL STAIN - not for diagnosis" src={layers.address(job)} /><span class="picture-label" aria-hidden="true">VIRTUAL STAIN - not for diagnosis</span></span>
        </div>
      )}
      {job.progress?.losses && job.progress.losses.length > 1 && <Curve losses={job.progress.losses} />}
      <div class="buttons">
        {isBusy && <Button label="Cancel" onClick={() => works.act(job, 'cancel')} />}
        {!isBusy && job.state !== 'done' && <Button label="Resume" onClick={() => works.act(job, 'resume')} />}
        {job.state === 'done' && <Button icon="eye" label="On the slide" onClick={() => void onSlide(job)} />}
        {!isBusy && <Removal what={job.state === 'done' ? 'the result' : 'what there is of it'} onRemove={() => works.act(job, 'remove')} />}
      </div>
      <Origin job={job} />
    </li>
  );
}

async function onSlide(job: Job): Promise<void> {
  (document.getElementById('jobs') as HTMLDialogElement).close();
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
    'from chromogen.app.view.adjusted import adjusted',
    `picture = adjusted(read_image("region.png"), result.image, strength=${strength}, dab_amount=${dab_amount})`,
    'write_image("adjusted.png", picture)',
  ];
  const python = isMoved ? [job.python, ...after].join('\n') : job.python;
  return (
    <details class="origin">
      <summary>How to make it again</summary>
      <p class="hint">{whereOf(job)}{isMoved && ' The sliders act afterwards, in Python alone.'}</p>
      <pre tabIndex={0}>{job.command}</pre>
      <pre tabIndex={0}>{python}</pre>
      <div class="buttons">
        <CopyButton label="Copy command" text={() => job.command} />
        <CopyButton label="Copy Python" text={() => python} />
      </div>
    </details>
  );
}

function whereOf(job: Job & (Stain | Trial)): string {
  if (job.kind === 'trials') return `In the folder ${job.id} of the results.`;
  return `In the folder of ${short(job.name)}${job.location ? '; it writes this part as a slide, without loss' : ''}:`;
}
