"""Both losses against the written formulas, their gradients against plain autograd."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssn_edge.training.losses import classification_loss, focal_loss, segmentation_loss_terms

ALL = torch.ones(1, dtype=torch.bool)


def focal_by_hand(logit: float, anomalous: bool) -> float:
    probability = 1 / (1 + math.exp(-logit))
    of_truth = probability if anomalous else 1 - probability
    return -((1 - of_truth) ** 4) * math.log(of_truth)


def test_a_normal_map_at_minus_a_half_costs_no_l1_and_one_at_0_costs_a_half() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    at_margin = segmentation_loss_terms(torch.full((1, 4, 4), -0.5), mask, known=ALL)
    at_zero = segmentation_loss_terms(torch.zeros(1, 4, 4), mask, known=ALL)
    assert float(at_margin.l1_normal) == 0.0
    assert float(at_zero.l1_normal) == 0.5
    assert float(at_zero.l1_anomalous) == 0.0
    assert float(at_zero.focal) == pytest.approx(math.log(2) / 16)


def test_an_anomalous_map_is_pushed_above_a_half_and_no_further() -> None:
    mask = torch.ones(1, 2, 2, dtype=torch.bool)
    for logit, cost in [(-1.0, 1.5), (0.0, 0.5), (0.5, 0.0), (9.0, 0.0)]:
        terms = segmentation_loss_terms(torch.full((1, 2, 2), logit), mask, known=ALL)
        assert float(terms.l1_anomalous) == cost
        assert float(terms.l1_normal) == 0.0


def test_rare_defect_pixels_count_as_much_as_all_normal_ones() -> None:
    mask = torch.zeros(1, 10, 10, dtype=torch.bool)
    mask[0, 3, 3] = True
    terms = segmentation_loss_terms(torch.zeros(1, 10, 10), mask, known=ALL)
    assert float(terms.l1_anomalous) == float(terms.l1_normal) == 0.5


@given(st.floats(-20, 20), st.booleans())
def test_focal_loss_is_the_formula(logit: float, anomalous: bool) -> None:
    found = focal_loss(torch.tensor([logit], dtype=torch.float64), torch.tensor([anomalous]))
    assert float(found) == pytest.approx(focal_by_hand(logit, anomalous), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("logit", [-200.0, -30.0, 30.0, 200.0])
@pytest.mark.parametrize("anomalous", [False, True])
def test_focal_loss_and_its_gradient_stay_finite_far_out(logit: float, anomalous: bool) -> None:
    logits = torch.tensor([logit], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([anomalous])).sum()
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


maps = hnp.arrays(np.float64, (3, 4, 5), elements=st.floats(-3, 3))
masks = hnp.arrays(np.bool_, (3, 4, 5))
weights = hnp.arrays(np.float64, (3, 4, 5), elements=st.floats(0, 3))
flags = hnp.arrays(np.bool_, (3,))


@given(maps, masks, weights, flags)
@settings(deadline=None, max_examples=60)
def test_the_segmentation_loss_is_the_formula_pixel_by_pixel(
    logits: np.ndarray, mask: np.ndarray, weight: np.ndarray, known: np.ndarray
) -> None:
    normal, anomalous, focal = [], [], []
    for sample in np.flatnonzero(known):
        for row, column in np.ndindex(4, 5):
            place = (sample, row, column)
            if mask[place]:
                anomalous.append(weight[place] * max(0.0, 0.5 - logits[place]))
            else:
                normal.append(weight[place] * max(0.0, logits[place] + 0.5))
            focal.append(weight[place] * focal_by_hand(logits[place], bool(mask[place])))
    found = segmentation_loss_terms(
        torch.from_numpy(logits),
        torch.from_numpy(mask),
        known=torch.from_numpy(known),
        weight=torch.from_numpy(weight),
    )
    for term, values in [
        (found.l1_normal, normal),
        (found.l1_anomalous, anomalous),
        (found.focal, focal),
    ]:
        assert float(term) == pytest.approx(sum(values) / max(1, len(values)), abs=1e-9)
    assert float(found.total) == pytest.approx(
        float(found.l1_normal + found.l1_anomalous + found.focal), abs=1e-12
    )


@given(maps, masks, weights, flags)
@settings(deadline=None, max_examples=40)
def test_gradients_of_the_segmentation_loss_are_those_of_the_formula(
    logits: np.ndarray, mask: np.ndarray, weight: np.ndarray, known: np.ndarray
) -> None:
    ours = torch.from_numpy(logits).requires_grad_()
    plain = torch.from_numpy(logits.copy()).requires_grad_()
    m, w, g = (torch.from_numpy(each) for each in (mask, weight, known))
    segmentation_loss_terms(ours, m, known=g, weight=w).total.backward()

    zero = 0.0 * plain.sum()
    p_t = torch.where(m, torch.sigmoid(plain), 1 - torch.sigmoid(plain))
    total = zero
    if (g[:, None, None] & ~m).any():
        total = total + ((plain + 0.5).clamp(min=0) * w)[g][~m[g]].mean()
    if (g[:, None, None] & m).any():
        total = total + ((0.5 - plain).clamp(min=0) * w)[g][m[g]].mean()
    if g.any():
        total = total + (-((1 - p_t) ** 4) * p_t.log() * w)[g].mean()
    total.backward()
    assert ours.grad is not None
    assert plain.grad is not None
    # At a kink (a logit of exactly half) either side's gradient is right.
    smooth = (torch.from_numpy(logits).abs() - 0.5).abs() > 1e-9
    assert torch.allclose(ours.grad[smooth], plain.grad[smooth], atol=1e-9)


@pytest.mark.parametrize("shape", [(2, 3, 3), (0, 3, 3)])
def test_a_mean_over_nothing_is_0_with_a_finite_gradient(shape: tuple[int, ...]) -> None:
    logits = torch.zeros(shape, requires_grad=True)
    terms = segmentation_loss_terms(
        logits, torch.zeros(shape).bool(), known=torch.zeros(shape[0]).bool()
    )
    terms.total.backward()
    assert float(terms.total.detach()) == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_picture_of_unknown_pixel_truth_has_no_segmentation_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 6, 6, requires_grad=True)
    known = torch.tensor([True, False, True])
    mask = torch.rand(3, 6, 6) > 0.5
    segmentation_loss_terms(logits, mask, known=known).total.backward()
    assert logits.grad is not None
    assert not logits.grad[1].any()
    assert logits.grad[0].any()
    assert logits.grad[2].any()


def test_every_picture_has_a_classification_gradient() -> None:
    scores = torch.tensor([0.3, -0.2, 2.0], requires_grad=True)
    loss = classification_loss(scores, torch.tensor([True, False, True]))
    loss.backward()
    wanted = [focal_by_hand(0.3, True), focal_by_hand(-0.2, False), focal_by_hand(2.0, True)]
    assert float(loss.detach()) == pytest.approx(sum(wanted) / 3, rel=1e-5)
    assert scores.grad is not None
    assert scores.grad.all()
