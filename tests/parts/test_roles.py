import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toy import Toy, batch

from kd.machine import Precision
from kd.parts.roles import Sight, Student, Teacher, restored, to_device

CPU = Precision(torch.device("cpu"), torch.float32, torch.contiguous_format)


def test_train_leaves_a_teacher_in_evaluation_mode():
    teacher = Teacher(Toy(4, batch_norm=True, dropout=0.5), {"t": "logits"})
    teacher.train()
    nn.Sequential(teacher).train()
    assert not any(module.training for module in teacher.modules())


def test_a_teacher_computes_no_gradient():
    teacher = Teacher(Toy(4), {"t": "low"})
    assert not teacher(to_device(batch(), CPU)).at["t"].requires_grad


def test_a_one_channel_head_becomes_two_classes():
    teacher = Teacher(Toy(4, classes=1), {"t": "logits"})
    out = teacher(to_device(batch(), CPU))
    assert out.logits.shape == (8, 2, 8, 8)
    assert torch.equal(out.at["t"], out.logits)
    assert not out.logits[:, 0].any()


@pytest.mark.parametrize("sight", [Sight(scale=1.5), Sight(size=(24, 24)), Sight(flip=True), Sight(None, 1.5, True)])
def test_a_teacher_sees_larger_and_mirrored_images(sight):
    network = Toy(4, batch_norm=True)
    addresses = {"t": ("low", "logits"), "u": "low"}
    given = to_device(batch(2), CPU)
    seen = Teacher(network, addresses, sight)(given)
    own = given._replace(teacher_images=sight.of(given))
    assert torch.equal(Teacher(network, addresses, sight)(own).logits, seen.logits)
    images = given.images if sight == Sight(flip=True) else F.interpolate(given.images, (24, 24), mode="bilinear")
    plain = Teacher(network, addresses)
    one, other = (plain(given._replace(images=of)) for of in (images, images.flip(3)))
    for find in (
        lambda out: out.logits,
        lambda out: out.at["t"][0],
        lambda out: out.at["t"][1],
        lambda out: out.at["u"],
    ):
        expected = (find(one) + find(other).flip(3)) / 2 if sight.flip else find(one)
        torch.testing.assert_close(find(seen), expected)


def test_the_student_adapts_its_maps_and_owns_all_that_trains():
    student = Student(Toy(4), {"t": "low"}, {"t": nn.Conv2d(4, 7, 1)}, {"t": nn.BatchNorm2d(2)})
    assert student(to_device(batch(), CPU).images).at["t"].shape == (8, 7, 8, 8)
    names = {name.split(".")[0] for name, _ in student.named_parameters()}
    assert names == {"network", "adapters", "losses"}


def test_several_taps_have_one_adapter_each():
    adapters = nn.ModuleList([nn.Conv2d(4, 2, 1), nn.Conv2d(5, 3, 1)])
    student = Student(Toy(4), {"t": ("low", "logits")}, {"t": adapters}, {})
    maps = student(to_device(batch(), CPU).images).at["t"]
    assert [single.shape[1] for single in maps] == [2, 3]


def test_weights_buffers_and_random_state_are_restored_and_new_buffers_left():
    module = nn.BatchNorm2d(2)
    module.register_buffer("memory", torch.zeros(3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    random_state = torch.get_rng_state()
    with restored(CPU, module):
        module(torch.randn(4, 2, 3, 3))
        module.weight.data += 1
        module.memory = torch.ones(3)  # replaced, not changed in place
        module.register_buffer("bank", torch.ones(2))
    after = module.state_dict()
    assert torch.equal(after.pop("bank"), torch.ones(2))
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), random_state)
