"""A decoder as exported programs: the model's logits, for any number of slots and any length."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import research
from research.interop import stablehlo
from research.models.text.gpt import GPT
from research.models.text.recurrent_lm import LSTMLM
from research.serving import decoder_programs
from research.serving.decoder import from_model
from research.serving.engine import Engine
from research.serving.jobs import Finished, Request
from tools import cli

MODELS = {
    "gpt": GPT(vocab_size=11, max_length=16, num_layers=2, num_heads=2, width=8),
    "llama": GPT(vocab_size=11, max_length=16, num_layers=2, num_heads=2, width=8, positions="rotary", norm="rmsnorm"),
    "lstm": LSTMLM(vocab_size=11, width=8, num_layers=2),
}


def decoders(model):
    """The model's own decoder, and that of its programs as bytes."""
    variables = model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    blobs = {name: bytes(x.serialize()) for name, x in decoder_programs.export(model, variables).items()}
    programs = {name: jax.export.deserialize(bytearray(blob)) for name, blob in blobs.items()}
    return from_model(model, variables), decoder_programs.load(
        programs, stablehlo.flat(variables), decoder_programs.facts(model, variables)
    )


def replies(decoder, slots, length):
    """Greedy tokens for prompts that do not all fit into the slots at once."""
    engine, out = Engine(decoder, slots, length), {}
    for i, prompt in enumerate(([1, 2, 3], [4], [5, 6], [7, 8, 9, 10])):
        request = Request(np.array(prompt, np.int32), 5, jax.random.key(i), sampling={"temperature": 0})
        engine.submit(request, lambda event, i=i: out.setdefault(i, []).append(event))
    while engine.step():
        pass
    return {i: [event.id for event in events if not isinstance(event, Finished)] for i, events in out.items()}


@pytest.mark.parametrize("name", MODELS)
def test_programs_are_the_model(name):
    ours, exported = decoders(MODELS[name])
    assert (exported.vocab_size, exported.max_length, exported.chunk, exported.rewinds) == (
        ours.vocab_size, ours.max_length, ours.chunk, ours.rewinds
    )  # fmt: skip
    assert decoder_programs.difference(ours, exported, [1, 2, 3]) < 1e-6
    length = min(ours.max_length, 80)
    assert replies(exported, 3, length) == replies(ours, 3, length) == replies(exported, 1, length)


def test_facts_are_checked():
    for facts in ({}, {"max_length": 16}, {"max_length": "16", "rewinds": True}):
        with pytest.raises(ValueError, match="a decoder has max_length, rewinds"):
            decoder_programs.load({}, {}, facts)


def test_a_language_model_has_one_in_its_bundle(tmp_path):
    run = tmp_path / "run"
    assert cli.main(["train", "language_model/tiny", f"--workdir={run}", "--config.num_steps=4"]) == 0
    assert cli.main(["export", str(run)]) == 0
    bundle, opened = research.open_bundle(run / "bundle"), research.open_run(run)
    ours = from_model(opened.model, opened.variables)
    assert decoder_programs.difference(ours, bundle.decoder, [1, 2, 3]) < 1e-6
    assert bundle.manifest["decoder"]["largest_difference"] < 1e-6
