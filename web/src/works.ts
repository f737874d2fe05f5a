// What the server makes: stains and trials, watched by one loop, so that two tabs and the cards agree.

import { computed, signal } from '@preact/signals';
import { ask, post, type Job } from './api';
import { complain } from './dom';

const [BUSY_MS, IDLE_MS] = [900, 5000];
const MAX_SHOWN = 60; // the newest

export const isUnderWay = ({ state }: Job): boolean => state === 'waiting' || state === 'running';

export class Works {
  readonly list = signal<Job[]>([]);
  readonly isLost = signal(false); // whether the server does not answer
  readonly underWay = computed(() => this.list.value.filter(isUnderWay));
  /** Called when some work has ended, or has been removed. */
  onEnd: () => void = () => {};
  private timer = 0;

  find(id: string): Job | undefined {
    return this.list.value.find((job) => job.id === id);
  }

  /** Ask how all of it is, and go on asking. */
  async watch(): Promise<void> {
    clearTimeout(this.timer);
    const before = new Set(this.underWay.value.map(({ id }) => id));
    const wasLost = this.isLost.value;
    try {
      this.list.value = (await ask<Job[]>('jobs')).slice(0, MAX_SHOWN);
      this.isLost.value = false;
    } catch {
      this.isLost.value = true;
    }
    const hasEnded = this.list.value.some((job) => before.has(job.id) && !isUnderWay(job));
    if (hasEnded || (wasLost && !this.isLost.value)) this.onEnd(); // another server may have other slides
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.watch(), before.size || this.underWay.value.length ? BUSY_MS : IDLE_MS);
  }

  /** Have something made; it is in the list when this ends. */
  async start(path: 'stains' | 'trials', asked: object): Promise<Job> {
    const job = await post<Job>(path, asked);
    this.list.value = [job, ...this.list.value.filter(({ id }) => id !== job.id)];
    void this.watch();
    return job;
  }

  act({ id }: Job, what: 'cancel' | 'resume' | 'remove'): void {
    const asked = what === 'cancel' ? ask(`jobs/${id}`, { method: 'DELETE' }) : post(`jobs/${id}/${what}`);
    void asked.then(() => this.watch()).then(() => what === 'remove' && this.onEnd()).catch(complain);
  }
}
