"""Each way to start the driver runs the same night."""

import ast
import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import kubernetes_validate
import yaml

from pipeline.commands.base import EXIT_USAGE
from pipeline.commands.options import config_of
from pipeline.commands.parser import parse
from tests.helpers.launched import LAUNCH


def said(words):
    """Return the run that a driver's words define, with the arguments file of ``launch/``."""
    words = [word.replace("@/etc/image-features/", f"@{LAUNCH}/") for word in words]
    return config_of(parse(words))


NIGHT = said(["extract", "@/etc/image-features/dataflow_gpu.args", "--input=gs://my-bucket/images",
              "--output=gs://my-bucket/features", "--metrics-json=-"])  # fmt: skip


def test_kubernetes_takes_the_driver_and_runs_the_same_night():
    account, options, cron = yaml.safe_load_all((LAUNCH / "dataflow_cronjob.yaml").read_text())
    for manifest in (account, options, cron):
        kubernetes_validate.validate(manifest, "1.31", strict=True)
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert said(container["args"]) == NIGHT
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    in_file = (LAUNCH / "dataflow_gpu.args").read_text()
    assert shlex.split(options["data"]["dataflow_gpu.args"], comments=True) == shlex.split(
        in_file, comments=True
    )
    [rule, _] = cron["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert (rule["onExitCodes"]["values"], rule["onExitCodes"]["containerName"]) == (
        [EXIT_USAGE],
        container["name"],
    )
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }


def misfits(value, kind, schemas, at=""):
    """Return what a schema of Google's discovery document lacks or types differently."""
    kind = schemas[kind["$ref"]] if "$ref" in kind else kind
    types = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
    if not isinstance(value, types[kind["type"]]):
        return [f"{at}: not {kind['type']}"]
    if isinstance(value, list):
        return [
            found
            for i, item in enumerate(value)
            for found in misfits(item, kind["items"], schemas, f"{at}[{i}]")
        ]
    if isinstance(value, dict):
        known = kind.get("properties", {})
        other = kind.get("additionalProperties")
        unknown = [f"{at}.{name}: unknown" for name in value if name not in known and not other]
        pairs = [
            (name, item, known.get(name, other))
            for name, item in value.items()
            if name in known or other
        ]
        return unknown + [
            found
            for name, item, of in pairs
            for found in misfits(item, of, schemas, f"{at}.{name}")
        ]
    return []


def test_cloud_run_takes_the_job_and_runs_the_same_night():
    documents = (
        Path(find_spec("googleapiclient").submodule_search_locations[0])
        / "discovery_cache/documents"
    )
    schemas = json.loads((documents / "run.v1.json").read_text())["schemas"]
    job = yaml.safe_load((LAUNCH / "dataflow_cloud_run.yaml").read_text())
    assert misfits(job, {"$ref": "Job"}, schemas) == []
    task = job["spec"]["template"]["spec"]["template"]["spec"]
    [container] = task["containers"]
    assert said(container["args"]) == NIGHT
    mounts, [volume] = container["volumeMounts"], task["volumes"]
    assert (
        f"@{mounts[0]['mountPath']}/{volume['secret']['items'][0]['path']}" == container["args"][1]
    )
    task["maxRetry"], container["args"] = 3, "extract"
    found = misfits(job, {"$ref": "Job"}, schemas)
    assert len(found) == 2
    assert any("maxRetry: unknown" in line for line in found)
    assert any("args: not array" in line for line in found)


def test_drivers_run_the_image_of_the_workers_versions():
    tag = "0.1.0-py3.11-beam2.77.0"
    for name in ("dataflow_cronjob.yaml", "dataflow_cloud_run.yaml"):
        images = re.findall(r"\bimage: (\S+)", (LAUNCH / name).read_text())
        assert [image.rpartition("/")[2] for image in images] == [f"cpu:{tag}"]


def test_airflow_runs_the_same_night():
    """Read it with Python's own parser: Airflow cannot be installed beside the other packages."""
    tree = ast.parse((LAUNCH / "dataflow_airflow.py").read_text())
    [command] = [node.value.value for node in tree.body if isinstance(node, ast.Assign)]
    words = shlex.split(command)
    assert words[:2] == ["exec", "/opt/image-features/bin/image-features"]
    assert said(words[2:]) == NIGHT
