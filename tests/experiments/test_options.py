import argparse

import pytest

from experiments import options
from research.util.errors import UserError


def parse(*argv):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("name", nargs="?", default="main_job")
    return options.parse(argv, parser)


@pytest.mark.parametrize(
    ("argv", "name", "changes"),
    [
        (["tiny", "--config.seed=3"], "tiny", ["seed=3"]),
        (["--config.num_steps=3 epochs"], "main_job", ["num_steps=3 epochs"]),
        (["--config.num_steps", "3 epochs", "tiny"], "tiny", ["num_steps=3 epochs"]),
        (["--config.a.b", "-1", "--config.c=x=y"], "main_job", ["a.b=-1", "c=x=y"]),
        (["--config.a", "--config.b=1"], "main_job", ["a", "b=1"]),
        (["--config.a=1", "--workdir", "w", "tiny"], "tiny", ["a=1"]),
    ],
)
def test_overrides_are_split_from_other_words(argv, name, changes):
    args, found = parse(*argv)
    assert (args.name, found) == (name, changes)
    assert (args.workdir, args.resume, args.device) == ("w" if "w" in argv else None, "auto", None)


def test_an_unknown_word_is_a_usage_error(capsys):
    with pytest.raises(SystemExit, match="2"):
        parse("tiny", "--seed=3")
    assert "unknown argument '--seed=3' (config keys are set by" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["3", "a:b", "1:2:3"])
def test_a_wrong_profile_is_a_clear_error(text):
    with pytest.raises(UserError, match=f"--profile={text}: write A:B"):
        options.profile(text)
    assert options.profile("3:5") == (3, 5)
