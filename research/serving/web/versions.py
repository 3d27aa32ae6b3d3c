"""The versions of one model: which of them answers a request, and a retirement that fails none."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from pydantic import Field

from research.serving.web import problems
from research.serving.web.openai_schema import Strict


class Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)


class Canary(Strict):
    """The version that answers the share `weight` of the requests that name none."""

    version: int
    weight: float = Field(gt=0, lt=1)


class Traffic(Strict):
    """Which versions answer the requests that name none: `latest`, and for some of them the canary."""

    latest: int
    canary: Canary | None = None

    @property
    def versions(self) -> list[int]:
        return [self.latest] if self.canary is None else [self.latest, self.canary.version]


class Versions(Generic[T]):
    """What is loaded of one model, by number from 1 on. No number is given twice. For one thread, the event loop's."""

    def __init__(self, name: str, first: T):
        self.name, self.newest = name, 1  # the highest number given so far
        self.loaded: dict[int, T] = {1: first}
        self.traffic = Traffic(latest=1)
        self._requests: Counter[int] = Counter()

    @property
    def latest(self) -> T:
        return self.loaded[self.traffic.latest]

    def __getitem__(self, number: int) -> T:
        if number not in self.loaded:
            loaded = ", ".join(map(str, self.loaded))
            message = f"there is no version {number} of {self.name}; loaded: {loaded}"
            raise problems.Problem(404, "version_not_found", message, "model")
        return self.loaded[number]

    def number(self, which: str) -> int:
        """What follows the "@" in a request -> a number: "" is drawn by weight, "latest" is, and so is a number itself.

        Raises `Problem` for anything else, and for a version that is not loaded.
        """
        if which == "":
            canary = self.traffic.canary
            return canary.version if canary and random.random() < canary.weight else self.traffic.latest
        if which == "latest":
            return self.traffic.latest
        if not (which.isascii() and which.isdigit() and len(which) < 10):
            message = f"a version of {self.name} is a number or latest"
            raise problems.Problem(404, "version_not_found", message, "model")
        self[int(which)]
        return int(which)

    @contextlib.contextmanager
    def in_use(self, number: int) -> Iterator[T]:
        """A version that is not closed meanwhile."""
        self._requests[number] += 1
        try:
            yield self.loaded[number]
        finally:
            self._requests[number] -= 1

    def requests(self, number: int) -> int:
        """That it is answering."""
        return self._requests[number]

    def add(self, version: T) -> int:
        """Takes a version that can answer, and returns its number. Until `direct`, only requests that name it reach it."""
        self.newest += 1
        self.loaded[self.newest] = version
        return self.newest

    def direct(self, traffic: Traffic) -> None:
        """Sends requests elsewhere from now on. Raises `Problem`, and changes nothing, if a version is not loaded."""
        for number in traffic.versions:
            self[number]
        if len(set(traffic.versions)) < len(traffic.versions):
            message = f"canary.version: {traffic.latest} is the latest, and can be no canary beside itself"
            raise problems.Problem(422, "invalid_value", message, "canary.version")
        self.traffic = traffic

    async def remove(self, number: int, seconds: float) -> None:
        """No new request finds it from now on; once those that it has are answered, or after `seconds`, it is closed.

        Raises `Problem` if it is not loaded, or answers requests that name no version.
        """
        if number in self.traffic.versions:
            message = f"version {number} of {self.name} answers requests; direct them to another first"
            raise problems.Problem(409, "version_in_service", message)
        version = self[number]
        del self.loaded[number]
        end = time.monotonic() + seconds
        while self._requests[number] and time.monotonic() < end:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(version.close)
