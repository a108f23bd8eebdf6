"""Standard streams that a scheduler closes are missed by no run."""

import shlex
import subprocess
import sys


def test_a_run_needs_no_standard_streams(folder, tmp_path):
    words = [sys.executable, "-m", "pipeline.cli", "extract", "--input", str(folder), "--output", str(tmp_path / "out")]
    assert subprocess.run(["sh", "-c", f"{shlex.join(words)} <&- >&- 2>&-"], timeout=200).returncode == 0
    assert (tmp_path / "out" / "features" / "_delta_log").is_dir()
