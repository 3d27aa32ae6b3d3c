"""Batch normalisation in frozen layers: by the running statistics, which stay as they are."""

import re
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import flax.linen as nn


def fixed(frozen: str) -> AbstractContextManager:
    """A context in which every `nn.BatchNorm` whose scale and bias match the regular expression `frozen` acts as in evaluation.

    For a frozen trunk, which would otherwise change with every batch: what is trained on top learns from what it will see.
    "" freezes none.
    """

    def call(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if isinstance(module, nn.BatchNorm) and context.method_name == "__call__":
            paths = ["/".join((*module.path, leaf)) for leaf in ("scale", "bias")]
            if all(re.search(frozen, path) for path in paths):
                # Past the module's own check: Flax takes the choice from its attribute or from the call, not from both.
                object.__setattr__(module, "use_running_average", True)
        return next_fun(*args, **kwargs)

    return nn.intercept_methods(call) if frozen else nullcontext()
