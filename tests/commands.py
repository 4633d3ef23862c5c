"""The command `flip`, called in the test's own process."""

import pytest

from flip.commands import main


def flip(*words: object, code: int = 0) -> None:
    """Run a command to its end, which has this exit status; capsys has what it says."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    assert ended.value.code == code
