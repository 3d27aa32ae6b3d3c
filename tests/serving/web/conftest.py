"""A server on a socket of this machine, with models as training begins with them."""

import contextlib
import socket
import threading
import time
from types import SimpleNamespace

import httpx2
import jax
import pytest
import uvicorn

from research.core import config
from research.run import reopen
from research.serving.servable import from_experiment
from research.serving.web import app, connections, served

TEXT = [
    "data.source=pydoc_dialogues", "data.tokenizer=byte", "data.length=64", "data.batch_size=2", "data.packing=True",
    "model.num_layers=1", "model.width=16",
]  # fmt: skip


@pytest.fixture(scope="session")
def experiments():
    """Name -> (experiment, variables): "talk", a language model with a chat template, and "digits", a classifier of images."""
    built = {
        "talk": reopen.build("language_model/tiny", config.load("language_model/tiny", TEXT)),
        "digits": reopen.build("image_classification/tiny", config.load("image_classification/tiny", [])),
    }
    return {name: (e, jax.jit(e.init_fn)(jax.random.key(3))) for name, e in built.items()}


@contextlib.contextmanager
def listening(application, **options):
    """An application on a free port, as `almanac serve` runs it; the port."""
    running = uvicorn.Server(connections.config(application, **options))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.05)
        try:
            yield listener.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def server(experiments):
    """Its address and its models; bounds that a test can reach."""
    limits = served.Limits(
        slots=3, max_batch=2, queue=4, seconds=60.0, requests=16, body=200_000, drain=20.0, answers=0
    )
    models = served.of([from_experiment(*each, name, f"{name}@0") for name, each in experiments.items()], limits)
    models.start()
    with listening(app.create(models, limits)) as port:
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}", port=port, models=models, limits=limits)


@pytest.fixture(scope="session")
def client(server):
    with httpx2.Client(base_url=server.url, timeout=120) as made:
        yield made
