"""Training metrics on their way from the device to the log: read an interval late, averaged over `log_every` steps."""

from collections.abc import Iterable, Iterator, Mapping

import jax

from research.cluster import device
from research.core import metrics
from research.core.guard import Guard


class TrainMetrics:
    """The metrics of steps whose interval has not been logged. Each is checked by `guard` when the host reads it.

    `every`: steps of an interval; 0: all. `rows`: (step, its metrics) already read, from a checkpoint.
    """

    def __init__(
        self, guard: Guard, every: int, num_steps: int, steps_per_launch: int, rows: Iterable[tuple[int, Mapping]] = ()
    ):
        self._guard, self._every, self._num_steps = guard, every, num_steps
        self._steps_per_launch = steps_per_launch
        self._in_flight: list[tuple[int, Mapping]] = []  # (last step of a launch, its metrics on the device)
        self.rows = [(step, row) for step, row in rows]

    def add(self, step: int, values: Mapping) -> None:
        """The metrics of the launch that ends at `step`; blocks while the host is too far ahead of the device."""
        self._in_flight.append((step, values))
        device.throttle(self._in_flight)

    def read(self, until: int | None = None) -> None:
        """Reads steps up to `until` (None: all), or to the first that is not finite."""
        while self._in_flight and (until is None or self._in_flight[0][0] <= until) and not self._guard.fault:
            last, values = self._in_flight.pop(0)
            for step, value in self._by_step(last, jax.device_get(values)):
                row = self._guard.row(step, value)
                if self._guard.policy == "rollback" or not self._guard.fault:
                    self.rows.append((step, row))
                if self._guard.fault:
                    break

    def _by_step(self, last: int, values: Mapping) -> list[tuple[int, Mapping]]:
        """A launch's metrics on the host -> (step, its metrics) of each of its steps."""
        if self._steps_per_launch == 1:
            return [(last, values)]
        count = len(jax.tree.leaves(values)[0])
        return [(last - count + 1 + i, jax.tree.map(lambda x, i=i: x[i], values)) for i in range(count)]

    def intervals(self) -> Iterator[tuple[int, dict[str, float]]]:
        """(last step, mean metrics) of each whole interval whose steps have been read. It is then forgotten."""
        every = self._every or self._num_steps
        while self.rows:
            end = min(-(-self.rows[0][0] // every) * every, self._num_steps)
            if self.rows[-1][0] < end:
                return
            inside = [row for step, row in self.rows if step <= end]
            self.rows = self.rows[len(inside) :]
            yield end, metrics.reduce(inside)

    def forget(self) -> None:
        """Drops what has not been read: its steps are not to count."""
        self._in_flight = []
