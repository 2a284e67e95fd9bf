"""The gate of exported files: the network itself passes, and what exporters get wrong does not."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from samples import Fixed
from torch import nn

from kd.deploy.export.gate import check_file
from kd.deploy.export.graph import Form, Graph
from kd.errors import RecipeError
from kd.networks.normalize import Normalize
from kd.types import Sample, SegmentationOutput

SIZE, CLASSES = (24, 32), ("a", "b", "c")


class Net(nn.Module):
    """Logits of three classes at stride 4, from RGB."""

    def __init__(self, classes=3):
        super().__init__()
        self.normalize, self.conv = Normalize(3), nn.Conv2d(3, classes, 3, 4, 1)

    def forward(self, images):
        return SegmentationOutput(self.conv(self.normalize(images)), {}, {})


def dataset(count=4, labels=None, classes=CLASSES):
    random = torch.Generator().manual_seed(1)
    images = (torch.randint(0, 256, (3, 40, 48), generator=random).to(torch.uint8) for _ in range(count))
    data = Fixed(*(Sample(image, labels, f"photo {index}") for index, image in enumerate(images)))
    data.class_names = classes
    return data


def computing(network, change=lambda output: output, before=lambda images: images, argmax=False):
    """A file that computes the network, with a fault in its images or in its output."""
    graph = Graph(network, argmax=argmax)

    def compute(images):
        with torch.no_grad():
            return change(graph(before(torch.from_numpy(images)))).numpy()

    return compute


def check(compute, network, *, dynamic=False, argmax=False, data=None, classes=CLASSES, **options):
    return check_file(compute, network, data or dataset(), classes, Form(3, SIZE, dynamic, argmax), **options)


@pytest.mark.parametrize("classes", [3, 1])  # a single logit stands for two classes
@pytest.mark.parametrize("argmax", [False, True])
def test_the_network_itself_passes_at_every_size_and_batch(classes, argmax):
    network = Net(classes).eval()
    names = CLASSES[: max(classes, 2)]
    data = dataset(classes=names)
    verdict = check(computing(network, argmax=argmax), network, dynamic=True, argmax=argmax, data=data, classes=names)
    assert (verdict.images, verdict.agreement, verdict.miou) == (4, 1, None)  # without labels
    assert verdict.difference is None if argmax else verdict.difference < 1e-5


def test_all_sizes_and_batches_are_computed():
    network, shapes = Net().eval(), set()
    check(computing(network, before=lambda images: shapes.add(tuple(images.shape)) or images), network, dynamic=True)
    assert shapes == {(n, 3, *size) for n in (1, 3) for size in (SIZE, (65, 65), (64, 64))}


def corners(network):
    """Logits resized with aligned corners."""

    def compute(images):
        with torch.no_grad():
            logits = network(torch.from_numpy(images)).logits
        return F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=True).numpy()

    return compute


def fixed_batch(network):
    """A file that takes one image."""

    def compute(images):
        if len(images) != 1:
            raise RuntimeError("Got invalid dimensions for input: images\n index: 0 Got: 3 Expected: 1")
        return computing(network)(images)

    return compute


FAULTS = {
    "aligned corners": corners,
    "BGR": lambda net: computing(net, before=lambda images: images.flip(1)),
    "no normalisation": lambda net: computing(
        net, before=lambda images: images * net.normalize.std + net.normalize.mean
    ),
    "0 to 255": lambda net: computing(net, before=lambda images: images * 255),
    "swapped classes": lambda net: computing(net, lambda logits: logits[:, [1, 0, 2]]),
    "half a pixel": lambda net: computing(net, lambda logits: (logits + logits.roll(1, -1)) / 2),
    "probabilities": lambda net: computing(net, lambda logits: logits.softmax(1)),
    "no resizing": lambda net: lambda images: net(torch.from_numpy(images)).logits.detach().numpy(),
    "other weights": lambda net: computing(Net().eval()),
    "not finite": lambda net: computing(net, lambda logits: logits.log()),
    "half a weight": lambda net: computing(half(net)),
}


def half(network):
    """The network with one of its classes' weights halved, as by a conversion that loses a scale."""
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.conv.weight[1] *= 0.5
    return other


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused(fault):
    network = Net().eval()
    with pytest.raises(RecipeError) as caught:
        check(FAULTS[fault](network), network)
    (line,) = caught.value.mistakes
    assert line.endswith("; nothing is written; kd predict uses the network itself")
    if fault != "no resizing":
        assert line.startswith("photo 0 at 32×24, batch 1: the file's logits differ from the network's by ")


@pytest.mark.parametrize("fault", ["BGR", "0 to 255", "swapped classes", "other weights"])
def test_a_fault_in_class_indices_is_refused(fault):
    network = Net().eval()
    logits = FAULTS[fault](network)
    with pytest.raises(RecipeError, match=r"^photo 0 at 32×24, batch 1: the file predicts the network's class at "):
        check(lambda images: logits(images).argmax(1), network, argmax=True)


