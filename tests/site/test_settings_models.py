"""Models of relay.yaml."""

import pytest
from pydantic import ValidationError

from relay.core.settings import Settings
from relay.site.settings_models import SettingsFile


def test_an_empty_file_has_the_default_settings() -> None:
    """The models and the plain values agree about every default."""
    assert SettingsFile().settings() == Settings()


def test_every_setting_arrives_in_the_plain_value() -> None:
    """A value of each section is found in the settings that processes read."""
    settings = SettingsFile.model_validate(
        {
            "listen": "127.0.0.1:2222",
            "workers": 3,
            "limits": {"dials": 7},
            "penalties": {"exempt": ["203.0.113.0/24"]},
            "audit": {"keep": "30d", "max_size": "none"},
        }
    ).settings()
    assert (settings.listen, settings.workers, settings.limits.dials) == (("127.0.0.1:2222",), 3, 7)
    assert settings.penalties.exempt == ("203.0.113.0/24",)
    assert (settings.audit_keep_days, settings.audit_max_size) == (30, 0)


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("audit", "keep", 400, "400 has no unit"),
        ("audit", "keep", "36h", "is not a number of whole days"),
        ("audit", "max_size", "63MiB", "out of bounds"),
        ("limits", "rsa_bits", 2047, "out of bounds"),
        ("limits", "rate_per_person", "1B", "out of bounds"),
    ],
)
def test_an_unsafe_value_is_refused(section: str, key: str, value: object, words: str) -> None:
    """Each refusal says why."""
    with pytest.raises(ValidationError, match=words):
        SettingsFile.model_validate({section: {key: value}})


@pytest.mark.parametrize("value", [0, 65, "many", True])
def test_workers_are_auto_or_1_to_64(value: object) -> None:
    """Values just outside the bounds are refused."""
    with pytest.raises(ValidationError, match="number of processes"):
        SettingsFile.model_validate({"workers": value})
