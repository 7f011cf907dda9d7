"""Every launch in these tests shares its work between `parts`, however small it is."""

import pytest

from tests import vectors


@pytest.fixture(autouse=True)
def share_everything(monkeypatch):
    vectors.share_everything(monkeypatch)
