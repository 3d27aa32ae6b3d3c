"""Random-access data as numbered batches: a batch is a pure function of (seed, step)."""
