"""The pipeline stopped in the middle of a stage; `make crash` does it thirty times."""

import crash
import pytest
from test_stages import tiny


@pytest.mark.slow
def test_stopped_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path):
    for said, identical in crash.stop_and_go(tiny(tmp_path), times=1, seed=5):
        assert identical, said
