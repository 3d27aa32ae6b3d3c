"""Checkpoints come back bit for bit, onto any mesh, or not at all: damage is found."""

import errno
import gc
import json
import shutil
import warnings
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import CheckpointManager

from research.core import config, mesh, optim, state
from research.run import integrity
from research.run.checkpoint import DELETED, Checkpoints, NoWholeCheckpoint
from research.run.identity import Identity
from research.run.saved_state import to_disk
from research.util.errors import UserError

# Reads that Orbax leaves behind when another read fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

TX = optim.make(config.OPTIM, 10)
FSDP = [("kernel$", "fsdp")]
META = {"rows": [[7, {"loss": [0.1, 3.0]}]], "tracker": {"value": None, "stopped": False}}


def init(key):
    return {
        "params": {
            "dense": {"kernel": jax.random.normal(key, (64, 256)), "bias": jnp.full(32, 0.1)},
            "half": jax.random.normal(key, (8,)).astype(jnp.bfloat16),
        },
        "batch_stats": {"mean": jnp.arange(4.0), "seen": jnp.array(True)},
        "empty": {},
    }


def create(seed=0, devices=8, rules=FSDP, make=init):
    """A state with moments that are not 0."""
    axes = mesh.make_mesh({"data": devices}, jax.devices()[:devices])
    fresh = state.create(make, TX, seed, axes, rules)
    step = jax.jit(lambda s: s.replace(opt=TX.update(s.params, s.opt, s.params)[1], step=s.step + seed))
    return jax.device_put(step(fresh), jax.tree.map(lambda x: x.sharding, fresh))


def target(devices=8, rules=FSDP, make=init):
    axes = mesh.make_mesh({"data": devices}, jax.devices()[:devices])
    return state.abstract(make, TX, axes, rules)[0]


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture(autouse=True, scope="module")
def tidy():
    """Those reads are told of when they are collected: here, and not in the middle of another test."""
    yield
    gc.collect()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture(scope="module")
def states():
    return {step: create(step) for step in (1, 2)}


@pytest.fixture(scope="module")
def two(states, tmp_path_factory):
    """A folder with the steps 1 and 2, not to be changed."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    save(folder, states)
    return folder


@pytest.fixture
def copy(two, folder):
    shutil.copytree(two, folder)
    return folder


def save(folder, states, keep=3):
    checkpoints = Checkpoints(folder, keep)
    for step, saved in states.items():
        checkpoints.save(step, saved, META)
    checkpoints.wait()
    checkpoints.close()


def restore(folder, *args, keep=9, **how):
    """As the training that owns the folder; with keep=None as a reader."""
    checkpoints = Checkpoints(folder, keep)
    try:
        return checkpoints.restore(target(*args, **how))
    finally:
        checkpoints.close()


def steps(folder):
    return Checkpoints(folder).steps()


def test_round_trip_is_bitwise(states, two):
    found, meta = restore(two)
    same(found, states[2])
    assert found.model_state["empty"] == {} and found.ema == {}
    assert type(found.opt[0]).__name__ == "ScaleByAdamState"
    assert meta == META
    drawn = [jax.random.bits(s.key) for s in (found, states[2])]
    assert drawn[0] == drawn[1]


def test_a_given_step(states, two):
    checkpoints = Checkpoints(two)
    same(checkpoints.restore(target(), 1)[0], states[1])
    with pytest.raises(UserError, match="holds no checkpoint of step 3"):
        checkpoints.restore(target(), 3)


@pytest.mark.parametrize("devices, rules", [(4, FSDP), (8, ()), (1, ())], ids=["fsdp4", "dp8", "one"])
def test_onto_another_mesh(states, two, devices, rules):
    assert states[2].params["dense"]["kernel"].sharding.num_devices == 8
    found, _ = restore(two, devices, rules)
    kernel = found.params["dense"]["kernel"]
    assert kernel.sharding == target(devices, rules).params["dense"]["kernel"].sharding
    assert kernel.sharding.num_devices == devices
    same(found, states[2])


def test_from_one_device_to_eight(folder):
    saved = create(3, devices=1, rules=())
    save(folder, {3: saved})
    same(restore(folder)[0], saved)


def test_the_newest_are_kept(states, folder):
    save(folder, dict.fromkeys((2, 4, 6, 8), states[1]), keep=2)
    assert steps(folder) == [6, 8]
    assert sorted(p.name for p in folder.iterdir()) == ["6", "8"]


def test_meta_is_what_it_was_when_saved(states, folder):
    """Orbax writes it in a thread, while the run goes on."""
    meta, checkpoints = {"rows": [1]}, Checkpoints(folder, 3)
    checkpoints.save(1, states[1], meta)
    meta["rows"].append(2)
    checkpoints.wait()
    assert checkpoints.restore(target())[1] == {"rows": [1]}


def test_the_same_step_again(states, copy):
    save(copy, {2: states[1]})
    assert steps(copy) == [1, 2]
    same(restore(copy)[0], states[1])


def test_no_checkpoint(folder):
    assert steps(folder) == []
    with pytest.raises(UserError, match="holds no checkpoint"):
        restore(folder)
    assert not folder.exists()


# Damage


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def files(folder):
    """Those that a restore reads; the markers of a finished save are not among them."""
    markers = ("commit_success.txt", "_CHECKPOINT_METADATA")
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in markers)


def data_files(folder):
    return [p for p in files(folder) if p.parent.name == "d"]


def restored_step(folder, states):
    """What was restored, which must be what was saved, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found, meta = restore(folder)
    step = int(found.step)
    same(found, states[step])
    assert meta == META
    return step, [str(w.message) for w in caught if "is damaged" in str(w.message)]


