"""Continuous batching: requests share the slots of one decoder, and join and leave between tokens.

A step of the engine reads at most one chunk of a prompt (with many slots one for every SLOTS_A_CHUNK, or some would stand
empty), then one token in every slot that is generating, so a long prompt delays the next token of the others by no more than a
chunk. What a slot has read of a prompt that begins alike is copied and not read again. The device computes a step while the
host handles the tokens of the step before: a request that ends at a token is decoded once more, and that token is discarded.

A request's tokens are a function of the request alone: whoever shares the slots, its logits are the same bits.
"""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.generation import decoding
from research.serving import draws
from research.serving.decoder import Decoder
from research.serving.jobs import CANCELLED, FAILED, Busy, Closed, Finished, Job, Request, Timing, Token
from research.serving.prefixes import Prefixes
from research.util.errors import UserError

SLOTS_A_CHUNK = 16  # a token in so many slots takes about as long as a chunk of a prompt


class Engine:
    """A decoder's S slots, a queue before them, and the steps that serve both. `start` runs the steps in a thread.

    `submit` and `Job.cancel` may be called by any thread; `step` by one at a time.
    """

    def __init__(self, decoder: Decoder, slots: int = 8, length: int | None = None, queue: int = 64):
        """`length` is the cache's, in tokens a slot (None: the decoder's `max_length`), and `queue` the most requests that wait.

        Raises UserError if one of them is out of range.
        """
        length = decoder.max_length if length is None else length
        if not decoder.chunk <= length <= decoder.max_length:
            raise UserError(f"length={length}: want {decoder.chunk} to {decoder.max_length} tokens a slot")
        if slots < 1 or queue < 1:
            raise UserError(f"slots={slots}, queue={queue}: want at least 1 of each")
        self.decoder, self.length = decoder, length
        self._jobs: list[Job | None] = [None] * slots
        self._waiting: deque[Job] = deque()
        self._most_waiting = queue
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._accepts = True
        self.reused = 0  # tokens of prompts that a slot held already
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._reset()

    def _reset(self) -> None:
        S, V = len(self._jobs), self.decoder.vocab_size
        self._cache = self.decoder.new_cache(S, self.length)
        self._prefixes = Prefixes(self.decoder, S, self.length)
        self._slots = draws.empty(S, V)
        self._all_allowed = jnp.ones((S, V), bool)
        self._logits = jnp.zeros((S, V), jnp.float32)
        self._undelivered: tuple[draws.Drawn, dict[int, Job]] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the thread serves."""
        return self._thread.is_alive()

    @property
    def occupied(self) -> int:
        """Slots in use."""
        return sum(job is not None for job in self._jobs)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    def submit(self, request: Request, deliver: Callable[[Token | Finished], Any], timing: Timing | None = None) -> Job:
        """Puts a request into the queue; `timing` is told when it got a slot.

        Raises UserError if it cannot be served, Busy if the queue is full, Closed after `close`.
        """
        self._check(request)
        job = Job(request, deliver, timing)
        with self._changed:
            if not self._accepts:
                raise Closed
            if len(self._waiting) >= self._most_waiting:
                raise Busy
            self._waiting.append(job)
            self._changed.notify()
        return job

    def _check(self, request: Request) -> None:
        prompt, V = request.prompt, self.decoder.vocab_size
        if prompt.ndim != 1 or not len(prompt) or prompt.min() < 0 or prompt.max() >= V:
            raise UserError(f"prompt of shape {prompt.shape}: want one token or more, each in 0..{V - 1}")
        if request.length < 1:
            raise UserError(f"length={request.length}: want at least 1 token to generate")
        if len(prompt) + request.length > self.length:
            raise UserError(
                f"a prompt of {len(prompt)} tokens and {request.length} to generate are more than the context of {self.length}"
            )
        decoding.check_settings(request.sampling)
        if request.constraint is not None:
            request.constraint.check(V, request.length)

    def start(self) -> None:
        """Compiles the programs, by a request of its own, and then serves in a thread."""
        self.submit(Request(np.zeros(1, np.int32), min(2, self.length - 1), jax.random.key(0)), lambda _: None)
        while self.step():
            pass
        self._cache = self._prefixes.compile(self._cache)
        draws.with_row(self._all_allowed, 0, self._all_allowed[0])  # for the first constrained request
        self._thread.start()

    def close(self, seconds: float = 0.0) -> None:
        """Takes no more requests, lets those that it has end for so many seconds, cancels the others and ends the thread."""
        with self._changed:
            self._accepts = False
            self._changed.notify()
        if not self._thread.is_alive():
            return
        self._thread.join(seconds)
        with self._changed:
            for job in (*self._waiting, *filter(None, self._jobs)):
                job.cancel()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_busy() or not self._accepts)
            if not self._is_busy():
                return
            try:
                self.step()
            except Exception:  # the device's: whoever waits must hear of it, and the next request may be served
                logging.getLogger(__name__).exception("a step of the engine failed")
                self._fail()

    def _is_busy(self) -> bool:
        return bool(self._undelivered or self.occupied or self.waiting)

    def _fail(self) -> None:
        for job in filter(None, self._jobs):
            job.finish(FAILED)
        self._free()
        self._reset()

    def step(self) -> bool:
        """Reads a chunk of a prompt or more, draws a token in every slot that can, and delivers the tokens of the step before.

        Returns whether there is more to do.
        """
        self._drop_cancelled()
        self._admit()
        dispatched = self._dispatch()
        ready, self._undelivered = self._undelivered, dispatched
        self._deliver(ready)
        if dispatched and any(job.request.constraint for job in dispatched[1].values()):
            self._undelivered = None
            self._deliver(dispatched)  # what may follow depends on this token
        return self._is_busy()

    def _drop_cancelled(self) -> None:
        with self._changed:
            dropped = [job for job in self._waiting if job.is_cancelled]
            self._waiting = deque(job for job in self._waiting if not job.is_cancelled)
        dropped += [job for job in self._jobs if job is not None and job.is_cancelled]
        for job in dropped:
            job.finish(CANCELLED)
        self._free()

    def _free(self) -> None:
        self._jobs = [None if job is None or job.finished else job for job in self._jobs]

    def _admit(self) -> None:
        while free := [slot for slot, holder in enumerate(self._jobs) if holder is None]:
            with self._changed:
                if not self._waiting:
                    return
                job = self._waiting.popleft()
                slot, source, job.read = self._prefixes.place(job.request.prompt, free)
                self._jobs[slot] = job
            job.number, request, job.timing.began = next(self._numbers), job.request, time.monotonic()
            self._cache = self._prefixes.copy(self._cache, slot, source, request.prompt, job.read)
            self.reused += job.read
            seen = np.zeros(self.decoder.vocab_size, bool)
            seen[request.prompt] = True
            settings = draws.Settings(request.key, **request.sampling)
            self._slots = draws.enter(self._slots, slot, settings, len(request.prompt), seen)

    def _dispatch(self) -> tuple[draws.Drawn, dict[int, Job]] | None:
        """Starts a step on the device -> what it will have drawn, and for which jobs."""
        active = {slot: job for slot, job in enumerate(self._jobs) if job is not None and job.is_generating}
        reads = [self._prefill() for _ in range(max(1, len(self._jobs) // SLOTS_A_CHUNK))]
        if active:
            self._logits, self._cache = self.decoder.decode(self._cache, self._slots.token, self._mask(active))
        for slot, logits in filter(None, reads):
            if (job := self._jobs[slot]).is_generating:
                self._logits = draws.with_row(self._logits, slot, logits)
                active[slot] = job
        if not active:
            return None
        allowed = self._all_allowed
        for slot, job in active.items():
            job.drawn += 1
            if job.request.constraint is not None:
                allowed = draws.with_row(allowed, slot, job.drawable())
        drawn, self._slots = draws.draw(self._slots, self._logits, allowed, self._mask(active))
        return drawn, active

    def _prefill(self) -> tuple[int, jax.Array] | None:
        """Reads the next chunk of the prompt that has waited longest -> its slot, and the logits after the chunk."""
        unread = [(slot, job) for slot, job in enumerate(self._jobs) if job and job.read < len(job.request.prompt)]
        if not unread:
            return None
        slot, job = min(unread, key=lambda pair: pair[1].number)
        chunk, prompt = self.decoder.chunk, job.request.prompt
        # A chunk that would end beyond the cache begins earlier instead, and reads some tokens again.
        start = min(job.read, self.length - chunk) if self.decoder.rewinds else job.read
        tokens = prompt[start : start + chunk].astype(np.int32)
        padded = np.pad(tokens, (0, chunk - len(tokens)))
        logits, self._cache = self.decoder.prefill(
            self._cache, np.int32(slot), padded, np.int32(start), np.int32(len(tokens))
        )
        job.read = start + len(tokens)
        self._prefixes.read(slot, prompt, start, len(tokens))
        return slot, logits

    def _mask(self, active: dict[int, Job]) -> np.ndarray:
        mask = np.zeros(len(self._jobs), bool)
        mask[list(active)] = True
        return mask

    def _deliver(self, ready: tuple[draws.Drawn, dict[int, Job]] | None) -> None:
        if ready is None:
            return
        drawn = jax.device_get(ready[0])
        for slot, job in ready[1].items():
            if not job.finished and not job.is_cancelled:
                token = Token(
                    int(drawn.token[slot]), float(drawn.logprob[slot]), drawn.top[slot], drawn.top_logprobs[slot]
                )
                job.accept(token)
        self._free()
