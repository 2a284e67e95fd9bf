"""TensorBoard's file on a disk that becomes full."""

import threading
import warnings

from disk import fill, small_disk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kd.train.sinks.progress import Progress
from kd.train.sinks.tensorboard import TensorBoard


def steps(folder, name):
    return [event.step for event in EventAccumulator(str(folder)).Reload().Scalars(name)]


def test_a_full_disk_ends_the_curves_with_one_line_and_no_traceback(tmp_path, capfd):
    """A record may have been written in part; what is before it can be read."""
    threads = threading.active_count()
    with small_disk(tmp_path / "small", kilobytes=64) as disk:
        progress = Progress({"TensorBoard": TensorBoard(disk, 0, {"seed": 0})})
        assert threading.active_count() == threads  # an exception in a thread of its own could not be caught
        progress.scalars(1, {"loss": 1.0})
        fill(disk)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            for step in range(2, 300):
                progress.scalars(step, {"loss": 1.0})
            progress.close()
        assert [str(warning.message) for warning in warned] == [
            "TensorBoard: stopped (OSError: [Errno 28] No space left on device); training continues"
        ]
        written = steps(disk, "loss")
    assert written == list(range(1, len(written) + 1))
    assert 1 < len(written) < 299
    assert "Traceback" not in capfd.readouterr().err


def test_a_resumed_run_replaces_the_steps_after_the_one_from_which_it_resumes(tmp_path):
    first = TensorBoard(tmp_path, 0, {})
    for step in range(1, 6):
        first.scalars(step, {"loss": float(step)})
    first.close()
    again = TensorBoard(tmp_path, 3, {})
    again.scalars(4, {"loss": 40.0})
    again.close()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]
