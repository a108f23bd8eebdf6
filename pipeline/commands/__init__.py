"""The commands of ``image-features``; one file each holds its options, its call and its printing.

To add a command, add its file here and its line to ``COMMANDS``.
"""

from pipeline.commands import (
    backbones,
    compact,
    completion,
    duplicates,
    export,
    extract,
    history,
    index,
    night,
    plan,
    publish,
    repair,
    rollback,
    search,
    selfcheck,
    serve,
    show,
    status,
    trace,
    train,
    vacuum,
    verify,
)

# The order in which ``--help`` lists them.
COMMANDS = (
    extract.COMMAND,
    plan.COMMAND,
    backbones.COMMAND,
    trace.COMMAND,
    train.COMMAND,
    selfcheck.COMMAND,
    show.COMMAND,
    status.COMMAND,
    night.COMMAND,
    search.COMMAND,
    index.COMMAND,
    duplicates.COMMAND,
    export.COMMAND,
    serve.COMMAND,
    publish.COMMAND,
    compact.COMMAND,
    history.COMMAND,
    rollback.COMMAND,
    vacuum.COMMAND,
    verify.COMMAND,
    repair.COMMAND,
    completion.COMMAND,
)
