"""A whole run against a loop of plain PyTorch that shares only the images, their order and the first weights."""

import copy
import itertools

import torch
from tiny import read, run, weights, write_recipes
from torch.nn import functional as F

from kd.data import RandomFlip
from kd.data.loader import order
from kd.data.splits.split import Split
from kd.parts.assemble import assemble

OVERRIDES = (
    "train.precision=fp32",
    "train.steps=12",
    "schedule={use: kd.schedules.poly, args: {power: 0.9}}",
    "optimizer.args={lr: 0.1, momentum: 0.9, weight_decay: 1e-2}",
    "distill.kl.loss.args={temperature: 4.0}",
    "distill.hint.weight=2",
)


def by_hand(student, adapter, teacher, images):
    """12 steps of 4 images: cross entropy + PixelKL at T = 4 + 2 · MSE after an adapter, SGD with a poly schedule."""
    parameters = [*student.parameters(), *adapter.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-2)
    positions = ((int(index), epoch) for epoch in range(4) for index in order(0, epoch, len(images)))
    for step in range(12):
        items = [images[position] for position in itertools.islice(positions, 4)]
        batch = torch.stack([item.image for item in items]) / 255
        labels = torch.stack([item.labels for item in items]).long()
        output = student(batch)
        with torch.no_grad():
            target = teacher(batch)
        full = F.interpolate(output.logits, labels.shape[1:], mode="bilinear", align_corners=False)
        kl = F.kl_div((output.logits / 4).log_softmax(1), (target.logits / 4).softmax(1), reduction="none").sum(1)
        mse = F.mse_loss(adapter(output.features["low"]), target.features["low"])
        optimizer.zero_grad()
        (F.cross_entropy(full, labels) + 16 * kl.mean() + 2 * mse).backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 12) ** 0.9
        optimizer.step()


def test_a_run_ends_where_a_plain_loop_ends(tmp_path):
    path = write_recipes(tmp_path)
    nets = tmp_path / "nets.py"
    nets.write_text(nets.read_text().replace("nn.Dropout(0.2)", "nn.Identity()"))  # the engine draws other numbers
    recipe = read(path, *OVERRIDES)
    (run_dir,), _ = run(recipe, tmp_path / "runs")
    parts = assemble(recipe, runs=tmp_path / "runs", seed=0)  # the state in which the run began
    student, adapter, teacher = (
        copy.deepcopy(module)
        for module in (parts.student.network, parts.student.adapters["hint"], parts.teacher.network.eval())
    )
    start = copy.deepcopy(student.state_dict())
    by_hand(student.train(), adapter, teacher, Split(parts.train, (32, 32), augment=[RandomFlip()]))
    trained = weights(run_dir)
    for name, value in student.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-5, atol=1e-6)
        assert not torch.equal(value, start[name]), name
