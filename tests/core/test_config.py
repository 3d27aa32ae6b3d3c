import importlib
import json
from pathlib import Path

import flax.linen as nn
import pytest

import research
from research.core import config
from research.core.config import TrackedConfig, check_read, track_reads
from research.nn.from_config import from_config
from research.util.errors import UserError
from research.util.nested import differences

BASE = dict(
    seed=0,
    flag=False,
    rate=0.1,
    name="adam",
    sizes=(3, 4),
    path=None,
    num_steps="10 epochs",
    log_every=20,
    save_every=50,
    data=dict(batch_size=128),
    optim=dict(warmup=0, boundaries=()),
)


@pytest.fixture
def cfg():
    return config.merge(BASE)


def told(cfg, text):
    config.override(cfg, *text.split("=", 1))
    return config.flatten(cfg)[text.split("=")[0]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("seed=7", 7),
        ("seed=1e3", 1000),
        ("seed=2_000", 2000),
        ("seed=-3", -3),
        ("seed=9007199254740993", 2**53 + 1),  # not the nearest float
        ("log_every=3 epochs", "3 epochs"),
        ("sizes=None", None),
        ("num_steps=500", 500),
        ("num_steps=1_000 examples", "1_000 examples"),
        ("rate=1", 1.0),
        ("rate=3e-4", 3e-4),
        ("flag=true", True),
        ("flag=0", False),
        ("name=3", "3"),
        ("sizes=(5,)", (5,)),
        ("sizes=[1, [2, 3]]", (1, (2, 3))),
        ("path=None", None),
        ("path=a/b", "a/b"),
        ("path=[8, 8]", (8, 8)),
        ("data.batch_size=64", 64),
        ('optim.boundaries=("150 epochs", "225 epochs")', ("150 epochs", "225 epochs")),
    ],
)
def test_an_override_has_the_type_of_what_it_replaces(cfg, text, value):
    assert told(cfg, text) == value
    assert type(told(cfg, text)) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sed=1", ["'sed'", "did you mean 'seed'?"]),
        ("data.batchsize=1", ["'data.batchsize'", "did you mean 'data.batch_size'?"]),
        ("seed=1.5", ["seed", "'1.5'", "wanted int"]),
        ("seed=True", ["seed", "wanted int"]),
        ("seed=inf", ["seed", "wanted int"]),
        ("seed=3 epochs", ["seed", "wanted int"]),
        ("num_steps=soon", ["num_steps", "wanted int, or a duration"]),
        ("rate=high", ["rate", "'high'", "wanted float"]),
        ("flag=2", ["flag", "wanted bool"]),
        ("sizes=3", ["sizes", "wanted tuple"]),
        ("data=3", ["'data' is a group", "data.batch_size"]),
    ],
)
def test_a_wrong_override_names_the_key_and_what_it_wants(cfg, text, words):
    with pytest.raises(UserError) as e:
        told(cfg, text)
    assert all(word in str(e.value) for word in words), e.value
    assert "\n" not in str(e.value)


def test_merge_takes_changes_of_known_keys_only():
    merged = config.merge(BASE, data=dict(batch_size=2), path=dict(a=1), rate=2)
    assert (merged.data.batch_size, merged.path.a, merged.optim.warmup) == (2, 1, 0)
    assert type(merged.rate) is float
    assert BASE["data"] == dict(batch_size=128)
    for wrong in (dict(data=dict(batch=2)), dict(dat=1), dict(data=3)):
        with pytest.raises(UserError, match="data"):
            config.merge(BASE, **wrong)


def test_durations_become_steps_after_overrides(cfg):
    for change in (
        "data.batch_size=100",
        "optim.warmup=250 examples",  # 2.5 steps, to the even one
        'optim.boundaries=("150 epochs", "225 epochs", 7)',
        "log_every=0.001 epochs",  # of 600 steps: at least one
        "save_every=0 steps",
        "path=3 steps",  # no duration by its name: text
    ):
        told(cfg, change)
    view = track_reads(cfg)
    assert view.data.batch_size == 100
    steps = view.in_steps(epoch=60_000, batch_size=100)
    assert steps.optim.boundaries == (90_000, 135_000, 7)
    assert (steps.num_steps, steps.optim.warmup, steps.log_every, steps.save_every) == (6_000, 2, 1, 0)
    assert steps.path == "3 steps"
    assert "data.batch_size" not in steps.unread()  # what was read before counts after


