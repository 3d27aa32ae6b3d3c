"""Random-access data in batches: a batch is a pure function of (seed, step)."""
