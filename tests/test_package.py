"""What `import ushape` offers."""

import pytest

import ushape


def test_every_public_name_is_found_and_the_list_is_sorted():
    assert ushape.__all__ == sorted(ushape.__all__)
    assert set(ushape.__all__) == set(ushape.HOMES)
    for name in ushape.__all__:
        assert getattr(ushape, name).__name__ == name
        assert name in dir(ushape)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'ushape' has no attribute 'Unet'"):
        ushape.Unet  # noqa: B018
