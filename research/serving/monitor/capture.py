"""From a record to what is captured of it: texts without what `redaction` finds, pictures as PNG, conversations."""

import io
import json
from collections.abc import Iterator

import numpy as np
from PIL import Image

from research.data import user_files
from research.data.images import labelled
from research.serving.monitor import signals
from research.serving.monitor.captured import CONVERSATIONS, PICTURE, TEXT, Captured
from research.serving.monitor.record import Content, Record
from research.serving.monitor.redaction import redact
from research.serving.web import values
from research.util.errors import UserError

LARGEST = 4 << 20  # bytes of a row


def of_record(record: Record, now: float, until: float) -> Iterator[Captured]:
    """The texts and pictures that classifiers were asked, and conversations with their answers. Of a failed request none."""
    if record.status != 200:
        return
    for row, (content, classes) in enumerate(zip(record.contents or (), record.answered(), strict=False)):
        try:
            kind, held, reply = _held(content, len(classes) > 0)
        except UserError:  # a picture to its model alone
            continue
        if kind and (size := len(held) + len(reply or "")) <= LARGEST:
            model, version = content.servable.name, content.servable.version
            yield Captured(record.id, row, now, until, size, model, version, kind, held, reply)


def _held(content: Content, classified: bool) -> tuple[str, bytes, str | None]:
    """(kind, input, output); the kind is empty for what is not captured."""
    if content.reply is not None:
        messages = [{**message, "content": redact(message["content"])} for message in content.value]
        return CONVERSATIONS, json.dumps(messages, ensure_ascii=False).encode(), redact(content.reply)
    value = values.from_json(content.value) if classified else None
    if isinstance(value, str) and value.strip() and user_files.whole_characters(value):
        return TEXT, redact(value).encode(), None
    if isinstance(value, Image.Image | np.ndarray) and (channels := _channels(content)):
        return PICTURE, png(value, channels), None
    return "", b"", None


def _channels(content: Content) -> int | None:
    """Those of a model's pictures, 1 or 3; None if it takes no such pictures."""
    codec = content.servable.predictor.codec
    of_pictures = [codec.inputs[name][0] for name, kind in signals.kinds(codec).items() if kind == "picture"]
    return of_pictures[0][3] if of_pictures and of_pictures[0][3] in (1, 3) else None


def png(value: Image.Image | np.ndarray, channels: int) -> bytes:
    """A PIL image, or f32[Y, X] or [Y, X, C] in 0..1 -> a PNG of 8 bits, grey or RGB, of the same size, without metadata."""
    size = value.size[::-1] if isinstance(value, Image.Image) else value.shape[:2]
    pixels = np.round(255 * labelled.to_image(value, (*size, channels))).astype(np.uint8)
    Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue()
