"""The page as a browser shows it, without a mouse where that can be; what it says is what the API answers."""

import base64
import contextlib
import math
import re
import shutil
import socket
import subprocess
import time

import httpx2
import numpy as np
import pytest
from PIL import Image

from research.serving.web import problems, routes_health, routes_page

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=800,900"
)
CONTROL, ARROW_RIGHT, ENTER = "\ue009", "\ue014", "\ue007"
in_chromium = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")


class Browser:
    """One session of chromedriver, by the W3C's WebDriver protocol."""

    def __init__(self, url):
        options = {
            "goog:chromeOptions": {"args": FLAGS.split(), "binary": CHROMIUM},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        self._http = httpx2.Client(base_url=url, timeout=120)
        made = self.call("/session", {"capabilities": {"alwaysMatch": options}})
        self._session = f"/session/{made['sessionId']}"

    def call(self, path, body):
        answer = self._http.post(path, json=body).json()["value"]
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def __getattr__(self, name):
        """`browser.url(url=...)`: the command of this name."""
        return lambda **body: self.call(f"{self._session}/{name}", body)

    def script(self, code, *args):
        return self.call(f"{self._session}/execute/sync", {"script": code, "args": args})

    def cdp(self, command, **parameters):
        return self.call(f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def errors(self):
        """The errors that the console has had since it was last read, breaches of the policy among them."""
        lines = self.call(f"{self._session}/se/log", {"type": "browser"})
        return [line["message"] for line in lines if line["level"] == "SEVERE"]

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.cdp("Page.captureScreenshot")["data"]))
        return Image.open(path)

    def until(self, code, *args, seconds=60):
        end = time.monotonic() + seconds
        while not (value := self.script(f"return {code}", *args)):
            assert time.monotonic() < end, (code, self.script("return document.body.innerText"), self.errors())
            time.sleep(0.05)
        return value

    def type(self, *keys):
        """Keys pressed one after another; of those together, such as CONTROL and ENTER, a tuple."""
        steps = []
        for key in keys:
            keys_together = key if isinstance(key, tuple) else (key,)
            steps += [{"type": "keyDown", "value": each} for each in keys_together]
            steps += [{"type": "keyUp", "value": each} for each in reversed(keys_together)]
        self.actions(actions=[{"type": "key", "id": "keys", "actions": steps}])

    def close(self):
        self._http.delete(self._session)
        self._http.close()


@pytest.fixture(scope="module")
def browser():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(f"{url}/status").json()["value"]["ready"]:
                break
        time.sleep(0.1)
    made = Browser(url)
    yield made
    made.close()
    process.terminate()
    process.wait()


@pytest.fixture
def page(browser, server):
    """(model) -> the browser, which shows this model; at the end nothing was blocked, failed or asked of another server."""

    def opened(model):
        browser.url(url=f"{server.url}/")
        browser.until("document.querySelector('#model').options.length > 0")
        browser.script(
            "const s = document.querySelector('#model'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))",
            model,
        )
        return browser

    yield opened
    asked = browser.script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert len(asked) > 3 and all(address.startswith(server.url) for address in asked)
    assert browser.errors() == []


def fill(browser, **fields):
    for name, value in fields.items():
        browser.script("document.querySelector(`[name=${arguments[0]}]`).value = arguments[1]", name, value)


def test_it_asks_for_nothing_from_elsewhere(client):
    policy = client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    names = [path.name for path in routes_page.FOLDER.iterdir()]
    assert len(names) > 4
    for name in names:
        answer = client.get(f"/page/{name}")
        assert answer.status_code == 200 and answer.headers["Content-Security-Policy"] == policy
        assert not re.search(r"//\w|<[^>]+ (style|on\w+)=|innerHTML", re.sub(r"// [A-Z].*", "", answer.text)), name
    for name in ("..%2froutes_page.py", "none.js", "routes_page.py"):
        assert client.get(f"/page/{name}").status_code == 404


@in_chromium
def test_a_text_streams_with_its_probabilities(page, client):
    asked = {"model": "talk", "prompt": "How are", "max_tokens": 9, "seed": 4, "temperature": 0.8, "logprobs": 5}
    choice = client.post("/v1/completions", json=asked).json()["choices"][0]
    shown = page("talk")
    shown.script("document.querySelector('[name=chat]').click(); document.querySelector('[name=prompt]').focus()")
    fill(shown, seed=4, max_tokens=9, temperature=0.8)
    shown.type(*"How are", (CONTROL, ENTER))
    shown.until("document.querySelector('#detail').textContent.startsWith('9 tokens')")
    assert shown.script("return document.querySelector('#answer p:last-child').textContent") == choice["text"]
    shown.script("document.querySelector('#answer').focus()")
    shown.type(ARROW_RIGHT)
    detail = shown.script("return document.querySelector('#detail').textContent")
    assert f"{100 * math.exp(choice['logprobs']['token_logprobs'][0]):.1f} %; most probable: " in detail
    assert "by talk@1" not in detail and detail.count("%") >= 6


@in_chromium
def test_a_conversation_goes_on_and_can_be_stopped(page, client):
    shown = page("talk")
    fill(shown, prompt="Hi", seed=2, max_tokens=6)
    shown.script("document.querySelector('#text').requestSubmit()")
    shown.until("document.querySelector('#detail').textContent.startsWith('6 tokens')")
    turns = "[...document.querySelectorAll('#answer p')].map(p => p.textContent)"
    first = shown.script(f"return {turns}")
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": first[1]},
        {"role": "user", "content": "So"},
    ]
    asked = {"model": "talk", "messages": messages, "max_tokens": 6, "seed": 2}
    expected = client.post("/v1/chat/completions", json=asked).json()["choices"][0]["message"]["content"]
    fill(shown, prompt="So")
    shown.script("document.querySelector('#text').requestSubmit()")
    shown.until(f"({turns}).length === 4 && document.querySelector('#stop').disabled")
    assert shown.script(f"return {turns}") == ["Hi", first[1], "So", expected]
    fill(shown, prompt="x" * 100)
    shown.script("document.querySelector('#text').requestSubmit()")
    shown.until("document.querySelector('#error').textContent.includes('context of 64')")
    assert shown.script("return document.querySelector('[name=prompt]').value") == "x" * 100
    assert "400" in shown.errors()[0]  # the browser's own line about the status