def test_a_fixed_batch_is_found_where_any_batch_is_promised():
    network = Net().eval()
    check(fixed_batch(network), network)
    with pytest.raises(RecipeError) as caught:
        check(fixed_batch(network), network, dynamic=True)
    assert str(caught.value) == (
        "at 32×24, batch 3: the runtime cannot compute it: Got invalid dimensions for input: images index: 0 Got: 3 "
        "Expected: 1; nothing is written; leave --dynamic out"
    )


def test_image_and_class_of_the_fault_are_named():
    network = Net().eval()

    def third_image_wrong(images, count=[0]):  # noqa: B006  # counts the calls
        count[0] += 1
        logits = computing(network)(images)
        logits[:, 1] += count[0] == 3
        return logits

    with pytest.raises(RecipeError, match=r"^photo 2 at 32×24, batch 1: .* most for class b; nothing is written"):
        check(third_image_wrong, network)


def test_class_indices_agree_up_to_half_a_percent():
    network = Net().eval()

    def wrong(pixels):
        def compute(images):
            classes = computing(network, argmax=True)(images)
            flat = classes.reshape(-1)
            flat[:pixels] = (flat[:pixels] + 1) % 3
            return classes

        return compute

    allowed = int(0.005 * np.prod(SIZE))  # 3 of 768
    assert check(wrong(allowed), network, argmax=True).agreement == pytest.approx(1 - 3 / 768)
    with pytest.raises(RecipeError, match=r"at 99\.48 % of the pixels \(at least 99\.5 %\)"):
        check(wrong(allowed + 1), network, argmax=True)


def test_a_dropped_sigmoid_is_refused():
    """One logit z, cut at z > 0.5 in place of σ(z) > 0.5."""
    network, data = Net(1).eval(), dataset(classes=("a", "b"))
    graph = Graph(network, argmax=False)

    def compute(images):
        with torch.no_grad():
            return (graph(torch.from_numpy(images))[:, 1] > 0.5).long().numpy()

    with pytest.raises(RecipeError, match=r"^photo 0 at 32×24, batch 1: the file predicts the network's class at "):
        check(compute, network, argmax=True, data=data, classes=("a", "b"))


def labels():
    return torch.arange(40 * 48).view(40, 48).remainder(3).to(torch.uint8)


def test_labelled_images_are_scored_in_any_order_of_the_classes():
    network = Net().eval()
    verdict = check(computing(network), network, data=dataset(labels=labels()))
    assert verdict.miou == pytest.approx(verdict.of_network, abs=1e-3)  # resized twice, and once
    turned = torch.tensor([1, 2, 0], dtype=torch.uint8)[labels().long()]  # c, a, b: the labels of the same pixels
    other = check(computing(network), network, data=dataset(labels=turned, classes=("c", "a", "b")))
    assert other == verdict
    with pytest.raises(RecipeError, match="the data do not have"):
        check(computing(network), network, data=dataset(classes=("a", "b", "d")))


def test_a_lower_score_is_refused_though_few_pixels_differ():
    """Four pixels, all that a class has: 0.3 % of the pixels, but a ninth of the mIoU."""
    network, few = Net().eval(), torch.full((40, 48), 255, dtype=torch.uint8)
    data = dataset(count=1)
    image = data.samples[0].image
    with torch.no_grad():
        classes = Graph(network, argmax=True)(image[None] / 255)[0]
    places = (classes == 2).nonzero()[:6]
    few[classes < 2] = classes[classes < 2].to(torch.uint8)
    few[places[:, 0], places[:, 1]] = 2
    data.samples = (Sample(image, few, "photo 0"),)

    def compute(images):
        found = computing(network, argmax=True)(images)
        found[:, places[:4, 0], places[:4, 1]] = 0
        return found

    form = Form(3, (40, 48), argmax=True)
    with pytest.raises(RecipeError) as caught:
        check_file(compute, network, data, CLASSES, form)
    (line,) = caught.value.mistakes
    assert line.startswith("at 48×40, batch 1: the file scores ")
    assert " (at most 0.1 points apart), most apart for class c and in photo 0; nothing is written; " in line
    lost = float(line.split(" % (at most")[0].split()[-1]) - float(line.split("scores ")[1].split()[0])
    verdict = check_file(compute, network, data, CLASSES, form, max_drop=lost + 0.02)
    assert verdict.of_network - verdict.miou == pytest.approx(lost / 100, abs=1e-4)
    with pytest.raises(RecipeError, match=r"points less\), most apart for class c"):
        check_file(compute, network, data, CLASSES, form, max_drop=lost - 0.02)
