import os
import signal

import pytest
from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background by a shell, which lets children ignore Ctrl-C: those of the tests must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `tests` finds the same on every run; `laws` searches further, from a new seed each time.
settings.register_profile("default", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("laws", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run each asynchronous test on both event loops: core promises to work on either."""
    return request.param
