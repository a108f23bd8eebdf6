"""The commands of `image-features`, one file each: its options, its call, its printing.

ADD A COMMAND: one file here, and its line in this list.
"""

from pipeline.commands import (
    backbones,
    compact,
    extract,
    history,
    plan,
    publish,
    repair,
    rollback,
    selfcheck,
    show,
    status,
    trace,
    vacuum,
    verify,
)

# In the order of --help.
COMMANDS = (
    extract.COMMAND,
    plan.COMMAND,
    backbones.COMMAND,
    trace.COMMAND,
    selfcheck.COMMAND,
    show.COMMAND,
    status.COMMAND,
    publish.COMMAND,
    compact.COMMAND,
    history.COMMAND,
    rollback.COMMAND,
    vacuum.COMMAND,
    verify.COMMAND,
    repair.COMMAND,
)
