"""JSON <-> the values that a predictor's `encode` takes and its `decode` returns."""

import base64
import binascii
import io
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from research.core.experiment import Codec, Predictor
from research.util.errors import UserError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
MOST_PIXELS = 4096 * 4096


def from_json(value: Any) -> Any:
    """A JSON value -> what `encode` takes.

    A text is itself; {"image": base64} is a PIL image; numbers, nested lists of them and null, which is a missing number, are an
    array f32; another list is a tuple of values, such as (question, passage). Raises UserError for anything else.

    >>> from_json(["Who?", "I."]), from_json([[1, 2], [3, 4]]).shape
    (('Who?', 'I.'), (2, 2))
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        if value.keys() != {"image"} or not isinstance(value["image"], str):
            raise UserError('an object is {"image": base64} and nothing else')
        return image(value["image"])
    if isinstance(value, list) and value and not _is_numeric(value[0]):
        return tuple(from_json(part) for part in value)
    if not _is_numeric(value):
        raise UserError("want a text, an image, numbers, or a list of these")
    try:
        return np.array(value, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise UserError("the numbers are no array: want nested lists of equal lengths, of numbers alone") from None


def image(text: str) -> Image.Image:
    """Base64, with or without "data:image/...;base64," before it -> a decoded picture.

    Raises UserError if it is none, is of a format not in FORMATS, or has more than MOST_PIXELS, which is seen before any is
    decoded.
    """
    try:
        blob = base64.b64decode(text.split(",", 1)[1] if text.startswith("data:") else text, validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(blob), formats=FORMATS)
            if picture.width * picture.height > MOST_PIXELS:
                raise UserError(f"the image has {picture.width} x {picture.height} pixels, more than {MOST_PIXELS:,}")
            picture.load()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UserError(f"the image has more than {MOST_PIXELS:,} pixels") from None
    except (binascii.Error, IndexError):
        raise UserError("the image is no base64") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError):
        raise UserError(f"the image cannot be decoded: want a whole {', '.join(FORMATS)}") from None
    return picture


def encode(predictor: Predictor, value: Any) -> Mapping[str, np.ndarray]:
    """A JSON value -> a predictor's inputs. Raises UserError if it is not what the model takes."""
    return encode_raw(predictor.codec, from_json(value))


def encode_raw(codec: Codec, raw: Any) -> Mapping[str, np.ndarray]:
    """A value of `from_json`'s -> a model's inputs. Raises UserError if it is not what the model takes."""
    try:
        return codec.encode(raw)
    except UserError:
        raise
    except Exception:  # `encode` takes a value of the model's own kind, and need not expect another
        kind = {str: "a text", tuple: "a list of values", np.ndarray: "numbers"}.get(type(raw), "an image")
        raise UserError(f"{kind} is not what this model takes; its inputs are {', '.join(codec.inputs)}") from None


def to_json(value: Any) -> Any:
    """What `decode` returns -> JSON's values; a number that is not finite is null."""
    if isinstance(value, Mapping):
        return {str(key): to_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return to_json(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_numeric(value: Any) -> bool:
    if isinstance(value, list):
        return not value or _is_numeric(value[0])
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
