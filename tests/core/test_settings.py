"""Settings on their way through the compiled snapshot, from and to processes of other versions."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.settings import Limits, Settings, settings_from_json, settings_to_json
from relay.errors import InputRejected

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def test_they_come_back_as_they_were() -> None:
    """Every setting survives the way, lists as tuples, whole numbers of seconds as floats."""
    settings = Settings(
        listen=("127.0.0.1:22",), public="relay.example.com:22", workers=3, limits=Limits(login_grace=5.0)
    )
    assert settings_from_json(settings_to_json(settings)) == settings
    assert settings_from_json({"limits": {"login_grace": 5}}).limits.login_grace == 5.0


def test_what_is_missing_has_its_default_and_what_is_new_is_ignored() -> None:
    """A snapshot of an older or a newer version can be read."""
    assert settings_from_json({}) == Settings()
    assert settings_from_json({"invented": 1, "limits": {"later": 2}, "node": "b"}) == replace(Settings(), node="b")


@pytest.mark.parametrize(
    "value",
    [
        {"limits": 3},
        {"limits": {"login_grace": True}},
        {"limits": {"unauthenticated": "500"}},
        {"listen": "0.0.0.0:22"},
        {"listen": [1]},
        {"workers": True},
        {"node": None},
    ],
)
def test_a_wrong_type_is_refused(value: dict[str, Any]) -> None:
    """A broken snapshot is an error, never a guess."""
    with pytest.raises(InputRejected):
        settings_from_json(value)


@given(st.dictionaries(st.sampled_from([*settings_to_json(Settings()), "x"]), JSON, max_size=4))
def test_any_json_is_settings_or_an_error(value: dict[str, Any]) -> None:
    """Whatever stands in a snapshot gives settings of the right types or InputRejected."""
    try:
        settings = settings_from_json(value)
    except InputRejected:
        return
    assert isinstance(settings.workers, int)
    assert isinstance(settings.limits.login_grace, float)
    assert all(isinstance(address, str) for address in settings.listen)


@pytest.mark.parametrize(("workers", "cores", "expected"), [(0, 1, 1), (0, 64, 4), (0, None, 1), (7, 2, 7)])
def test_workers_are_the_cores_up_to_four_unless_set(workers: int, cores: int | None, expected: int) -> None:
    """An unknown number of cores is one."""
    assert Settings(workers=workers).processes(cores) == expected
