#!/bin/sh
# Check the GPU of this machine; needs Python 3.11 to 3.13 with JAX for the GPU, NumPy and Pillow,
# and no network. Options: --help. It writes a table to standard output, and gpu_check.json.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
if [ -d "$here/wheels" ]; then
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --upgrade \
        --find-links "$here/wheels" --target "$here/lib" \
        beam-image-features simplejpeg cykooz-resizer
fi
export PYTHONPATH="$here/lib:$here${PYTHONPATH:+:$PYTHONPATH}" XDG_CACHE_HOME="$here/cache"
exec "$python" -m benchmarks.gpu_check "$here" "$@"
