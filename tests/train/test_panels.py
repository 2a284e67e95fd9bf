import numpy as np
import torch
from tiny import read, write_recipes

from kd.parts.assemble import assemble
from kd.recipe import baseline_of
from kd.runs import SplitResult
from kd.train.panels import BLUE, confusion_picture, pictures


def cells(picture, classes):
    """The colour near each cell's corner, where no number stands."""
    count, size = len(classes), len(picture)
    cell = min(max(640 // count, 4), 40)
    margin = size - cell * count - 1
    corners = margin + cell * np.arange(count) + 1
    return picture[corners[:, None], corners].tolist()


def test_a_confusion_matrix_is_dark_where_the_share_of_a_label_is_large():
    classes = ["sky", "road", "never"]
    picture = confusion_picture([[3, 1, 0], [0, 8, 0], [0, 0, 0]], classes)
    white, blue, most = [255] * 3, list(BLUE), [round(255 + 0.75 * (one - 255)) for one in BLUE]
    found = cells(picture, classes)
    assert found[0][0] == most
    assert (found[0][2], found[1][1], found[1][0], found[2]) == (white, blue, white, [white] * 3)
    assert (picture.dtype, picture.shape[2]) == (np.uint8, 3)


def test_names_stand_beside_the_cells_where_there_is_room():
    for names in (["a very long name", "b"], ["a", "b"]):
        picture = confusion_picture(np.eye(2), names)
        margin = len(picture) - 2 * 40 - 1
        assert (picture[margin : margin + 40, :margin] < 128).any()  # beside its row
        assert (picture[:margin, margin : margin + 40] < 128).any()  # above its column
    many = confusion_picture(np.eye(150), [f"class {index}" for index in range(150)])
    assert len(many) == 150 * 4 + 8 + 1


def test_panels_show_image_labels_and_prediction_and_leave_the_run_as_it_was(tmp_path):
    recipe = baseline_of(read(write_recipes(tmp_path), "log.panels=2"))
    parts = assemble(recipe, runs=tmp_path, seed=0)
    parts.student.train()
    with torch.no_grad():
        parts.student.network.head.weight.zero_()
        parts.student.network.head.bias.copy_(torch.tensor([0.0, 1.0]))  # says "bright" everywhere
    before, state = torch.get_rng_state(), {name: one.clone() for name, one in parts.student.state_dict().items()}
    drawn = dict(pictures(parts, SplitResult(np.eye(2, dtype=np.int64), ["dark", "bright"], 1), "val"))
    assert list(drawn) == ["val/confusion", "val/stripes 0", "val/stripes 1"]
    sample = parts.val[0, 0]
    image, labels, seen = np.split(drawn["val/stripes 0"], 3, axis=1)
    assert np.array_equal(image, sample.image.permute(1, 2, 0))
    assert np.array_equal(labels, np.asarray(parts.val.colors, np.uint8)[sample.labels])
    assert (seen == parts.val.colors[1]).all()
    assert parts.student.training
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(state[name], value) for name, value in parts.student.state_dict().items())
