"""Which trials hang: driven with a clock that tests turn, as the driver asks at every step."""

from __future__ import annotations

from tuner.execution.lost_workers import FIRST_FLOOR_S, FLOOR_S, LONGEST_STEP_S, HangWatch


class Search:
    """A watch whose driver looks every second."""

    def __init__(self, epochs: float = 20, head_epochs: int = 2) -> None:
        self.now = 0.0
        self.watch = HangWatch(epochs, head_epochs, clock=lambda: self.now)

    def hung_after(self, limit_s: float = 10_000) -> tuple[float, set[str]]:
        started = self.now
        while self.now < started + limit_s:
            self.now += 1
            if found := self.watch.hung():
                return self.now - started, set(found)
        return limit_s, set()


def test_a_trial_that_shows_nothing_hangs_after_so_many_median_epochs_of_the_search():
    search = Search(epochs=20)
    search.watch.remember([9.0, 10.0, 11.0, 500.0])
    search.watch.begin("a")
    search.watch.see("a", 3, 10.0)
    assert search.hung_after() == (201, {"a"})


def test_short_epochs_have_a_floor_and_the_first_one_of_each_phase_a_higher_one():
    search = Search(head_epochs=2)
    search.watch.begin("a")
    assert search.hung_after() == (FIRST_FLOOR_S + 1, {"a"}), "building, compiling, the first epoch"
    search.watch.see("a", 1, 0.1)
    assert search.hung_after() == (FLOOR_S + 1, {"a"})
    search.watch.see("a", 2, 0.1)
    assert search.hung_after() == (FIRST_FLOOR_S + 1, {"a"}), "the next phase compiles anew"


def test_a_trial_with_long_epochs_is_measured_by_its_own():
    search = Search(epochs=20)
    search.watch.remember([1.0] * 99)
    search.watch.begin("a")
    search.watch.see("a", 3, 50.0)
    assert search.hung_after() == (1001, {"a"})


def test_whatever_a_trial_shows_is_a_sign_of_life_and_one_that_is_over_does_not_hang():
    search = Search()
    search.watch.begin("a")
    for _ in range(5):
        assert search.hung_after(FIRST_FLOOR_S - 1)[1] == set()
        search.watch.see("a", 0, None)  # activations are being built
    search.watch.end("a")
    search.watch.see("a", 1, 1.0)  # too late: it is no longer watched
    assert search.hung_after()[1] == set()


def test_time_in_which_the_driver_did_not_look_is_not_held_against_trials():
    search = Search()
    search.watch.begin("a")
    search.now += 100_000  # the machine slept
    assert not search.watch.hung()
    assert search.hung_after()[0] == FIRST_FLOOR_S + 1 - LONGEST_STEP_S


def test_a_trial_that_gives_signs_within_an_epoch_does_not_hang_until_it_gives_no_more():
    now, asked, signs = [0.0], list[tuple[str, int]](), [True, True, False]

    def is_alive(trial: str, epoch: int) -> bool:
        asked.append((trial, epoch))
        return signs.pop(0)

    watch = HangWatch(20, 2, clock=lambda: now[0], is_alive=is_alive)
    watch.begin("a")
    watch.see("a", 5, 1.0)
    found: dict[str, float] = {}
    while not found:
        now[0] += 1
        found = watch.hung()
    assert (now[0], set(found)) == (3 * (FLOOR_S + 1), {"a"})
    assert asked == [("a", 5)] * 3, "it is asked only of what would hang otherwise"


def test_where_nobody_looks_nothing_hangs():
    watch = HangWatch(None, 2, clock=iter(range(10**6)).__next__)
    watch.begin("a")
    assert not any(watch.hung() for _ in range(10_000))
