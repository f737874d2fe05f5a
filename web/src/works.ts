// What the server makes: stains and trials, watched by one loop, so that two tabs and the cards agree.

import { signal } from '@preact/signals';
import { ask, post, type Progress, type Stain, type Trial, type WorkState } from './api';
import { complain } from './dom';

export const UNDER_WAY: WorkState[] = ['waiting', 'running'];
const [BUSY_MS, IDLE_MS] = [900, 5000];
const MOST = 60; // the newest

export type Kind = 'stains' | 'trials';

/** A piece of work, and how far it is while it runs. */
export type Job = (({ kind: 'stains' } & Stain) | ({ kind: 'trials' } & Trial)) & { progress: Progress | null };

export class Works {
  readonly list = signal<Job[]>([]);
  readonly isLost = signal(false); // whether the server does not answer
  /** Called when some work has ended, or has been removed. */
  onEnd: () => void = () => {};
  private timer = 0;

  get underWay(): Job[] {
    return this.list.value.filter((job) => UNDER_WAY.includes(job.state));
  }

  find(id: string): Job | undefined {
    return this.list.value.find((job) => job.id === id);
  }

  /** Ask how all of it is, and go on asking. */
  async watch(): Promise<void> {
    clearTimeout(this.timer);
    const before = new Set(this.underWay.map(({ id }) => id));
    try {
      const [stains, trials] = await Promise.all([ask<Stain[]>('stains'), ask<Trial[]>('trials')]);
      const all = [...stains.map((one) => ({ kind: 'stains' as const, ...one })), ...trials.map((one) => ({ kind: 'trials' as const, ...one }))]
        .sort((a, b) => b.id.localeCompare(a.id))
        .slice(0, MOST);
      this.list.value = await Promise.all(all.map((one) => this.withProgress(one as Job)));
      if (this.isLost.value) this.onEnd(); // another server may have other slides
      this.isLost.value = false;
    } catch {
      this.isLost.value = true;
    }
    if (this.list.value.some(({ id, state }) => before.has(id) && !UNDER_WAY.includes(state))) this.onEnd();
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.watch(), before.size || this.underWay.length ? BUSY_MS : IDLE_MS);
  }

  /** How far what runs is, and what has just ended; all else stays as it is known. */
  private async withProgress(job: Job): Promise<Job> {
    const known = this.find(job.id);
    const isNews = job.state === 'running' || (known && known.state !== job.state);
    return { ...job, progress: isNews ? await this.progressOf(job) : (known?.progress ?? null) };
  }

  private progressOf({ kind, id }: Job): Promise<Progress | null> {
    return ask<Progress>(`${kind}/${id}`).catch(() => null);
  }

  /** Ask what is not known yet of work that ended before the page was opened. */
  async complete(): Promise<void> {
    const found = new Map<string, Progress | null>();
    for (const job of this.list.value) if (!job.progress && job.state !== 'waiting') found.set(job.id, await this.progressOf(job));
    this.list.value = this.list.value.map((job) => ({ ...job, progress: job.progress ?? found.get(job.id) ?? null }));
  }

  /** Have something made; it is in the list when this ends. */
  async start(kind: Kind, path: string, asked: object): Promise<Job> {
    const made = await post<Stain | Trial>(path, asked);
    const job = { kind, ...made, progress: null } as Job;
    this.list.value = [job, ...this.list.value.filter(({ id }) => id !== job.id)];
    void this.watch();
    return job;
  }

  act(job: Job, what: 'cancel' | 'resume' | 'remove'): void {
    const path = `${job.kind}/${job.id}`;
    const asked = what === 'cancel' ? ask(path, { method: 'DELETE' }) : post(`${path}/${what}`);
    void asked.then(() => this.watch()).then(() => what === 'remove' && this.onEnd()).catch(complain);
  }
}
