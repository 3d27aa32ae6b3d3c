"""Objects of a class: regions, a watershed from markers, and what an evaluation says of them."""

import types

import numpy as np
import pytest

from experiments.segmentation import train
from experiments.segmentation.configs import tiny
from experiments.segmentation.evaluation import Evaluation
from experiments.segmentation.objects import separate
from research.util.errors import UserError

BRIDGE = np.array(
    [[0.9, 0.95, 0.6, 0.55, 0.6, 0.95, 0.9, 0.2, 0.6, 0.6]]
)  # two joined by a bridge, and one that is faint


def test_a_watershed_parts_what_a_bridge_joins():
    inside = BRIDGE > 0.5
    assert separate(BRIDGE, inside).tolist() == [[1] * 7 + [0, 2, 2]]
    parted = separate(BRIDGE, inside, 0.8)[0]
    assert parted[[0, 1, 2]].tolist() == [1, 1, 1] and parted[[4, 5, 6]].tolist() == [2, 2, 2] and parted[3] in (1, 2)
    assert parted[7:].tolist() == [0, 0, 0]  # the ground, and a region without a marker
    np.testing.assert_array_equal(separate(BRIDGE, inside, 0.5), separate(BRIDGE, inside))


@pytest.mark.parametrize("markers, ap50, rq", [(None, 0, 0), (0.8, 1, 1)])
def test_an_evaluation_measures_objects(markers, ap50, rq):
    """The truth is both sides of the bridge; merged, the regions' IoU is 3/7. Void is not looked at."""
    label = np.array([[1, 1, 1, 0, 1, 1, 1, 0, 255, 255]])

    class Source:
        def gather(self, indices, epoch):
            return {"image": BRIDGE[None, ..., None], "label": label[None]}

        def __len__(self):
            return 1

    data = types.SimpleNamespace(classes=("a", "b"), evals={"valid": types.SimpleNamespace(source=Source())})
    seen = []
    evaluation = Evaluation(
        lambda variables, row: {"probabilities": np.stack([1 - BRIDGE, BRIDGE], -1)[None]}, data, "b", markers
    )
    state = types.SimpleNamespace(variables={})
    values = evaluation(state, "valid", None, lambda: seen.append(1)).values
    assert (values["ap50"], values["rq"], len(seen)) == (ap50, rq, 1)
    assert values["adapted_rand_error"] == pytest.approx(0 if markers else 1 - 2 * 18 / (36 + 18))


@pytest.mark.parametrize(
    "objects, markers, words",
    [("grund", None, "objects = 'grund': no class"), (None, 0.5, "markers = 0.5"), ("ground", 1.0, "markers = 1.0")],
)
def test_what_means_nothing_is_refused(objects, markers, words):
    cfg = tiny.get_config()
    cfg.objects, cfg.markers = objects, markers
    with pytest.raises(UserError, match=words):
        train.build(cfg)
