import io
import re

import numpy as np
from PIL import Image

from research.explain import pages


def test_a_page_loads_nothing_and_means_what_it_shows():
    words, scores = ["<b>", "good", "$x$"], np.array([-0.5, 2.0, 0.0])
    picture = pages.bars(words, scores, "a & b")
    html = pages.page("T & t", ["said <i>"], words, scores, {"bars": picture})
    assert "&lt;b&gt;" in html and "<b>" not in html and "said &lt;i&gt;" in html and "T &amp; t" in html
    assert "<script" not in html and not re.search(r'(src|href)="(?!data:)', html)
    colours = re.findall(r"rgba\((\d+),\d+,(\d+),([\d.]+)\)", html)
    (red0, blue0, share0), (red1, blue1, share1), (*_, share2) = [tuple(map(float, c)) for c in colours]
    assert blue0 > red0 and red1 > blue1  # lowers: blue; raises: red
    assert share2 == 0 and np.isclose(share0 * 4, share1, atol=4e-3)


def test_no_score_at_all_is_a_page_too():
    assert "none" in pages.page("t", [], ["none"], np.zeros(1))


def test_heads_have_a_picture_each():
    rng = np.random.default_rng(0)
    png = pages.heads([f"w{i}" for i in range(50)], {f"layer {i}": rng.random((3, 50, 50)) for i in range(2)})
    with Image.open(io.BytesIO(png)) as image:
        assert image.size[0] > 1.2 * image.size[1] > 200
