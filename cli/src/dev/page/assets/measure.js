// What is measured while a channel is looked at: rates, times from publishing to arrival, and whether it was connected.

/** Seconds that the plots go back. A minute. */
export const SECONDS = 60;
/** Measurements of latency that are kept. */
export const LATENCIES = 60;
/** How long a published record may take to come back, in ms. 10 s: then it is taken for one that makes no event here. */
const LOST = 10_000;

export class Measure {
  constructor() {
    this.rates = Array(SECONDS).fill(0);
    this.states = Array(SECONDS).fill(0);
    this.latencies = [];
    this.since = undefined;
    this.away = false;
  }

  arrived() {
    this.rates[SECONDS - 1] += 1;
    if (this.since === undefined) return;
    this.latencies.push(performance.now() - this.since);
    if (this.latencies.length > LATENCIES) this.latencies.shift();
    this.since = undefined;
  }

  /** A record is published. Only one at a time is measured, so that its first event can not be another's. */
  publishes() {
    this.since ??= performance.now();
  }

  /** What was published while nothing could arrive measures the cut, not the path. */
  interrupted() {
    this.since = undefined;
  }

  /** The connection was lost: this second counts as one without, however soon it is back. */
  lost() {
    this.interrupted();
    this.away = true;
  }

  /** A second has passed; tells whether a record was published and nothing came of it. */
  tick(connected) {
    this.rates.push(0);
    this.rates.shift();
    this.states.push(this.away ? -1 : connected);
    this.away = false;
    this.states.shift();
    const lost = this.since !== undefined && performance.now() - this.since > LOST;
    if (lost) this.since = undefined;
    return lost;
  }

  /** Events of the second before this one. */
  get rate() {
    return this.rates[SECONDS - 2];
  }

  get median() {
    return this.latencies.toSorted((a, b) => a - b)[Math.floor(this.latencies.length / 2)];
  }
}

export const milliseconds = (value) => (value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);
