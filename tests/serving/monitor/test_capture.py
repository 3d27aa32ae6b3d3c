"""What is captured: a picture is the one that the model was asked, without metadata; texts have lost what is redacted."""

import base64
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from research.data.images.picture_codecs import PictureClass
from research.serving.monitor import capture
from research.serving.monitor.record import LARGEST, Record

TEXTS = SimpleNamespace(inputs={"tokens": (("b", "t"), "int32")}, classes=("calm", "angry"))


def servable(codec):
    return SimpleNamespace(name="m", version="1", predictor=SimpleNamespace(codec=codec))


def captured(codec, *values, status=200, outputs=None):
    """The captured rows of a request for predictions."""
    of, record = servable(codec), Record("id", contents=[], status=status)
    for value in values:
        record.keep(of, value)
        probabilities = {"probabilities": np.full((1, 2), 0.5)} if outputs is None else outputs
        record.rows(of, {"x": np.zeros((1, 1))}).outputs = probabilities
    return list(capture.of_record(record, 10.0, 20.0))


def base64_of(picture, form, **options):
    picture.save(file := io.BytesIO(), form, **options)
    return {"image": base64.b64encode(file.getvalue()).decode()}


def pixels(mode, size=(7, 5)):
    draw = np.random.default_rng(0)
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.fromarray(draw.integers(0, 256, (*size, bands), np.uint8).squeeze(), mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_stored_picture_is_to_the_model_what_was_sent(mode, channels):
    codec = PictureClass((4, 4, channels), ("cat", "dog"))
    sent = pixels(mode)
    (row,) = captured(codec, base64_of(sent, "PNG"))
    with Image.open(io.BytesIO(row.input)) as stored:
        assert (stored.format, stored.mode, stored.size) == ("PNG", "L" if channels == 1 else "RGB", sent.size)
        np.testing.assert_array_equal(codec.encode(stored)["image"], codec.encode(sent)["image"])
    assert (row.kind, row.size, row.time, row.until) == ("picture", len(row.input), 10.0, 20.0)


def test_metadata_are_not_stored():
    exif = Image.Exif()
    exif[0x010E] = "at home, 52.5 N"  # ImageDescription
    (row,) = captured(
        PictureClass((4, 4, 3), ("cat", "dog")), base64_of(pixels("RGB"), "JPEG", exif=exif, comment=b"at home")
    )
    assert b"at home" not in row.input
    assert Image.open(io.BytesIO(row.input)).info == {}


def test_numbers_are_a_picture_to_a_model_of_pictures():
    numbers = np.arange(16).reshape(4, 4) / 255
    (row,) = captured(PictureClass((4, 4, 1), ("cat", "dog")), numbers.tolist())
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row.input))), np.arange(16).reshape(4, 4))


def test_texts_are_redacted():
    rows = captured(TEXTS, "Write to ada@example.org", "  ", "half \ud800", ["a", "pair"], "all well")
    assert [(row.row, row.input) for row in rows] == [(0, b"Write to [e-mail]"), (4, b"all well")]


def test_conversations_are_redacted_on_both_sides():
    record = Record("id", contents=[], status=200)
    record.text(servable(None), 3)
    record.keep(servable(None), [{"role": "user", "content": "I am a@b.org"}], "Hello a@b.org, call 030 1234567")
    (row,) = capture.of_record(record, 0.0, 1.0)
    assert json.loads(row.input) == [{"role": "user", "content": "I am [e-mail]"}]
    assert (row.kind, row.output) == ("conversations", "Hello [e-mail], call [phone]")


def test_nothing_is_captured_of_other_models_failures_and_large_requests():
    assert captured(TEXTS, "hello", status=504) == []
    assert captured(TEXTS, "hello", outputs={"vector": np.zeros((1, 2))}) == []
    assert captured(TEXTS, "a" * (LARGEST // 2), "a" * (LARGEST // 2)) != []
    assert captured(TEXTS, "a" * (LARGEST // 2), "a" * (LARGEST // 2 + 1)) == []
    off = Record("id", status=200)
    off.keep(servable(TEXTS), "hello")
    assert off.contents is None
