"""Read about processes in /proc."""

from contextlib import suppress
from pathlib import Path


def descendants(pid):
    children = []
    # The process, or its thread, may have ended meanwhile.
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                children += map(int, (task / "children").read_text().split())
    return children + [grandchild for child in children for grandchild in descendants(child)]


def command_line(pid):
    # The process may have ended meanwhile.
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def start_environment(pid):
    """Return the environment that the process was started with, as one text."""
    # The process may have ended meanwhile.
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_text()
    return ""


def alive(pid):
    # The process may have ended, or may end meanwhile.
    with suppress(OSError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False