def test_what_nothing_read_is_found(cfg):
    view = track_reads(cfg)
    assert track_reads(view) is view
    assert "path" not in view.unread()  # None is the absence of a value
    dict(**view.optim)
    assert view.unread()[4:] == ["sizes", "num_steps", "log_every", "save_every", "data.batch_size"]
    view.mark("data", "sizes", "log_every", "save_every", "num")
    assert view.unread() == ["seed", "flag", "rate", "name", "num_steps"]
    assert (view["seed"], view.get("flag"), view.rate, view.name) == (0, False, 0.1, "adam")
    with pytest.raises(UserError, match="num_steps = '10 epochs' is read by nothing"):
        check_read(view)
    assert view.num_steps == "10 epochs"
    check_read(view)


def test_a_view_cannot_be_changed(cfg):
    view = track_reads(cfg)
    with pytest.raises(AttributeError):
        view.seed = 1
    with pytest.raises(AttributeError):
        view.data.batch_size = 1
    with pytest.raises(TypeError):
        view["seed"] = 1
    assert view.seed == 0
    with pytest.raises(UserError, match=r"'data.batchsize'; did you mean 'batch_size'"):
        _ = view.data.batchsize
    assert view.get("absent", 3) == view.get("path", 3) == 3


def test_a_config_json_gives_the_same_config(tmp_path):
    rules = (("kernel$", (None, "data")), ("embedding$", "fsdp"))
    cfg = config.merge(BASE, path=rules, sizes=((1, 2), ()))
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"config": config.plain(cfg)}))
    again = config.load(str(file))
    assert config.plain(again) == config.plain(cfg)
    assert (again.path, again.sizes) == (rules, ((1, 2), ()))
    changed = config.load(str(file), ["--config.seed=3", "data.batch_size=64"])
    as_saved = json.loads(file.read_text())["config"]  # tuples are lists there
    assert differences(as_saved, again) == []
    assert differences(as_saved, changed) == ["seed: 0 -> 3", "data.batch_size: 128 -> 64"]


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_an_unreadable_config_json_is_a_clear_error(tmp_path, text):
    file = tmp_path / "config.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match="cannot read the config .*config.json"):
        config.load(str(file))


@pytest.mark.parametrize("name", config.names())
def test_a_run_of_every_config_opens_again(tmp_path, name):
    cfg = config.load(name)
    (tmp_path / "config.json").write_text(json.dumps({"config": config.plain(cfg)}))
    assert config.plain(config.load(str(tmp_path / "config.json"))) == config.plain(cfg)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(seed="1"), "config key seed = '1': wanted int"),
        (dict(seed=None), "config key seed = None: wanted int"),
        (dict(num_steps=1.5), "config key num_steps = 1.5: wanted int, or a duration"),
        (dict(num_steps="3 weeks"), "config key num_steps = '3 weeks': wanted int, or a duration"),
        (dict(optim=[]), "config key optim = (): wanted a group"),
        (dict(dtype=32), "config key dtype = 32: wanted str"),
        (dict(deterministic=0), "config key deterministic = 0: wanted bool"),
    ],
)
def test_a_value_of_another_type_is_an_error_of_the_file(tmp_path, change, message):
    cfg = config.plain(config.load("language_model/tiny")) | change
    (tmp_path / "config.json").write_text(json.dumps({"config": cfg}))
    with pytest.raises(UserError) as error:
        config.load(str(tmp_path / "config.json"))
    assert str(error.value).startswith(f"cannot read the config {tmp_path / 'config.json'}: {message}")


def test_an_int_may_stand_for_a_float_and_none_for_a_text(tmp_path):
    cfg = config.plain(config.load("language_model/tiny"))
    cfg["optim"]["peak_lr"], cfg["best"]["metric"], cfg["num_steps"] = 1, None, "2 epochs"
    (tmp_path / "config.json").write_text(json.dumps({"config": cfg}))
    assert config.load(str(tmp_path / "config.json")).optim.peak_lr == 1


def test_every_config_is_listed_loads_and_is_locked():
    folder = Path(research.__file__).parents[1] / config.EXPERIMENTS
    families = {f.parent.name for f in folder.glob("*/train.py")}
    assert {name.split("/")[0] for name in config.names()} == families
    assert {f"{family}/tiny" for family in families} <= set(config.names())
    assert not [n for n in config.names() if n.endswith(("base", "__init__"))]
    for name in config.names():
        cfg = config.load(name, ["seed=5"])
        module = importlib.import_module(f"{config.EXPERIMENTS}.{name.replace('/', '.configs.')}")
        old = module.get_config()
        assert differences(old, cfg) == [f"seed: {old.seed} -> 5", f"name: None -> {name!r}"]
        with pytest.raises((AttributeError, KeyError)):
            cfg.new_key = 1


def test_an_unknown_experiment_names_the_nearest():
    with pytest.raises(UserError, match="'language_model/tny'; did you mean 'language_model/tiny'"):
        config.load("language_model/tny")
    with pytest.raises(UserError, match=r"'speech/x'; known: bert/.* and \d+ more \(see"):
        config.load("speech/x")


