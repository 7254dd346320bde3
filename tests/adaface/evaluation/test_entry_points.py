from __future__ import annotations

import pytest

from adaface.evaluation.entry_points import find_entry_point, open_entry_point

HERE = "tests.adaface.evaluation.test_entry_points"
NOT_CALLABLE = 3


class Model:
    def __init__(self, side: int, *, name: str = "m"):
        self.said = (side, name)

    @classmethod
    def small(cls) -> Model:
        return cls(8)


def broken() -> None:
    raise TypeError("of its own")


def test_it_is_called_with_its_settings():
    assert open_entry_point(f"{HERE}:Model", {"side": 4, "name": "n"}).said == (4, "n")
    assert open_entry_point(f"{HERE}:Model.small", {}).said == (8, "m")
    assert find_entry_point(f"{HERE}:Model").__name__ == "Model"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("adaface.models", {}, r"written `package\.module:callable`"),
        (":f", {}, r"written `package\.module:callable`"),
        ("no_such_package.models:f", {}, "there is no module no_such_package here"),
        (f"{HERE}:nothing", {}, "has no nothing"),
        (f"{HERE}:NOT_CALLABLE", {}, "is a int, which cannot be called"),
        (f"{HERE}:Model", {"sides": 4}, "does not take these settings"),
        (f"{HERE}:Model", {}, "does not take these settings: missing a required argument: 'side'"),
    ],
)
def test_what_cannot_be_opened_says_why(name, settings, message):
    with pytest.raises(ValueError, match=message):
        open_entry_point(name, settings)


def test_an_error_inside_is_not_taken_for_wrong_settings():
    with pytest.raises(TypeError, match="of its own"):
        open_entry_point(f"{HERE}:broken", {})
