"""How a job gets its Ray where the machine is too busy to start one in Ray's own time."""

from __future__ import annotations

import logging

import pytest
import ray

from ray_jobs.runtime import ray_session

TOO_SLOW = "The current node timed out during startup. This could happen because some of the raylet failed to startup"


class Busy:
    """Stands in for `ray.init`, as no machine can be made busy for just so long: fails with each of `errors` first."""

    def __init__(self, *errors: Exception):
        self.errors, self.calls = [*errors], 0

    def __call__(self, **options: object) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)


def test_a_ray_that_did_not_come_up_is_started_once_more(alone, monkeypatch, caplog):
    busy = Busy(Exception(TOO_SLOW))
    monkeypatch.setattr(ray, "init", busy)
    with caplog.at_level(logging.WARNING), ray_session(None):
        assert busy.calls == 2
    assert "did not start within its 30 s" in caplog.text


@pytest.mark.parametrize(
    ("errors", "calls"), [([Exception(TOO_SLOW)] * 2, 2), ([ValueError("bad resources")], 1)], ids=["twice", "another"]
)
def test_what_does_not_pass_is_raised(alone, monkeypatch, errors, calls):
    busy = Busy(*errors)
    monkeypatch.setattr(ray, "init", busy)
    with pytest.raises(type(errors[0]), match=str(errors[0])[:20]), ray_session(None):
        pass
    assert busy.calls == calls
