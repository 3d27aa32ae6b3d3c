"""Our column of `almanac benchmark generate`: cached greedy generation by a GPT with its initial weights."""

import json
import time
import timeit
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from research.cluster import cpu, device
from research.core import mesh, state
from research.generation import decoding
from research.interop import huggingface
from research.run import reopen
from research.serving.decoder import from_model
from research.serving.engine import Engine
from research.serving.jobs import Finished, Request, Token
from tools.dev.bench import bench_serve
from tools.dev.bench.bench_ours import about_device
from tools.dev.bench.bench_steps import peak_rss


class OurGenerator:
    """Generates with the experiment's model, as `almanac sample` does, but without decoding to text."""

    def __init__(self, kind: str, folder: Path):
        from research.core import config

        cpu.tune()
        device.choose(None)
        device.use_compilation_cache()
        self._folder = folder
        case = json.loads((folder / "case.json").read_text())
        cfg = config.load(case["config"], [*case["overrides"], *case["changes"]])
        self._e = reopen.build(cfg.name, cfg)
        self._data, self._model = self._e.data, self._e.model
        self._devices = mesh.make_mesh(dict.fromkeys(self._e.cfg.mesh, 1), jax.devices()[:1])
        jax.set_mesh(self._devices)
        self._params = state.create(self._e.init_fn, self._e.tx, cfg.seed, self._devices).params

    def export(self, batch: int, prompt: int, length: int) -> dict:
        """Writes the weights for transformers to FOLDER/weights, and `batch` prompts from the validation text."""
        if prompt + length > self._model.max_length:
            length = self._model.max_length - prompt
        huggingface.write(self._folder / "weights", self._model, jax.device_get(self._params))
        starts = np.arange(batch) * 997 % (len(self._data.text.valid) - prompt)
        self._prompts = np.stack([self._data.text.valid[i : i + prompt] for i in starts]).astype(np.int32)
        np.save(self._folder / "prompts.npy", self._prompts)
        return {
            "parameters": state.count(self._params),
            "dtype": "float32",
            "prompt": prompt,
            "new": length,
            **about_device(),
        }

    def _generate(self, batch: int, length: int) -> np.ndarray:
        variables = {"params": self._params}
        key = jax.random.key(0)
        return np.asarray(
            decoding.generate(self._model, variables, self._prompts[:batch], key, length=length, temperature=0.0)
        )

    def tokens(self, batch: int, length: int) -> dict:
        """The new tokens of each row, and the seconds of the call, which compiles if it is the first."""
        start = time.perf_counter()
        rows = self._generate(batch, length)[:, self._prompts.shape[1] :]
        return {"tokens": rows.tolist(), "first_s": time.perf_counter() - start}

    def run(self, batch: int, length: int) -> dict:
        """The seconds of one call, and the peak memory in bytes."""
        start = time.perf_counter()
        self._generate(batch, length)
        return {"s": time.perf_counter() - start, "rss": peak_rss()}

    def serve(self, clients: int, requests: int) -> dict:
        """The mixed requests with so many clients and as many slots: `s` seconds for all, and of each its `tokens`, the seconds
        until the `first`, and (of all in one list) `between` one token and the next."""
        decoder = from_model(self._model, {"params": self._params})
        engine, waiting = Engine(decoder, slots=clients), list(enumerate(bench_serve.mixed(requests)))
        tokens: list[list[int]] = [[] for _ in waiting]
        times: list[list[float]] = [[] for _ in waiting]  # when it was asked, and when each token came

        def ask_next() -> None:
            if waiting:
                number, (prompt, length) = waiting.pop(0)
                request = Request(self._prompts[number, :prompt], length, jax.random.key(0), {"temperature": 0.0})
                times[number].append(time.perf_counter())
                engine.submit(request, partial(take, number))

        def take(number: int, event: Token | Finished) -> None:
            if isinstance(event, Token):
                tokens[number].append(event.id)
                times[number].append(time.perf_counter())
            else:
                ask_next()

        start = time.perf_counter()
        for _ in range(clients):
            ask_next()
        while engine.step():
            pass
        return {"tokens": tokens, "s": time.perf_counter() - start, **bench_serve.waits(times)}

    def bandwidth(self) -> dict:
        """How fast a sum reads 256 MiB, at best."""
        values = jnp.ones(2**26, jnp.float32)
        total = jax.jit(jnp.sum)
        seconds = min(timeit.repeat(lambda: total(values).block_until_ready(), number=1, repeat=20))
        return {"bytes_per_s": values.nbytes / seconds}
