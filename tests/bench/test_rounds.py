from kd.bench.rounds import WARM_UP, Ratio, medians_of, ratio_of, time_in_turn

SPEEDS = (1.0, 4.0, 2.0)  # of a machine that drifts


def test_jobs_are_timed_in_turn_and_the_warm_up_is_left_out():
    called = []
    clock = iter(range(100))
    jobs = {name: lambda name=name: called.append(name) for name in ("a", "b")}
    times = time_in_turn(jobs, 3, lambda job: (job(), next(clock))[1])
    assert called == ["a", "b"] * (WARM_UP + 3)
    assert times == {"a": [4, 6, 8], "b": [5, 7, 9]}
    assert medians_of(times) == {"a": 6, "b": 7}


def test_a_ratio_is_that_of_the_rounds():
    times = {name: [seconds * speed for speed in SPEEDS] for name, seconds in {"a": 12, "b": 4, "c": 8}.items()}
    assert ratio_of(times, "a", ["b", "c"]) == (1, 1, 1)
    times["b"] = [4, 4, 4]  # the ratio of the medians would be 24 / (4 + 16) = 1.2
    assert ratio_of(times, "a", ["b", "c"]) == (1.2, 1, 48 / 36)
    times["b"] = [0, 16, 8]  # one round is off: 12 / 8
    assert ratio_of(times, "a", ["b", "c"]) == (1, 1, 1.5)


def test_a_ratio_is_shown_with_its_lowest_and_highest_round():
    assert f"{Ratio(1.0149, 0.98, 1.1):.3f}" == "1.015 (0.980 to 1.100)"
