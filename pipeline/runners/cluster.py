"""What a run asks of a cluster: an accelerator, no more workers than there is work, an image like the driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.runners.version import versions
from transforms.errors import UserError

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions

_EXAMPLE = "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver"
_SECRETS = ("s3_access_key_id", "s3_secret_access_key", "s3_session_token", "azure_connection_string")


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What the extraction runs on, in the words of Dataflow's ``accelerator`` hint."""

    hint: str  # as given: type:NAME;count:N;machine_type:NAME;install-nvidia-driver
    type: str
    count: int
    machine_type: str | None  # that the extraction's workers have; plan's have that of --machine_type


def parse_accelerator(hint: str) -> Accelerator:
    """Read ``--accelerator``. Raises ``UserError``."""
    fields = dict(part.partition(":")[::2] for part in hint.split(";"))
    count = fields.get("count", "1")
    if not fields.get("type") or not count.isdecimal() or count == "0":
        raise UserError(f"--accelerator {hint!r}: must be like '{_EXAMPLE}' (in quotes)")
    return Accelerator(hint, fields["type"], int(count), fields.get("machine_type") or None)


def extract_args(beam_args: Sequence[str], accelerator: str | None, shards: int) -> tuple[str, ...]:
    """Beam's options for the extraction: the accelerator's machines, and never more workers than shards."""
    machine = parse_accelerator(accelerator).machine_type if accelerator else None
    more = (f"--machine_type={machine}",) if beam_args and machine else ()
    return (*at_most(shards, beam_args), *more)


def at_most(tasks: int, beam_args: Sequence[str]) -> tuple[str, ...]:
    """The options with no more workers than tasks: a cluster would start them all, and pay for the idle ones."""
    if not beam_args:
        return ()
    options, workers = _worker_options(beam_args)
    asked = {name: getattr(workers, name) for name in ("num_workers", "max_num_workers")}
    if runs_on_dataflow(options.get_all_options()) and not asked["max_num_workers"]:
        asked["max_num_workers"] = tasks  # its own default is hundreds
    return (*beam_args, *(f"--{name}={min(count, tasks)}" for name, count in asked.items() if count))


def check_cluster(beam_args: Sequence[str], accelerator: str | None = None) -> None:
    """Find out now, and not on a hundred workers, what cannot work. Raises ``UserError``."""
    if accelerator is not None:
        parse_accelerator(accelerator)
    if not beam_args:
        return
    options, workers = _worker_options(beam_args)
    given = options.get_all_options(drop_default=True)
    secrets = [name for name in _SECRETS if given.get(name)]
    if secrets:
        raise UserError(
            f"--{secrets[0]}: options travel with the job, where others can read them. Give credentials to the workers "
            "by their service account or their environment."
        )
    if given.get("dry_run"):
        raise UserError("--dry_run is Beam's and would submit nothing; --dry-run shows what a run would do")
    if given.get("flexrs_goal") or any("worker_accelerator" in o for o in given.get("dataflow_service_options") or []):
        raise UserError("--flexrs_goal and worker_accelerator do not go with resource hints; use --accelerator")
    if runs_on_dataflow(options.get_all_options()) and not workers.sdk_container_image:
        raise UserError(
            "--runner DataflowRunner needs --sdk_container_image: Beam's own image has neither this program nor "
            f"TensorFlow. docs/dataflow.md builds one; its tag must be {versions()}"
        )
    if workers.sdk_container_image:
        _check_image(workers.sdk_container_image)


def check_credentials(options: Mapping[str, Any]) -> None:
    """Raise ``UserError`` when Dataflow is to be asked by nobody: Beam would go on, and end in the words of an API."""
    if not runs_on_dataflow(options) or options.get("no_auth"):
        return
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        google.auth.default()
    except DefaultCredentialsError as error:
        raise UserError(
            "no credentials for Google Cloud here: 'gcloud auth application-default login', or start this as a service "
            "account that may submit jobs (docs/dataflow.md)"
        ) from error


def _check_image(image: str) -> None:
    """The tag says which versions the image has: launch/Dockerfile builds none whose tag is wrong."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    here = versions()
    if tag != here and not tag.startswith(f"{here}-"):
        raise UserError(
            f"--sdk_container_image {image}: its tag {tag or '(none)'!r} does not say that it holds what runs here, "
            f"{here}. Workers of another Python, Beam or version of this program cannot read the job: build the image "
            "from here (docs/dataflow.md), or start the run from that image."
        )


def _worker_options(beam_args: Sequence[str]) -> tuple[PipelineOptions, WorkerOptions]:
    from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions

    options = PipelineOptions(list(beam_args))
    return options, options.view_as(WorkerOptions)


def beam_options(beam_args: Sequence[str]) -> dict[str, Any]:
    """All options of Beam and its runners, by name; none, without asking Beam, where none is given."""
    if not beam_args:
        return {}
    options: dict[str, Any] = _worker_options(beam_args)[0].get_all_options()
    return options


def runs_on_dataflow(options: Mapping[str, Any]) -> bool:
    """Whether the runner is Dataflow's, by whichever of its names."""
    return (options.get("runner") or "").rpartition(".")[2].lower() in ("dataflowrunner", "dataflow")
