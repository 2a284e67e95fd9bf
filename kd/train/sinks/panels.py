"""Pictures for TensorBoard and W&B: a confusion matrix, and validation images with labels and prediction."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from kd.data.loader import evaluation_batches
from kd.parts.assemble import Parts
from kd.pictures import RGB, as_rgb, colourise, confusion_picture
from kd.runs import SplitResult
from kd.scoring import evaluating, full_size, predict
from kd.types import resize_labels, size_of


def pictures(parts: Parts, result: SplitResult, prefix: str) -> Iterator[tuple[str, RGB]]:
    """The confusion matrix of a score, and `log.panels` images with labels and prediction, as `<prefix>/<name>`."""
    yield f"{prefix}/confusion", confusion_picture(result.confusion, result.classes)
    for name, picture in _panels(parts):
        yield f"{prefix}/{name}", picture


def _panels(parts: Parts) -> Iterator[tuple[str, RGB]]:
    """The first validation images: image, labels and prediction side by side, (H, 3·W, 3)."""
    with evaluating(parts.network):  # which may be an average, that no mode of the student reaches
        batches = evaluation_batches(parts.val, parts.recipe.scored_size, batch_size=1)
        for batch in islice(batches, parts.recipe.log.panels):
            logits = predict(parts.network, batch.images, parts.precision, parts.recipe.evaluate)[0]
            size = size_of(batch.images)
            labels, predictions = resize_labels(batch.labels[0][None], size)[0], full_size(logits, size).cpu()
            maps = [colourise(classes.numpy(), parts.val.colors) for classes in (labels, predictions)]
            yield batch.names[0], np.concatenate([as_rgb(batch.images[0].numpy()), *maps], axis=1)