def test_construct_gives_a_module_its_group():
    group = TrackedConfig(dict(name="dense", features=3, use_bias=None))
    made = from_config(nn.Dense, group, precision="high")
    assert (made.features, made.use_bias, made.precision) == (3, True, "high")
    assert "features" not in group.unread()
    with pytest.raises(UserError, match="model.feature = 3 is no attribute of Dense; did you mean"):
        from_config(nn.Dense, dict(feature=3))


def test_another_model_has_its_own_keys_and_keeps_what_it_shares(capsys):
    cfg = config.load("language_model/tiny", ["model.forget_bias=1.0", "model.name=lstm"])  # the name counts first
    assert cfg.model.to_dict() == config.defaults("language_model", model={"name": "lstm"}).model.to_dict() | {
        "num_layers": 2, "width": 32, "forget_bias": 1.0,
    }  # fmt: skip
    assert capsys.readouterr().err == (
        "almanac: model.dropout = 0.1 is left out: lstm has no such key\n"
        "almanac: model.num_heads = 2 is left out: lstm has no such key\n"
    )
    with pytest.raises(UserError, match=r"model.name = 'lstn'; did you mean 'lstm'\?"):
        config.load("language_model/tiny", ["model.name=lstn"])
    with pytest.raises(UserError, match="there is no config key 'model.num_heads'"):
        config.load("language_model/tiny", ["model.name=lstm", "model.num_heads=4"])


def test_of_two_networks_what_they_share_stays(capsys):
    cfg = config.load("gan/tiny", ["model.name=dcgan"])
    assert cfg.model.to_dict() == {
        "name": "dcgan", "latent": 2, "pack": 2, "conditional": False, "generator": {"width": 32},
        "discriminator": {"width": 16, "norm": None},
    }  # fmt: skip
    assert capsys.readouterr().err.count("is left out: dcgan has no such key") == 3


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("language_model/tiny", "data.vocab_size", "300"),
        ("language_model/tiny", "data.min_count", "2"),
        ("language_model/tiny", "model.kv_heads", "2"),
        ("language_model/tiny", "data.text_key", "body"),
        ("language_model/tiny", "sample.top_k", "3"),
        ("language_model/tiny", "optim.b1", "0.5"),
        ("language_model/tiny", "save_seconds", "60"),
        ("language_model/tiny", "keep_every", "3 epochs"),
        ("language_model/tiny", "best.patience", "3 epochs"),
        ("language_model/tiny", "best.metric", "valid/accuracy"),
        ("language_model/tiny", "pretrained.weights", "runs/a"),
    ],
)
def test_an_optional_key_can_be_set_back_to_none(name, key, value):
    told = config.flatten(config.load(name, [f"{key}={value}"]))[key]
    assert told is not None
    assert config.flatten(config.load(name, [f"{key}={value}", f"{key}=None"]))[key] is None


def test_none_is_no_value_where_the_default_is_one():
    for key in ("num_steps", "data.length", "optim.peak_lr", "model.tied"):
        with pytest.raises(UserError, match=f"config key {key} = 'None': wanted"):
            config.load("language_model/tiny", [f"{key}=None"])
    assert config.load("language_model/tiny", ["data.source=None"]).data.source == "None"  # a name, as any other


@pytest.mark.parametrize("text", ["-" * 100_000, "{[]:1}", "(" * 10_000, "[" * 100_000, "{{}}", "1" * 100_000])
@pytest.mark.parametrize("key", ["seed", "optim.peak_lr", "best.metric", "optim.boundaries", "model.tied"])
def test_words_that_are_no_literal(key, text):
    """A word that Python cannot read is a text, or one short line."""
    try:
        assert config.load("language_model/tiny", [f"{key}={text}"])
    except UserError as e:
        assert str(e).startswith(f"config key {key} = ") and len(str(e)) < 250 and "\n" not in str(e)
    with pytest.raises(UserError) as e:
        config.load("language_model/tiny", [f"{text}=1"])
    assert len(str(e.value)) < 2000


def test_an_override_without_a_value_is_a_short_line():
    with pytest.raises(UserError, match="^override '-----.*-[.][.][.]: write --config.KEY=VALUE$") as e:
        config.load("language_model/tiny", ["-" * 100_000])
    assert len(str(e.value)) < 200


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2, float("nan"), "high"])
def test_a_rate_of_dropout_is_checked_in_every_model(rate):
    class Model(nn.Module):
        word_dropout: float = 0.0

    with pytest.raises(UserError, match=f"model.word_dropout = {rate!r}: from 0 to below 1"):
        from_config(Model, {"word_dropout": rate})
    assert from_config(Model, {"word_dropout": 0.5}).word_dropout == 0.5
