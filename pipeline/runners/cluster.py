"""Check a run's cluster options: accelerator, number of workers and container image."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.runners.options import RunnerOptions
from pipeline.runners.version import versions
from transforms.errors import UserError
from transforms.extras import install_command

_EXAMPLE = "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver"
# Dataflow's option that gives accelerators to all workers of a job, the only one for TPUs.
_FOR_ALL_WORKERS = "worker_accelerator="
_SECRETS = (
    "s3_access_key_id",
    "s3_secret_access_key",
    "s3_session_token",
    "azure_connection_string",
)


@dataclass(frozen=True, slots=True)
class Accelerator:
    """The fields of Dataflow's ``accelerator`` hint."""

    # As given: type:NAME;count:N;machine_type:NAME;install-nvidia-driver
    hint: str
    type: str
    count: int
    # Of the extraction's workers. The workers of the plan have that of --machine_type.
    machine_type: str | None


def parse_accelerator(hint: str) -> Accelerator:
    """Parse the value of ``--accelerator``.

    Raises:
        UserError: The value has no type, or an invalid count.
    """
    fields = dict(part.partition(":")[::2] for part in hint.split(";"))
    count = fields.get("count", "1")
    if not fields.get("type") or not count.isdecimal() or count == "0":
        raise UserError(f"--accelerator {hint!r}: must be like '{_EXAMPLE}' (in quotes)")
    return Accelerator(hint, fields["type"], int(count), fields.get("machine_type") or None)


def extract_args(runner: RunnerOptions, accelerator: str | None, shards: int) -> tuple[str, ...]:
    """Return further Beam options of the extraction: its machine type and max number of workers."""
    machine = parse_accelerator(accelerator).machine_type if accelerator else None
    more = (f"--machine_type={machine}",) if runner.args and machine else ()
    return (*runner.limit_workers(shards), *more)


def check_cluster(runner: RunnerOptions, accelerator: str | None = None) -> None:
    """Check the cluster options before a hundred workers start.

    Args:
        runner: The options of Beam.
        accelerator: The value of ``--accelerator``; None without it.

    Raises:
        UserError: An option is invalid, does not go with another one, or is missing.
    """
    if accelerator is not None:
        parse_accelerator(accelerator)
    given = runner.given
    secrets = [name for name in _SECRETS if given.get(name)]
    if secrets:
        raise UserError(
            f"--{secrets[0]}: options travel with the job, where others can read them. Give "
            "credentials to the workers by their service account or their environment."
        )
    if given.get("dry_run"):
        raise UserError(
            "--dry_run is Beam's and would submit nothing; --dry-run shows what a run would do"
        )
    asked = given.get("dataflow_service_options") or []
    services = [option for option in asked if option.startswith(_FOR_ALL_WORKERS)]
    if given.get("flexrs_goal") or (services and (accelerator or "type:tpu" not in services[0])):
        raise UserError(
            "--flexrs_goal and worker_accelerator do not go with resource hints; use --accelerator "
            "(worker_accelerator is for TPUs: launch/dataflow_tpu.args)"
        )
    image = runner.values.get("sdk_container_image")
    if runner.on_dataflow and not image:
        raise UserError(
            "--runner DataflowRunner needs --sdk_container_image: Beam's own image has neither "
            "this program nor TensorFlow. docs/dataflow.md builds one; its tag must be "
            f"{versions()}"
        )
    if image:
        _check_image(image)


def check_credentials(runner: RunnerOptions) -> None:
    """Check that a run on Dataflow has credentials.

    Without them Beam goes on, and fails later with an API's message.

    Raises:
        UserError: There are no credentials for Google Cloud here, or its client is missing.
    """
    if not runner.on_dataflow or runner.values.get("no_auth"):
        return
    try:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
    except ImportError as error:
        raise UserError(
            f"the client of Google Cloud is not installed. {install_command('gcp')}"
        ) from error
    try:
        google.auth.default()
    except DefaultCredentialsError as error:
        raise UserError(
            "no credentials for Google Cloud here: 'gcloud auth application-default login', or "
            "start this as a service account that may submit jobs (docs/dataflow.md)"
        ) from error


def _check_image(image: str) -> None:
    """Refuse an image whose tag names other versions; launch/Dockerfile checks it at the build."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    here = versions()
    if tag != here and not tag.startswith(f"{here}-"):
        raise UserError(
            f"--sdk_container_image {image}: its tag {tag or '(none)'!r} does not say that it "
            f"holds what runs here, {here}. Workers of another Python, Beam or version of this "
            "program cannot read the job: build the image from here (docs/dataflow.md), or start "
            "the run from that image."
        )
