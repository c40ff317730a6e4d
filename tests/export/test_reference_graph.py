import numpy as np
import pytest
import torch

from ssn_edge_export.reference_graph import NOT_JUDGED_LOGIT, ReferenceGraph
from ssn_edge_export.verify import NetJudge
from ssn_edge_runtime.decision import Judgement, ScoringRule, Thresholds, decide
from ssn_edge_runtime.errors import ScoreError
from ssn_edge_runtime.preprocess import Geometry


def run(net, pixels, threshold=0.0, region=None):
    region = np.ones(pixels.shape[:2], np.uint8) if region is None else region
    with torch.inference_mode():
        outputs = ReferenceGraph(net).eval()(
            torch.from_numpy(pixels[None]), torch.tensor([threshold]), torch.from_numpy(region)
        )
    return [output[0].numpy() for output in outputs]


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_the_graph_says_what_the_net_says(small_net, surface, size):
    net, pixels = small_net(size), surface(size, spots=2)
    judgement = NetJudge(net)(pixels, pixel_threshold=0.1)
    logit, map_max, anomaly_map, mask = run(net, pixels, 0.1)
    assert logit == pytest.approx(judgement.classification_logit, abs=1e-5)
    assert map_max == pytest.approx(judgement.map_max_logit, abs=1e-5)
    np.testing.assert_allclose(anomaly_map, judgement.anomaly_map, atol=1e-5)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, anomaly_map >= np.float32(0.1))


def test_a_red_and_a_blue_part_look_different(small_net):
    net = small_net()
    blue = np.zeros((64, 64, 3), np.uint8)
    blue[:, :, 0] = 200
    scale = (200 / 255 - net.mean[2]) / net.std[2]
    rest = [-net.mean[0] / net.std[0], -net.mean[1] / net.std[1]]
    image = torch.tensor([*rest, scale], dtype=torch.float32).reshape(1, 3, 1, 1)
    with torch.inference_mode():
        _, wanted = net(image.expand(1, 3, 64, 64))
    assert run(net, blue)[0] == pytest.approx(float(wanted), abs=1e-5)
    assert run(net, blue[:, :, ::-1].copy())[0] != pytest.approx(float(wanted), abs=1e-2)


def test_only_the_region_counts_for_maximum_and_mask(small_net, surface):
    net, pixels = small_net(), surface(spots=1)
    whole = run(net, pixels)
    region = np.ones((64, 64), np.uint8)
    region[np.unravel_index(whole[2].argmax(), whole[2].shape)[0]] = 0
    threshold = float(np.median(whole[2]))
    logit, map_max, anomaly_map, mask = run(net, pixels, threshold, region)
    assert logit == whole[0]
    np.testing.assert_array_equal(anomaly_map, whole[2])
    assert map_max == anomaly_map[region != 0].max() < whole[1]
    np.testing.assert_array_equal(mask, (anomaly_map >= np.float32(threshold)) & (region != 0))


def test_a_map_value_at_the_pixel_threshold_is_a_defect(small_net, surface):
    net, pixels = small_net(), surface()
    map_max = float(run(net, pixels)[1])
    assert run(net, pixels, map_max)[3].sum() >= 1
    assert run(net, pixels, float(np.nextafter(np.float32(map_max), np.float32(9))))[3].sum() == 0


def test_an_empty_region_is_not_passed(small_net, surface):
    pixels = surface()
    logit, map_max, anomaly_map, mask = run(small_net(), pixels, 0.0, np.zeros((64, 64), np.uint8))
    assert map_max == NOT_JUDGED_LOGIT
    assert np.isfinite(np.float16(map_max))
    assert mask.sum() == 0
    with pytest.raises(ScoreError, match="map maximum"):
        decide(
            Judgement(float(logit), float(map_max), anomaly_map, mask),
            thresholds=Thresholds(0, 0),
            rule=ScoringRule.MAP_MAX,
            geometry=Geometry((64, 64)),
            frame_size_hw=(64, 64),
        )
