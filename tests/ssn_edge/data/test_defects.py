from __future__ import annotations

import numpy as np
import pytest

from ssn_edge.data.defects import DefectKind, add_defect
from ssn_edge.data.surfaces import Surface, draw_surface

SIZE_HW = (256, 256)
LEAST_PIXELS = {DefectKind.SCRATCH: 150, DefectKind.PIT: 60, DefectKind.STAIN: 300}


@pytest.mark.parametrize("surface", Surface)
@pytest.mark.parametrize("kind", DefectKind)
@pytest.mark.parametrize("seed", range(5))
def test_a_defect_changes_the_surface_inside_its_mask(
    surface: Surface, kind: DefectKind, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sound = draw_surface(surface, SIZE_HW, rng)
    damaged, mask = add_defect(sound, kind, rng)
    change = np.abs(damaged.reflectance - sound.reflectance)
    if change.ndim == 3:
        change = change.mean(axis=2)
    assert change[mask].mean() > 9
    assert np.median(change[~mask]) < 0.05
    assert change[mask].sum() > 0.85 * change.sum()


@pytest.mark.parametrize("surface", Surface)
@pytest.mark.parametrize("kind", DefectKind)
def test_a_defect_is_large_enough_to_learn_and_leaves_most_of_the_surface(
    surface: Surface, kind: DefectKind
) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        _, mask = add_defect(draw_surface(surface, SIZE_HW, rng), kind, rng)
        assert mask.sum() >= LEAST_PIXELS[kind]
        assert mask.mean() < 0.12


def test_the_sound_surface_stays_as_it_was() -> None:
    rng = np.random.default_rng(0)
    scene = draw_surface(Surface.WOVEN, SIZE_HW, rng)
    before = scene.reflectance.copy()
    add_defect(scene, DefectKind.STAIN, rng)
    assert np.array_equal(scene.reflectance, before)
