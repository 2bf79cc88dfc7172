# Sourced by quickstart and test: enters the project's folder and makes .venv when it is missing or out of date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "vitcnn needs Python 3.11 or newer; $PYTHON is $("$PYTHON" --version 2>&1). Set PYTHON to another one." >&2
    exit 1
fi

# The stamp identifies the environment; it is written last, so that a broken install is repeated.
wanted="$("$PYTHON" --version) $(cksum < pyproject.toml) $(pwd)"
if [ "$(cat .venv/made-from 2>/dev/null)" != "$wanted" ]; then
    echo "Setting up .venv (PyTorch and friends: several minutes and some 6 GB the first time) …"
    [ "$(.venv/bin/python --version 2>/dev/null)" = "$("$PYTHON" --version)" ] || "$PYTHON" -m venv --clear .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
    echo "$wanted" > .venv/made-from
    echo "… done."
fi
PATH="$PWD/.venv/bin:$PATH"
