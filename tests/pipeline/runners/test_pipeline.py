"""What the message of a failed run tells the user to do."""

import pytest

from pipeline.runners.pipeline import run_failed
from transforms.errors import RunFailed


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError("No space left on device"), "Run the same command again: it resumes the run."),
        (RuntimeError("self-check failed: …"), "The same command would fail again."),
        (RuntimeError("ModuleNotFoundError: No module named 'x'"), "Install what is missing"),
    ],
)
def test_the_same_command_is_advised_only_where_it_can_help(error, advice):
    with pytest.raises(RunFailed) as raised, run_failed("run 1"):
        raise error
    assert advice in str(raised.value)
    assert ("resumes" in str(raised.value)) == ("would fail" not in advice)
