"""Sizes and rectangles that a step draws."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from toy import CPU, batch

from kd.parts.mixing import AREA, Draws, Mix, draw_mix, mixed, scaled
from kd.types import Tapped


def test_a_rectangle_of_the_other_image_at_the_same_place_in_images_and_maps():
    mix = Mix(torch.tensor([1, 0]), torch.tensor([[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    whole = batch(3, 8)
    maps = torch.arange(3 * 2 * 4 * 4.0).view(3, 2, 4, 4)
    got, teacher = mixed(whole, Tapped(maps, {"aux": maps}, {"t": (maps, whole.images.float()), "u": maps}), mix)
    expected = whole.images.clone()
    expected[1, :, 2:6, 4:] = whole.images[2, :, 2:6, 4:]
    assert torch.equal(got.images, expected)
    assert torch.equal(teacher.at["t"][1], expected.float())
    small = maps.clone()
    small[1, :, 1:3, 2:] = maps[2, :, 1:3, 2:]
    for of in (teacher.logits, teacher.aux["aux"], teacher.at["t"][0], teacher.at["u"]):
        assert torch.equal(of, small)
    assert torch.equal(got.labels, whole.labels)


class Moves(TorchFunctionMode):
    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.Tensor.to, torch.Tensor.cuda)
        return func(*args, **(kwargs or {}))


def test_to_mix_copies_nothing_to_the_device():
    """A copy for every map would make each of them wait: a step moves what is drawn once."""
    whole, mix = batch(3, 8), draw_mix(0, 0, 0, 2, 1.0)
    with Moves() as moves:
        mixed(whole, Tapped(whole.images, {}, {"t": (whole.images, whole.images)}), mix)
    assert moves.count == 0


def test_padding_moves_with_the_images():
    whole = batch(2, 8)
    whole.inside[0, 4:] = False
    got, _ = mixed(
        whole, Tapped(whole.images, {}, {}), Mix(torch.tensor([1, 0]), torch.tensor([[0.5, 0.0, 1.0, 1.0]] * 2))
    )
    assert got.inside.float().mean((1, 2)).tolist() == [1.0, 0.5]


def test_rectangles_cover_half_of_an_image_and_lie_in_it_and_nobody_gets_its_own():
    for step in range(50):
        mix = draw_mix(3, step, 0, 5, 1.0)
        top, left, bottom, right = mix.boxes.T
        torch.testing.assert_close((bottom - top) * (right - left), torch.full((5,), AREA))
        assert bool((mix.boxes >= 0).all() and (mix.boxes <= 1 + 1e-6).all())
        assert sorted(mix.others.tolist()) == list(range(5))
        assert not bool((mix.others == torch.arange(5)).any())


def test_the_share_of_mixed_images_and_what_a_draw_depends_on():
    drawn = [draw_mix(0, step, 0, 8, 0.25) for step in range(200)]
    share = sum(int((mix.boxes.sum(1) > 0).sum()) for mix in drawn) / 1600
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 1600)
    draws = Draws(seed=7, cutmix=1.0, unlabelled=4, first=2)
    assert torch.equal(draws.mix(5, 1).boxes, draw_mix(7, 5, 3, 4, 1.0).boxes)
    assert Draws(seed=7, unlabelled=4).mix(5, 0) is None
    random = torch.get_rng_state()
    draws.mix(6, 0)
    assert torch.equal(torch.get_rng_state(), random)


def test_every_factor_is_drawn_as_often_and_by_the_step_alone():
    drawn = [Draws(seed=1, scales=(0.5, 1.0, 1.5)).scale(step) for step in range(600)]
    assert drawn == [Draws(seed=1, scales=(0.5, 1.0, 1.5), first=2).scale(step) for step in range(600)]
    assert all(abs(drawn.count(scale) / 600 - 1 / 3) < 0.08 for scale in (0.5, 1.0, 1.5))


@pytest.mark.parametrize(("scale", "size"), [(0.5, 8), (1.25, 20), (1.0, 16)])
def test_images_labels_and_padding_are_resized_together(scale, size):
    whole = batch(2, 16)
    got = scaled(whole, scale, CPU)
    images = F.interpolate(whole.images.float(), (size, size), mode="bilinear", antialias=scale < 1)
    assert got.images.dtype == torch.uint8
    assert (got.images.float() - images).abs().max() <= 0.51
    for maps in ("labels", "inside"):
        expected = F.interpolate(getattr(whole, maps)[:, None].float(), (size, size), mode="nearest-exact")[:, 0]
        assert torch.equal(getattr(got, maps).float(), expected)
    assert torch.equal(got.keys, whole.keys)
