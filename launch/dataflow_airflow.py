"""Run the driver of a Dataflow run as an Airflow 3 DAG: one task, which a retry resumes.

The Airflow worker needs the program in an environment of its own, with the versions of the workers'
image: ``python3.11 -m venv /opt/image-features && /opt/image-features/bin/pip install '.[gcp]'``.
Without one, run the CPU image with an operator that starts containers. Change the names of the
bucket and of the arguments file. See docs/dataflow.md.
"""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

EXTRACT = """\
exec /opt/image-features/bin/image-features extract @/etc/image-features/dataflow_gpu.args \
--input=gs://my-bucket/images --output=gs://my-bucket/features --metrics-json=-"""

with DAG(
    dag_id="image_features",
    description="Image features of what is new in the bucket",
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1),
    # One night also does the work of missed nights.
    catchup=False,
    # Two concurrent runs do no harm (one publishes, the other says so), but twice the work.
    max_active_runs=1,
):
    BashOperator(
        task_id="extract",
        bash_command=EXTRACT,
        # After exit code 1 or a kill, a retry resumes the run. After exit code 2 it fails again
        # within seconds.
        retries=3,
        retry_delay=timedelta(minutes=10),
        execution_timeout=timedelta(hours=20),
    )
