"""Score a network on a split: training, comparison and `kd.evaluate` share this code."""

from kd.scoring.batchnorm import reestimate_batchnorm
from kd.scoring.counting import Counted, score, score_beside
from kd.scoring.measures import Measure, check_metrics, make_metrics
from kd.scoring.predicting import BAND, WHOLE, at_size, evaluating, full_size, predict, predict_sample

__all__ = [
    "BAND",
    "WHOLE",
    "Counted",
    "Measure",
    "at_size",
    "check_metrics",
    "evaluating",
    "full_size",
    "make_metrics",
    "predict",
    "predict_sample",
    "reestimate_batchnorm",
    "score",
    "score_beside",
]
