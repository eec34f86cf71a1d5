"""What the helpers assert is explained as in tests."""

import pytest

for module in ("load", "sight", "tending", "truth"):
    pytest.register_assert_rewrite(f"tests.faults.{module}")
