"""Keys of a config that are out of range, as one line."""

from typing import Any

from experiments.detection import backbone
from research.util.errors import UserError


def within(group: str, options: Any, **limits: tuple[float, float]) -> None:
    """Raises UserError if a field of `options`, the keys of a group of the config, is out of its limits."""
    for key, (low, high) in limits.items():
        if not low <= (value := getattr(options, key)) <= high:
            raise UserError(f"{group}.{key} = {value}: from {low} to {high}")


def levels(model: Any, shape: tuple[int, int, int]) -> None:
    """Raises UserError if the backbone lacks `model.levels` levels, or canvases of `shape` are no multiple of a stride."""
    stages = len(model.widths) - 1
    if not 1 <= model.levels <= stages:
        raise UserError(
            f"model.levels = {model.levels}: from 1 to {stages}, the stages of model.widths = {model.widths}"
        )
    largest = backbone.strides(model.widths, model.levels)[-1]
    if shape[0] % largest or shape[1] % largest:
        rows, columns, _ = shape
        raise UserError(
            f"data.size = {rows if rows == columns else (rows, columns)}: the largest stride is {largest} pixels; "
            "make it a multiple"
        )
