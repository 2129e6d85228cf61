from __future__ import annotations

import pytest
from lora_states import some_state
from torch import Tensor


@pytest.fixture
def state() -> dict[str, Tensor]:
    return some_state()
