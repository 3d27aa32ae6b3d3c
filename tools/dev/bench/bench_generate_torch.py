"""Hugging Face's transformers in `almanac benchmark generate`. Does not import JAX."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from tools.dev.bench import bench_serve
from tools.dev.bench.bench_steps import peak_rss
from tools.dev.bench.bench_torch import device, use_tf32


class TorchGenerator:
    """`generate` with the exported weights and transformers' own attention and cache: greedy, without early end."""

    def __init__(self, kind: str, folder: Path):
        case = json.loads((folder / "case.json").read_text())
        torch.set_num_threads(case["threads"])
        use_tf32()
        self._device = device(case["platform"])
        model: Any = AutoModelForCausalLM.from_pretrained(folder / "weights")
        self._model = model.to(self._device).eval()
        self._model.generation_config.eos_token_id = None
        self._model.generation_config.pad_token_id = 0
        self._prompts = torch.from_numpy(np.load(folder / "prompts.npy")).long().to(self._device)

    @torch.inference_mode()
    def _generate(self, batch: int, length: int) -> torch.Tensor:
        prompts = self._prompts[:batch]
        out = self._model.generate(
            prompts, attention_mask=torch.ones_like(prompts), do_sample=False, max_new_tokens=length
        )
        return out[:, prompts.shape[1] :].cpu()  # waits for the device

    def tokens(self, batch: int, length: int) -> dict:
        """The new tokens of each row, and the seconds of the call."""
        start = time.perf_counter()
        rows = self._generate(batch, length)
        return {"tokens": rows.tolist(), "first_s": time.perf_counter() - start}

    def run(self, batch: int, length: int) -> dict:
        """The seconds of one call, and the peak memory in bytes."""
        start = time.perf_counter()
        self._generate(batch, length)
        return {"s": time.perf_counter() - start, "rss": peak_rss()}

    @torch.inference_mode()
    def serve(self, clients: int, requests: int) -> dict:
        """As ours, in batches of `clients`, padded on the left."""
        mixed, tokens, start = bench_serve.mixed(requests), list[list[int]](), time.perf_counter()
        times, asked = list[list[float]](), [start] * clients
        for first in range(0, requests, clients):
            batch = mixed[first : first + clients]
            longest, most = max(prompt for prompt, _ in batch), max(length for _, length in batch)
            inputs = torch.zeros(len(batch), longest, dtype=torch.long, device=self._device)
            mask = torch.zeros_like(inputs)
            for row, (prompt, _) in enumerate(batch):
                inputs[row, longest - prompt :] = self._prompts[first + row, :prompt]
                mask[row, longest - prompt :] = 1
            clock = _Clock()
            out = self._model.generate(
                inputs, attention_mask=mask, do_sample=False, max_new_tokens=most, stopping_criteria=[clock]
            )
            rows = out[:, longest:].tolist()
            tokens += [row[:length] for row, (_, length) in zip(rows, batch, strict=True)]
            came = [clock.times[:length] for _, length in batch]
            times += [[when, *each] for when, each in zip(asked, came, strict=False)]
            asked = [each[-1] for each in came]
        return {"tokens": tokens, "s": time.perf_counter() - start, **bench_serve.waits(times)}


class _Clock:
    """Notes when each token of a batch was there."""

    def __init__(self):
        self.times: list[float] = []

    def __call__(self, tokens: torch.Tensor, scores: Any) -> torch.Tensor:
        self.times.append(time.perf_counter())
        return torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
