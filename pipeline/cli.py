"""The command ``image-features``: words on a terminal around the functions of this package."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from pipeline.commands.options import config_of, parse
from pipeline.signals import stop_on_signals
from pipeline.state.summary import Summary
from transforms.errors import Refused, RunFailed, UserError
from transforms.names import printable, printable_lines

EXIT_PUBLISHED, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def command() -> NoReturn:
    """The console script: ``main`` in a process of its own, which signals may end."""
    _open_closed_streams()
    stop_on_signals()
    try:
        code = main()
    except SystemExit as asked:  # --help
        code = asked.code if isinstance(asked.code, int) else EXIT_PUBLISHED
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    # All is written. Unloading Arrow, Beam and the engines is left out: on Python 3.13 their threads' end aborted
    # the process once ("terminate called without an active exception") and with it its exit code.
    os._exit(code)


def _open_closed_streams() -> None:
    """Let standard streams that a scheduler closed lead nowhere; else the next file opened would get their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.fstat(number)
                continue  # something else has the number already
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: PTH123, SIM115


def main(argv: list[str] | None = None) -> int:
    """Run a command line; returns the exit code: 0 published or nothing new, 1 failed or refused, 2 usage."""
    _log_to_stderr()
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        return _COMMANDS[arguments.command](arguments)
    except UserError as error:
        return _complain(str(error), EXIT_USAGE)
    except (Refused, RunFailed) as error:
        return _complain(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return _complain("stopped. Run the same command again: it takes up what is done.", 130)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PUBLISHED
    except Exception as error:
        if os.environ.get("IMAGE_FEATURES_DEBUG"):
            raise
        if _is_storage_error(error):
            return _complain(f"{error}. When that is mended, run the same command again.", EXIT_FAILED)
        text = f"{type(error).__name__}: {str(error).strip()[:500]}"
        return _complain(f"{text} (set IMAGE_FEATURES_DEBUG=1 to see where it comes from)", EXIT_FAILED)


class _Printable(logging.Formatter):
    """Messages whose names obey no terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def _log_to_stderr() -> None:
    """Our own messages. Libraries warn of all that they did not find, and what they fail with is raised anyway."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    if not os.environ.get("IMAGE_FEATURES_DEBUG"):
        handler.addFilter(lambda record: record.name.partition(".")[0] in ("pipeline", "transforms"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _is_storage_error(error: Exception) -> bool:
    from transforms.storage import StorageError  # not at the top: it imports Arrow

    return isinstance(error, StorageError)


def _complain(message: str, code: int) -> int:
    print(f"image-features: {printable(message)}", file=sys.stderr)
    return code


def _extract(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    from pipeline.run import extract

    return _report(extract(config), config.output, config.metrics_json)


def _plan(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    from pipeline.run import plan_run

    return _report(plan_run(config), config.output, config.metrics_json)


def _publish(arguments: argparse.Namespace) -> int:
    from pipeline.run import publish_run

    files = (arguments.metrics_json, arguments.metrics_prometheus)
    summary = publish_run(arguments.output, arguments.max_failure_rate, *files, stores=arguments.stores)
    return _report(summary, arguments.output, arguments.metrics_json)


def _report(summary: Summary, output: str, metrics_json: str | None) -> int:
    """Print what a run came to, and what comes next; not on a standard output that is for metrics."""
    lines = [str(summary)] if summary.listed else []  # a step that found nothing to do has no counts of its own
    if summary.failures_by_kind:
        lines.append("failed: " + ", ".join(f"{kind} {count:,}" for kind, count in summary.failures_by_kind.items()))
    if summary.still_failed:
        lines.append(f"{summary.still_failed:,} still failed: the images have not changed (--retry-failed tries again)")
    if summary.verdict:
        lines.append(f"time: {summary.verdict}")
    place = output.rstrip("/")
    lines.append(
        {
            "published": f"published version {summary.version} of {place}/features",
            "dry_run": "dry run: nothing was written",
            "planned": f"planned run {summary.run_id}; next: 'image-features extract --planned', with the same options",
            "submitted": f"at work: 'image-features status {place}' says how far; then 'image-features publish "
            f"{place}', or the same command again, publishes",
            "extracted": f"all shards are done; next: 'image-features publish {place}'",
        }.get(summary.state, "nothing new: nothing was published")
    )
    print("\n".join(map(printable, lines)), file=sys.stderr if metrics_json == "-" else sys.stdout)
    return EXIT_PUBLISHED


def _backbones(arguments: argparse.Namespace) -> int:
    from pipeline.reports.show import backbones_table

    print(backbones_table())
    return EXIT_PUBLISHED


def _trace(arguments: argparse.Namespace) -> int:
    from pipeline.diagnostics.trace import trace

    values = {name: value for name, value in vars(arguments).items() if name not in ("command", "photo", "save")}
    print(printable_lines(trace(arguments.photo, values, arguments.save)))
    return EXIT_PUBLISHED


def _selfcheck(arguments: argparse.Namespace) -> int:
    from pipeline.config import Config
    from pipeline.diagnostics.selfcheck import selfcheck

    options = {name: value for name, value in vars(arguments).items() if name not in ("command", "beam_args")}
    for line in selfcheck(Config.of(inputs=("-",), output="-", **options)):
        print(printable(line), flush=True)
    return EXIT_PUBLISHED


def _show(arguments: argparse.Namespace) -> int:
    from pipeline.reports.show import show

    print(printable_lines(show(arguments.output, arguments.rows, stores=arguments.stores)))
    return EXIT_PUBLISHED


def _status(arguments: argparse.Namespace) -> int:
    from pipeline.reports.status import status

    print(printable_lines(status(arguments.output, stores=arguments.stores)))
    return EXIT_PUBLISHED


def _compact(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.compact import compact

    print("\n".join(map(str, compact(arguments.output, stores=arguments.stores))) or "nothing to merge")
    return EXIT_PUBLISHED


def _history(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.rollback import history

    print(printable_lines(history(arguments.output, stores=arguments.stores)))
    return EXIT_PUBLISHED


def _rollback(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.rollback import rollback

    print(printable_lines(rollback(arguments.output, arguments.version, stores=arguments.stores)))
    return EXIT_PUBLISHED


def _vacuum(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.vacuum import vacuum

    print(printable_lines(vacuum(arguments.output, arguments.older_than, arguments.dry_run, stores=arguments.stores)))
    return EXIT_PUBLISHED


def _repair(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.repair import repair

    done = repair(arguments.output, stores=arguments.stores)
    print("\n".join([what for table in done for what in (*table.found, str(table))]) or "nothing is damaged")
    return EXIT_PUBLISHED


def _verify(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.verify import verify

    verification = verify(arguments.output, arguments.sample, stores=arguments.stores)
    print(printable_lines(str(verification)))
    return EXIT_PUBLISHED if verification.clean else EXIT_FAILED


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "extract": _extract,
    "plan": _plan,
    "publish": _publish,
    "status": _status,
    "backbones": _backbones,
    "trace": _trace,
    "selfcheck": _selfcheck,
    "show": _show,
    "compact": _compact,
    "history": _history,
    "rollback": _rollback,
    "vacuum": _vacuum,
    "verify": _verify,
    "repair": _repair,
}

if __name__ == "__main__":
    command()
