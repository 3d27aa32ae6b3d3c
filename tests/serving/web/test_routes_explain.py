"""Explanations over HTTP: what the falls of a probability are, which are in no record."""

import httpx2
import numpy as np
import pytest

from research.serving.monitor import store
from research.serving.monitor.observer import Observer
from research.serving.servable import from_experiment
from research.serving.web import app, served
from tests.serving.web.conftest import listening

PICTURE = np.random.default_rng(0).random((8, 8, 1)).astype(np.float32)


def asked(client, **changes):
    return client.post("/v1/explain", json={"model": "digits", "input": PICTURE.tolist(), **changes})


def probability(client, picture, name):
    """From /v1/predict, which gives the five most probable classes."""
    outputs = client.post("/v1/predict", json={"model": "digits", "inputs": [picture.tolist()]}).json()["outputs"]
    return outputs[0]["probabilities"][name]


def test_a_map_is_the_mean_fall_of_the_squares_that_cover_a_pixel(client):
    """The corner's pixel is in one square of two by two pixels; its neighbours below and beside are in two each."""
    found = asked(client).json()
    name, pixels = found["class"], np.array(found["pixels"])
    whole = probability(client, PICTURE, name)
    assert (found["model"], found["square"], pixels.shape) == ("digits@1", 2, (8, 8))
    assert found["probability"] == pytest.approx(whole, abs=1e-4)  # it gives four digits

    def fall(top, left):
        covered = PICTURE.copy()
        covered[top : top + 2, left : left + 2] = 0
        return whole - probability(client, covered, name)

    assert pixels[0, 0] == pytest.approx(fall(0, 0), abs=2e-4)
    assert pixels[0, 1] == pytest.approx((fall(0, 0) + fall(0, 1)) / 2, abs=2e-4)
    assert pixels[1, 1] == pytest.approx(np.mean([fall(i, j) for i in (0, 1) for j in (0, 1)]), abs=2e-4)


def test_a_class_may_be_named(client):
    other = next(name for name in "0123456789" if name != asked(client).json()["class"])
    found = asked(client, **{"class": other}).json()
    assert found["class"] == other and found["probability"] < asked(client).json()["probability"]


def test_a_black_picture_hangs_on_nothing(client):
    found = asked(client, input=np.zeros((8, 8, 1)).tolist()).json()
    assert not np.any(found["pixels"])


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"class": "ten"}, 422, "unknown_class"),
        ({"model": "talk"}, 400, "not_explained"),
        ({"input": "text"}, 422, "invalid_value"),
    ],
)
def test_what_cannot_be_explained_is_named(client, changes, status, code):
    answer = asked(client, **changes)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


def test_the_card_says_what_is_explained(client):
    cards = {card["id"]: card["explains"] for card in client.get("/v1/models").json()["data"]}
    assert cards == {"digits": True, "talk": False}


def test_the_monitor_sees_the_request_alone(experiments, tmp_path):
    models = served.of([from_experiment(*experiments["digits"], "digits", "digits@0")], served.Limits(max_batch=2))
    models.start()
    observer = Observer(tmp_path)
    with listening(app.create(models, served.Limits(), observer=observer)) as port:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            assert asked(client).status_code == 200
            assert client.post("/v1/predict", json={"model": "digits", "inputs": [PICTURE.tolist()]}).status_code == 200
    db = store.merged([tmp_path])
    assert sorted(route for (route,) in db.execute("select route from requests")) == ["/v1/explain", "/v1/predict"]
    assert db.execute("select count(*) from answers").fetchone() == (1,)
