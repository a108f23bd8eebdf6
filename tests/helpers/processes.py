"""What /proc tells about processes."""

from contextlib import suppress
from pathlib import Path


def descendants(pid):
    children = []
    with suppress(OSError):  # it has ended meanwhile
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # so has the thread
                children += map(int, (task / "children").read_text().split())
    return children + [grandchild for child in children for grandchild in descendants(child)]


def command_line(pid):
    with suppress(OSError):  # it has ended meanwhile
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def alive(pid):
    # It is gone, or goes while it is looked at
    with suppress(OSError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False
