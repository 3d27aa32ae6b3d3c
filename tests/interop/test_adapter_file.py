"""Adapters as a file: merged with their base they are the run's parameters; with another base they are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from research.core import low_rank
from research.interop import adapter_file
from research.run.checkpoint import Checkpoints
from research.util.errors import UserError
from tools import cli


@pytest.fixture
def base():
    """The parameters before: two matrices, and a bias and a head that will train in full."""
    values = np.random.default_rng(0).standard_normal
    shapes = {"up": (6, 4), "down": (4, 6)}
    kernels = {name: {"kernel": jnp.float32(values(shape))} for name, shape in shapes.items()}
    return {**kernels, "up": {**kernels["up"], "bias": jnp.zeros(4)}, "head": {"kernel": jnp.zeros((6, 2))}}


@pytest.fixture
def run(tmp_path, base):
    """A folder of one checkpoint, whose adapters are of rank 1, and the parameters that it computes with."""
    adapters = {"lora_a": jnp.arange(6.0)[:, None], "lora_b": jnp.arange(4.0)[None]}
    trained = {"up": {"kernel": adapters, "bias": jnp.ones(4)}, "head": {"kernel": jnp.ones((6, 2))}}
    frozen = {"up": {"kernel": base["up"]["kernel"]}, "down": base["down"]}
    frozen = {"params": frozen, "scale": jnp.float32(0.1)}
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", 1)
    checkpoints.save(3, {"params": trained, "extra": {"frozen": frozen}}, {})
    checkpoints.wait()
    checkpoints.close()
    return tmp_path / "run", low_rank.merge(frozen, trained)


def test_adapters_and_their_base_are_the_run(run, base, tmp_path, capsys):
    folder, merged = run
    file = tmp_path / "adapters.safetensors"
    assert cli.main(["checkpoint", "adapters", str(folder), f"--out={file}"]) == 0
    assert "4 arrays, 26 parameters of" in capsys.readouterr().out  # 6 + 4, the bias 4, the head 12
    assert sorted(safetensors.numpy.load_file(file)) == [
        *("head/kernel", "up/bias", "up/kernel/lora_a", "up/kernel/lora_b")
    ]
    assert jax.tree.all(jax.tree.map(np.array_equal, adapter_file.apply(base, file), merged))
    expected = base["up"]["kernel"] + 0.1 * np.outer(np.arange(6), np.arange(4))
    np.testing.assert_allclose(adapter_file.apply(base, file)["up"]["kernel"], expected, rtol=1e-5)


def test_other_weights_and_other_files_are_refused(run, base, tmp_path):
    file, other = tmp_path / "adapters.safetensors", tmp_path / "other.safetensors"
    adapter_file.write(str(run[0]), file)
    changed = {**base, "down": {"kernel": base["down"]["kernel"].at[0, 0].add(1e-3)}}
    with pytest.raises(UserError, match="adapters to other weights: down/kernel differs"):
        adapter_file.apply(changed, file)
    with pytest.raises(UserError, match="adapters to other weights: down/kernel is not here"):
        adapter_file.apply({"up": base["up"]}, file)
    with pytest.raises(UserError, match="exists; give another name"):
        adapter_file.write(str(run[0]), file)
    for content in (b"", safetensors.numpy.save({"w": np.zeros(2)})):
        other.write_bytes(content)
        with pytest.raises(UserError, match="is no file of adapters, or damaged"):
            adapter_file.apply(base, other)


def test_a_run_without_adapters_is_told(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", 1)
    checkpoints.save(1, {"params": {"w": jnp.ones(2)}, "extra": {}}, {})
    checkpoints.wait()
    checkpoints.close()
    with pytest.raises(UserError, match="has no adapters: it was trained without lora.rank"):
        adapter_file.write(str(tmp_path / "run"), tmp_path / "adapters.safetensors")
