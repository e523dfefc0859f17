"""Models of network.yaml."""

import pytest
from pydantic import ValidationError

from relay.site.network_models import NetworkFile


def test_an_empty_file_is_valid() -> None:
    """Everything has a default."""
    assert NetworkFile.model_validate({}).overlays == {}


def test_a_network_id_is_lower_case() -> None:
    """Both cases are accepted as copied from the controller."""
    file = NetworkFile.model_validate({"overlays": {"office": {"network_id": "8056C2E21C000001"}}})
    assert file.overlays["office"].network_id == "8056c2e21c000001"


@pytest.mark.parametrize("value", ["8056c2e21c00000", "8056c2e21c0000012", "8056c2e21c00000g", 8056000000000001])
def test_anything_but_16_hexadecimal_digits_is_no_network_id(value: object) -> None:
    """One digit less or more, another letter, and a number without quotes are refused."""
    with pytest.raises(ValidationError):
        NetworkFile.model_validate({"overlays": {"office": {"network_id": value}}})


def test_an_unknown_key_is_refused() -> None:
    """A misspelt key must not be ignored."""
    with pytest.raises(ValidationError, match="overlay"):
        NetworkFile.model_validate({"overlay": {}})
