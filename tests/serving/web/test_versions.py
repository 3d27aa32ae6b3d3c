"""Which version answers, and how one is retired. The versions are names here."""

import asyncio
import random

import pytest
from pydantic import ValidationError

from research.serving.web.problems import Problem
from research.serving.web.versions import Canary, Traffic, Versions


class Fake:
    closed = False

    def close(self):
        self.closed = True


@pytest.fixture
def versions():
    made = Versions("talk", Fake())
    assert [made.add(Fake()), made.add(Fake())] == [2, 3]
    return made


def test_a_request_names_a_number_latest_or_none(versions):
    assert [versions.number(which) for which in ("", "latest", "1", "3")] == [1, 1, 1, 3]
    versions.direct(Traffic(latest=3))
    assert [versions.number(which) for which in ("", "latest", "1")] == [3, 3, 1]
    for which in ("4", "0", "-1", "2.0", "\u00b2", "Latest", "1" * 5000, "1@2"):
        with pytest.raises(Problem) as caught:
            versions.number(which)
        assert (caught.value.status, caught.value.code) == (404, "version_not_found")


def test_the_canary_answers_its_share(versions):
    """Of 10,000 draws 500 are expected; the binomial's standard deviation is 21.8, and six of them are allowed."""
    versions.direct(Traffic(latest=1, canary=Canary(version=2, weight=0.05)))
    random.seed(0)
    drawn = [versions.number("") for _ in range(10_000)]
    assert set(drawn) == {1, 2} and abs(drawn.count(2) - 500) < 131
    assert {versions.number("latest") for _ in range(100)} == {1}


@pytest.mark.parametrize(("traffic", "status"), [
    ({"latest": 4}, 404),
    ({"latest": 1, "canary": {"version": 9, "weight": 0.5}}, 404),
    ({"latest": 2, "canary": {"version": 2, "weight": 0.5}}, 422),
])  # fmt: skip
def test_traffic_to_what_is_not_there_changes_nothing(versions, traffic, status):
    with pytest.raises(Problem) as caught:
        versions.direct(Traffic.model_validate(traffic))
    assert caught.value.status == status and versions.number("") == 1


@pytest.mark.parametrize("weight", [0, 1, -0.5, float("nan")])
def test_a_canary_has_a_share_and_not_all(weight):
    with pytest.raises(ValidationError):
        Canary(version=2, weight=weight)


def test_what_answers_is_not_removed(versions):
    versions.direct(Traffic(latest=1, canary=Canary(version=2, weight=0.5)))
    for number, status in ((1, 409), (2, 409), (7, 404)):
        with pytest.raises(Problem) as caught:
            asyncio.run(versions.remove(number, 1.0))
        assert caught.value.status == status
    assert list(versions.loaded) == [1, 2, 3]


def test_a_removed_version_is_closed_after_its_last_request(versions):
    version = versions[2]

    async def run():
        with versions.in_use(2), versions.in_use(2):
            removal = asyncio.create_task(versions.remove(2, 60.0))
            await asyncio.sleep(0.1)
            with pytest.raises(Problem, match="there is no version 2 of talk; loaded: 1, 3"):
                versions.number("2")
            assert not version.closed and versions.requests(2) == 2
        await removal

    asyncio.run(run())
    assert version.closed and versions.requests(2) == 0
    assert versions.add(Fake()) == 4  # never 2 again


def test_a_request_without_end_delays_a_removal_no_longer_than_allowed(versions):
    version = versions[2]
    with versions.in_use(2):
        asyncio.run(versions.remove(2, 0.05))
        assert version.closed
