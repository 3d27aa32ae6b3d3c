"""Keys of a config that are out of range, as one line."""

from typing import Any

from experiments.detection import backbone
from research.util.errors import UserError, nearest


def within(group: str, options: Any, **limits: tuple[float, float]) -> None:
    """Raises UserError if a field of `options`, the keys of a group of the config, is out of its limits."""
    for key, (low, high) in limits.items():
        if not low <= (value := getattr(options, key)) <= high:
            raise UserError(f"{group}.{key} = {value}: from {low} to {high}")


def levels(model: Any, shape: tuple[int, int, int]) -> None:
    """Raises UserError if the backbone is unknown, lacks `model.levels` levels, or does not fit canvases of `shape`."""
    if model.backbone not in backbone.NAMES:
        raise UserError(f"model.backbone = {model.backbone!r}{nearest(model.backbone, backbone.NAMES)}")
    own, stages = model.backbone == "residual", backbone.count(model)
    if not 1 <= model.levels <= stages:
        of = f"model.widths = {model.widths}" if own else f"model.backbone = {model.backbone!r}"
        raise UserError(f"model.levels = {model.levels}: from 1 to {stages}, the stages of {of}")
    if not own and shape[2] != 3:
        raise UserError(f"model.backbone = {model.backbone!r} reads three channels: set data.channels=3")
    largest = backbone.strides(model)[-1]
    if shape[0] % largest or shape[1] % largest:
        rows, columns, _ = shape
        raise UserError(
            f"data.size = {rows if rows == columns else (rows, columns)}: the largest stride is {largest} pixels; "
            "make it a multiple"
        )
