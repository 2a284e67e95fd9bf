import pytest
import torch

from kd.errors import RecipeError
from kd.parts.objective import Supervised, Term, connected
from kd.types import Batch, Tapped


class Spy:
    """A loss that keeps its arguments."""

    compares = "either"

    def __call__(self, student, teacher, labels):
        self.seen = (student, teacher, labels)
        return torch.zeros(())


def make_batch(labels, inside=None):
    labels = torch.as_tensor(labels)
    images = torch.zeros(len(labels), 3, *labels.shape[-2:])
    inside = torch.ones_like(labels, dtype=torch.bool) if inside is None else torch.as_tensor(inside)
    return Batch(images, labels, inside, torch.zeros(len(labels), 2, dtype=torch.int64))


def tapped(maps, logits=None):
    return Tapped(maps if logits is None else logits, {}, {"t": maps})


def call(labels, student, teacher, logits=None, inside=None, **options):
    spy = Spy()
    Term(spy, lambda step: 1.0, **options)("t", tapped(student), tapped(teacher, logits), make_batch(labels, inside))
    return spy.seen


def test_the_students_map_is_resized_to_the_teachers_size():
    student, teacher, labels = call(torch.zeros(1, 8, 8).long(), torch.rand(1, 2, 2, 2), torch.rand(1, 2, 4, 4))
    assert (student.shape, teacher.shape, labels.shape) == ((1, 2, 4, 4), (1, 2, 4, 4), (1, 4, 4))


def test_resize_teacher_does_the_reverse():
    seen = call(torch.zeros(1, 8, 8).long(), torch.rand(1, 2, 2, 2), torch.rand(1, 2, 4, 4), resized="teacher")
    assert [tuple(tensor.shape[-2:]) for tensor in seen] == [(2, 2)] * 3


def test_labels_are_read_under_the_centre_of_a_cell():
    labels = torch.arange(16).view(1, 4, 4)
    _, _, small = call(labels, torch.rand(1, 2, 2, 2), torch.rand(1, 2, 2, 2))
    assert small.tolist() == [[[5, 7], [13, 15]]]


def test_pixels_valid_leaves_the_labels():
    _, _, labels = call([[[0, 255]]], torch.rand(1, 2, 1, 2), torch.rand(1, 2, 1, 2))
    assert labels.tolist() == [[[0, 255]]]


def test_pixels_all_and_unlabelled_take_the_teachers_argmax_but_never_padding():
    logits = torch.tensor([[[[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]]])  # class 1 everywhere
    inside = [[[True, True, False]]]
    for pixels, expected in (("all", [0, 1, 255]), ("unlabelled", [255, 1, 255])):
        _, _, labels = call([[[0, 255, 255]]], logits, logits, logits, inside, pixels=pixels)
        assert labels.tolist() == [[expected]]


def test_several_taps_give_the_loss_tuples_at_each_pairs_size():
    pair = (torch.rand(1, 2, 2, 2), torch.rand(1, 3, 4, 4))
    student, teacher, labels = call(torch.zeros(1, 8, 8).long(), pair, pair)
    assert [single.shape[-1] for single in labels] == [2, 4]
    assert len(student) == len(teacher) == 2


def test_auxiliary_heads_are_added_with_their_weight():
    student = Tapped(torch.zeros(1, 2, 2, 2), {"a": torch.zeros(1, 2, 1, 1), "b": torch.zeros(1, 2, 1, 1)}, {})
    sizes = []

    def loss(logits, labels):
        sizes.append(tuple(logits.shape[-2:]))
        return torch.ones(())

    total = Supervised(loss, 0.4)(student, torch.zeros(1, 4, 4).long())
    assert total.item() == torch.tensor(1.8).item()
    assert sizes == [(4, 4)] * 3


def test_a_loss_that_returns_a_number_is_a_constant_whose_gradient_is_zero():
    maps = torch.full((1, 2, 2, 2), torch.nan, requires_grad=True)
    student, labels = Tapped(maps, {"a": maps}, {"t": maps}), torch.zeros(1, 2, 2).long()
    for constant in (2, 2.0, torch.tensor(2), torch.tensor(2.0)):
        supervised = Supervised(lambda logits, labels, value=constant: value, 0.5)(student, labels)
        term = Term(lambda *maps, value=constant: value, float)("t", student, student, make_batch(labels))
        for loss, value in ((supervised, 3), (term, 2)):
            assert (loss.item(), loss.dtype, loss.requires_grad) == (value, torch.float32, False)
            (gradient,) = torch.autograd.grad(connected(loss, [maps]), maps)
            assert gradient.eq(0).all()


@pytest.mark.parametrize(("value", "returned"), [(None, "NoneType"), (torch.zeros(2, 3), r"\(2, 3\)")])
def test_a_loss_that_returns_no_scalar_is_a_line_whenever_it_happens(value, returned):
    def loss(*maps):
        return value

    output = tapped(torch.zeros(1, 2, 2, 2))
    line = rf"loss \(test_step\.py:\d+\): a loss must return a scalar tensor, not {returned}; take its mean"
    with pytest.raises(RecipeError, match=line):
        Supervised(loss, 0.4)(output, torch.zeros(1, 4, 4).long())
    with pytest.raises(RecipeError, match=line):
        Term(loss, float)("t", output, output, make_batch(torch.zeros(1, 4, 4).long()))


def test_a_teacher_of_some_classes_is_compared_on_those_only():
    student_map, teacher_map = torch.rand(1, 4, 1, 5), torch.rand(1, 4, 1, 5)
    student, teacher, labels = call([[[0, 1, 2, 3, 255]]], student_map, teacher_map, known=(3, 1))
    assert torch.equal(student, student_map[:, [3, 1]])
    assert torch.equal(teacher, teacher_map[:, [3, 1]])
    assert labels.tolist() == [[[255, 1, 255, 0, 255]]]


def test_pixels_without_a_label_take_the_teachers_known_class():
    logits = torch.tensor([[[[0.0, 1.0]], [[5.0, 0.0]], [[0.0, 0.0]]]])  # class 1, then class 0
    _, _, labels = call([[[255, 255]]], logits, logits, logits, pixels="all", known=(0, 1))
    assert labels.tolist() == [[[1, 0]]]


class Mean:
    """The mean over the batch of each image's mean logit: every image changes it, labelled or not."""

    def __call__(self, logits, labels):
        assert len(logits) == len(labels)
        return logits.mean()


def test_supervision_and_valid_terms_see_the_labelled_images_only():
    labels, logits = torch.zeros(3, 2, 2).long(), torch.tensor([1.0, 2.0, 30.0]).view(3, 1, 1, 1).expand(3, 2, 2, 2)
    labels[2] = 255
    output = Tapped(logits, {"aux": 10 * logits}, {})
    assert Supervised(Mean(), 0.5, labelled=2)(output, labels).item() == 1.5 + 0.5 * 15
    for pixels, images in (("valid", 2), ("all", 3), ("unlabelled", 3)):
        seen = call(labels, logits, 2 * logits, pixels=pixels, labelled=2)
        assert [len(maps) for maps in seen] == [images] * 3
        assert seen[0][:, 0, 0, 0].tolist() == [1, 2, 30][:images]