@in_chromium
def test_a_drawing_and_a_file_are_predicted(page, client, tmp_path):
    def expected(image):
        return client.post("/v1/predict", json={"model": "digits", "inputs": [{"image": image}]}).json()["outputs"][0]

    def bars(browser):
        return browser.until(
            "[...document.querySelectorAll('#picture .bar')].map(bar => bar.textContent).join('|')"
        ).split("|")

    def text(output):
        return [f"{label}{100 * p:.1f} %" for label, p in output["probabilities"].items()]

    shown = page("digits")
    x, y = shown.script(
        "const r = document.querySelector('canvas').getBoundingClientRect(); return [r.x, r.y].map(Math.round)"
    )
    moves = [{"type": "pointerMove", "x": x + dx, "y": y + dy} for dx, dy in ((140, 40), (150, 140), (140, 240))]
    down, up = {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}
    shown.actions(actions=[{"type": "pointer", "id": "mouse", "actions": [moves[0], down, *moves[1:], up]}])
    found = bars(shown)
    drawn = shown.script("return document.querySelector('canvas').toDataURL('image/png')")
    ink = shown.script("return document.querySelector('canvas').getContext('2d').getImageData(150, 140, 1, 1).data[0]")
    assert ink == 255 and sorted(found) == sorted(text(expected(drawn))) and len(found) == 5
    shown.script("document.querySelector('#explain').click()")
    shown.until("!document.querySelector('.map').hidden")
    explained = client.post("/v1/explain", json={"model": "digits", "input": {"image": drawn}}).json()
    said = shown.script("return document.querySelector('#picture .detail').textContent")
    assert (
        f"Red pixels speak for {explained['class']}" in said and f"its {100 * explained['probability']:.1f} %" in said
    )
    reds = shown.script(
        "const m = document.querySelector('.map'), d = m.getContext('2d').getImageData(0, 0, m.width, m.height).data;"
        "return [m.width, m.height, ...d.filter((v, i) => i % 4 === 3)]"
    )
    pixels = abs(np.array(explained["pixels"]))
    np.testing.assert_allclose(np.array(reds[2:]).reshape(8, 8), 255 * 0.75 * pixels / pixels.max(), atol=1.5)
    assert reds[:2] == [8, 8]
    shown.script("document.querySelector('#wipe').click()")
    assert shown.script("return document.querySelector('.map').hidden")
    Image.linear_gradient("L").resize((30, 60)).save(tmp_path / "a.png")
    blob = base64.b64encode((tmp_path / "a.png").read_bytes()).decode()
    shown.script(
        "const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0)), data = new DataTransfer();"
        "data.items.add(new File([bytes], 'a.png', { type: 'image/png' }));"
        "const drop = new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });"
        "document.querySelector('canvas').dispatchEvent(drop)",
        blob,
    )
    assert sorted(bars(shown)) == sorted(text(expected(blob)))
    assert [float(bar[1:-2]) for bar in found] == sorted((float(bar[1:-2]) for bar in found), reverse=True)
    assert shown.script("const c = document.querySelector('canvas'); return [c.width, c.height]") == [140, 280]


@in_chromium
def test_any_other_model_takes_a_value(page, client, monkeypatch):
    card = routes_health._card
    other = {"generates": False, "inputs": {"x": {"shape": ["b", 3], "dtype": "float32"}}}
    monkeypatch.setattr(routes_health, "_card", lambda *each: card(*each) | other)
    shown = page("digits")
    fill(shown, value=str([[[0.5]] * 8] * 8))
    shown.script("document.querySelector('#values').requestSubmit()")
    shown.until("document.querySelectorAll('#values .bar').length === 5")
    fill(shown, value="<b>no JSON</b>")
    shown.script("document.querySelector('#values').requestSubmit()")
    shown.until("document.querySelector('#error').textContent.length > 0")
    shown.errors()


@in_chromium
def test_a_server_that_wants_a_token_gets_one(page, monkeypatch):
    shown = page("digits")
    card = routes_health._card

    def refuse(*_):
        raise problems.Problem(401, "missing_token", "this server wants a token")

    monkeypatch.setattr(routes_health, "_card", refuse)
    shown.refresh()
    shown.until("!document.querySelector('#token').hidden")
    assert "wants a token" in shown.script("return document.querySelector('#error').textContent")
    monkeypatch.setattr(routes_health, "_card", card)
    shown.script(
        "const i = document.querySelector('#token input'); i.value = 'x'; i.dispatchEvent(new Event('change'))"
    )
    shown.until("document.querySelector('#model').options.length === 2")
    shown.errors()


@in_chromium
def test_it_is_light_or_dark_and_every_field_has_a_name(page, tmp_path):
    shown = page("talk")
    grounds = {}
    for scheme in ("light", "dark"):
        shown.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        grounds[scheme] = shown.screenshot(tmp_path / f"{scheme}.png").convert("L").getpixel((2, 400))
    assert grounds["light"] > 240 and grounds["dark"] < 40
    unnamed = "[...document.querySelectorAll('input, select, textarea')].filter(e => !e.labels.length).length"
    assert shown.script(f"return {unnamed}") == 0