def test_any_flipped_bit_in_array_data(states, two, folder):
    """Many hit bytes that nothing reads; the others are found, some by the checksums alone."""
    rng, messages = np.random.default_rng(0), []
    for path in data_files(two / "2"):
        for at in rng.integers(path.stat().st_size, size=4):
            shutil.copytree(two, folder)
            flip(folder / path.relative_to(two), at)
            step, warned = restored_step(folder, states)
            assert len(warned) == (step == 1)
            messages += warned
            shutil.rmtree(folder)
    assert any("the checksum of" in m for m in messages)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "emptied", "deleted"])
def test_damage_falls_back_and_is_set_aside(states, two, folder, damage):
    """Each file in turn. Whatever is restored is what was saved; what must be missed is named."""
    found = set()
    for path in files(two / "2"):
        shutil.copytree(two, folder)
        broken = folder / path.relative_to(two)
        size = broken.stat().st_size
        if damage == "flipped":
            flip(broken, size // 2)
        elif damage == "deleted":
            broken.unlink()
        else:
            broken.write_bytes(broken.read_bytes()[: size // 2 if damage == "truncated" else 0])
        step, warned = restored_step(folder, states)
        if step == 1:
            found.add(broken.relative_to(folder / "2").parts[:2][-1])
            assert f"{folder / '2'} is damaged: " in warned[0]
            assert warned[0].endswith("set aside as 2.damaged") and "\n" not in warned[0]
            assert sorted(p.name for p in folder.iterdir()) == ["1", "2.damaged"]
            kept = folder / "2.damaged" / broken.relative_to(folder / "2")
            assert len(files(folder / "2.damaged")) == len(files(two / "2")) - (damage == "deleted")
            assert kept.exists() == (damage != "deleted")
        else:
            assert not warned and steps(folder) == [1, 2]
        shutil.rmtree(folder)
    assert found >= {"metadata", "_METADATA", "manifest.ocdbt", "d"}


def test_a_flipped_digit_in_the_runs_own_data(states, copy):
    path = copy / "2" / "meta" / "metadata"
    path.write_text(path.read_text().replace("0.1", "0.3"))
    assert json.loads(path.read_text())["rows"][0][1]["loss"] == [0.3, 3.0]
    step, warned = restored_step(copy, states)
    assert step == 1 and "the checksum of its metadata differs" in warned[0]


def test_what_was_set_aside_does_not_stand_in_the_way(states, copy):
    """Not of listing, saving, keeping, or being damaged again."""
    for again in ("2.damaged", "2.damaged.2"):
        shutil.rmtree(copy / "2" / "state")
        assert restored_step(copy, states)[0] == 1
        assert (copy / again).is_dir()
        assert steps(copy) == [1]
        save(copy, {2: states[2]})
        same(restore(copy)[0], states[2])
    save(copy, {3: states[1]}, keep=1)
    assert sorted(p.name for p in copy.iterdir()) == ["2.damaged", "2.damaged.2", "3"]


def everything(folder):
    return {str(p.relative_to(folder)): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


def test_a_reader_falls_back_and_changes_nothing(states, copy):
    (copy / "2" / "checksums" / "metadata").write_text("")
    was = everything(copy)
    for _ in range(2):
        with pytest.warns(UserWarning, match="2 is damaged") as caught:
            same(restore(copy, keep=None)[0], states[1])
        assert "set aside" not in str(caught[0].message)
        assert everything(copy) == was


def test_all_damaged_for_a_reader(states, copy):
    for step in "12":
        (copy / step / "checksums" / "metadata").write_text("")
    was = everything(copy)
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(NoWholeCheckpoint) as error:
        restore(copy, keep=None)
    assert "see `almanac checkpoint verify`" in str(error.value) and everything(copy) == was


def test_a_step_that_its_training_deletes_while_it_is_read(states, copy, monkeypatch):
    """Neither damaged nor an error: the reader looks again, and finds the next one."""
    reader, trainer = Checkpoints(copy), Checkpoints(copy, 1)
    as_it_is, read = reader.restore_one, []

    def meanwhile(step, target):
        read.append(step)
        if len(read) == 1:
            trainer.save(3, states[2], META)
            trainer.wait()
        return as_it_is(step, target)

    monkeypatch.setattr(reader, "restore_one", meanwhile)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        same(reader.restore(target())[0], states[2])
    assert read == [2, 3] and sorted(p.name for p in copy.iterdir()) == ["3"]
    trainer.close()
    reader.close()


def test_a_deleted_step_vanishes_at_once(states, copy, monkeypatch):
    """Its folder is renamed before a file of it goes: what a kill leaves behind is no step, and the next start removes it."""
    trainer = Checkpoints(copy, 1)
    monkeypatch.setattr(trainer, "_remove_deleted", lambda: None)  # as if killed before
    trainer.save(3, states[2], META)
    trainer.close()
    assert sorted(p.name for p in copy.iterdir()) == [DELETED, "3"]
    assert sorted(p.name for p in (copy / DELETED).iterdir()) == ["1", "2"]
    assert steps(copy) == [3] and files(copy / DELETED / "2")
    save(copy, {4: states[1]})
    assert sorted(p.name for p in copy.iterdir()) == ["3", "4"]


def test_a_step_that_somebody_else_deletes_ends_no_training(states, copy):
    trainer = Checkpoints(copy, 2)
    assert trainer.steps() == [1, 2]
    shutil.rmtree(copy / "1")
    for step in (3, 4):
        trainer.save(step, states[2], META)
        trainer.wait()
    trainer.close()
    assert steps(copy) == [3, 4]


def test_one_that_is_being_written_is_told_from_none(folder):
    (folder / "7.orbax-checkpoint-tmp").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no checkpoint; 7 is being written, or was cut short"):
        restore(folder, keep=None)


def test_a_link_that_points_nowhere(states, copy):
    """Damage like another: nothing is read through links."""
    victim = data_files(copy / "2")[0]
    victim.unlink()
    victim.symlink_to("/nowhere/at/all")
    step, warned = restored_step(copy, states)
    assert step == 1 and "is a link" in warned[0]


# Checkpoints that are of another run


RUN = Identity("run", "config", frozenset({"config", "earlier"}))


def of(run, folder, states):
    checkpoints = Checkpoints(folder, 3, run=run)
    checkpoints.save(2, states[2], META)
    checkpoints.close()


def test_a_checkpoint_of_the_run_and_of_its_earlier_config(states, folder):
    for run in (RUN, RUN._replace(config="earlier")):
        of(run, folder, states)
        found, meta = Checkpoints(folder, run=RUN).restore(target())
        same(found, states[2])
        assert meta == META


@pytest.mark.parametrize(
    "run, why",
    [
        (RUN._replace(run="another"), "it was saved by another run (another; this one is run)"),
        (RUN._replace(config="another"), "it was saved with another config (another)"),
    ],
)
@pytest.mark.parametrize("keep", [3, None])
def test_a_checkpoint_of_another_run_is_refused(states, folder, run, why, keep):
    of(run, folder, states)
    was = everything(folder)
    with pytest.raises(UserError) as error:
        Checkpoints(folder, keep, run=RUN).restore(target())
    assert f"{folder / '2'} does not belong here: {why}" in str(error.value)
    assert everything(folder) == was


def test_a_step_under_another_number_is_refused(copy):
    (copy / "2").rename(copy / "7")
    with pytest.raises(UserError, match="7 does not belong here: it was saved as step 2, and its folder says 7"):
        restore(copy)
    assert steps(copy) == [1, 7]


def test_checksums_of_version_1_are_still_read(states, copy):
    """As the first edition wrote them: one number a leaf, no identity; and damage is still found."""
    path, meta = copy / "2" / "checksums" / "metadata", copy / "2" / "meta" / "metadata"
    sums = jax.tree_util.tree_leaves_with_path(jax.device_get(integrity.inspect(to_disk(states[2]), 1)[0]))
    checks = {"state": {mesh.path_name(p): int(x) for p, x in sums}, "meta": zlib.crc32(json.dumps(META).encode())}
    path.write_text(json.dumps(checks))
    meta.write_text(json.dumps(META))
    assert restored_step(copy, states) == (2, [])
    checks["state"]["params/half"] ^= 1
    path.write_text(json.dumps(checks))
    step, warned = restored_step(copy, states)
    assert step == 1 and "the checksum of params/half differs" in warned[0]


def test_checksums_of_a_later_version_are_no_damage(copy):
    path = copy / "2" / "checksums" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 3}))
    with pytest.raises(UserError, match="its checksums are of version 3; use a newer Almanac"):
        restore(copy)
    assert steps(copy) == [1, 2]


def test_all_damaged(states, copy):
    for step in "12":
        (copy / step / "checksums" / "metadata").write_text("")
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(UserError) as error:
        restore(copy)
    assert "no checkpoint is whole" in str(error.value) and "\n" not in str(error.value)
    assert sorted(p.name for p in copy.iterdir()) == ["1.damaged", "2.damaged"]


def test_too_large_for_the_device_is_no_damage(copy, monkeypatch):
    def exhausted(*args, **kwargs):
        raise ValueError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")

    monkeypatch.setattr(CheckpointManager, "restore", exhausted)
    with pytest.raises(UserError, match="cannot restore the checkpoint: .*Out of memory"):
        restore(copy)
    assert steps(copy) == [1, 2]


@pytest.mark.parametrize("leftover", ["3.orbax-checkpoint-tmp", "3.orbax-checkpoint-tmp-1700000000"])
def test_half_written_folder_is_never_picked_up(states, copy, leftover):
    """A reader leaves it alone (it may be a running training's), the next to save clears it away."""
    shutil.copytree(copy / "2", copy / leftover)
    assert steps(copy) == [1, 2]
    same(restore(copy, keep=None)[0], states[2])
    assert (copy / leftover).is_dir()
    save(copy, {3: states[1]})
    assert sorted(p.name for p in copy.iterdir()) == ["1", "2", "3"]


# A state that is another


def wider(key):
    made = init(key)
    made["params"]["dense"]["kernel"] = jnp.zeros((64, 320))
    return made


def halved(key):
    made = init(key)
    made["params"]["dense"]["bias"] = made["params"]["dense"]["bias"].astype(jnp.bfloat16)
    return made


def more(key):
    made = init(key)
    made["params"]["extra"] = jnp.zeros(2)
    return made


def fewer(key):
    made = init(key)
    del made["params"]["half"]
    return made


@pytest.mark.parametrize(
    "make, message",
    [
        (wider, "params/dense/kernel is float32[64, 256] there, float32[64, 320] here"),
        (halved, "params/dense/bias is float32[32] there, bfloat16[32] here"),
        (more, "params/extra is absent there, float32[2] here"),
        (fewer, "opt/0/mu/half is bfloat16[8] there, absent here"),
    ],
)
def test_another_model_is_told_by_its_leaf(two, make, message):
    with pytest.raises(UserError) as error:
        restore(two, make=make)
    assert str(error.value) == f"{two / '2'} does not fit this model: {message}"
    assert steps(two) == [1, 2]


# What must not be saved, or cannot


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_a_state_that_is_not_finite_is_refused(states, copy, value):
    params = states[2].params
    kernel = params["dense"]["kernel"].at[5, 5].set(value)
    broken = states[2].replace(params={**params, "dense": {**params["dense"], "kernel": kernel}})
    with pytest.raises(UserError, match="step 3: params/dense/kernel is not finite; nothing was saved"):
        save(copy, {3: broken})
    assert steps(copy) == [1, 2]
    same(restore(copy)[0], states[2])


@pytest.mark.parametrize(
    "problem, message",
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left to save under"),
        (ValueError("RESOURCE_EXHAUSTED: Error writing"), "no space left to save under"),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            "cannot write to .*: Permission denied",
        ),
    ],
)
@pytest.mark.parametrize("when", ["save", "check_for_errors"])
def test_no_space_left(states, copy, monkeypatch, problem, message, when):
    """At once, or where an earlier save that was written in a thread tells."""

    def fail(*args, **kwargs):
        raise problem

    monkeypatch.setattr(CheckpointManager, when, fail)
    with pytest.raises(UserError, match=message) as error:
        save(copy, {3: states[1]})
    assert "\n" not in str(error.value)


def test_a_file_in_the_place_of_the_folder(states, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to"):
        save(tmp_path / "file" / "checkpoints", {1: states[1]})


@pytest.mark.parametrize("small_disk", ["600k"], indirect=True)
def test_a_disk_that_fills_up(states, small_disk):
    """The state is written in a thread: it is the next save, or the wait, that tells."""
    checkpoints = Checkpoints(small_disk / "checkpoints", 9)
    with pytest.raises(UserError, match=f"no space left to save under {small_disk}") as error:
        for step in range(1, 9):
            checkpoints.save(step, states[1], META)
            checkpoints.wait()
    assert "\n" not in str(error.value) and step > 1
    checkpoints.close()
    same(restore(small_disk / "checkpoints")[0], states[1])
    assert max(steps(small_disk / "checkpoints")) == step - 1
