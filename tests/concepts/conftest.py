"""The encoder that plans are made with here."""

from __future__ import annotations

import pytest
from word_encoder import WordEncoder


@pytest.fixture
def encoder() -> WordEncoder:
    return WordEncoder()
