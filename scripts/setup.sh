#!/usr/bin/env bash
# Makes the virtual environment, whole or not at all: `.venv/.complete` is written last and holds the hash of what was
# installed, so an interrupted or outdated environment is recognised and repaired. Does nothing when nothing changed.
#
#   scripts/setup.sh [directory of the environment, default .venv]
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=${1:-.venv}
LOCK=requirements/cpu.lock
STAMP=$VENV/.complete
CPU_WHEELS=https://download.pytorch.org/whl/cpu

fail() { echo "setup: $*" >&2; exit 1; }

wanted() { cat "$LOCK" pyproject.toml | cksum | tr ' ' '-'; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; }

find_python() {
    for candidate in "${PYTHON:-python3.11}" python3.11 python3.12 python3; do
        if supported "$candidate"; then command -v "$candidate"; return; fi
    done
    fail "Python 3.11 or 3.12 was not found: install it, or name it with PYTHON=/path/to/python make setup"
}

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

# The registry's own torch is the CUDA build, several GB of it: only the CPU build will do.
install_torch() {
    local version
    version=$(sed -n 's/^torch==\([^+[:space:]]*\).*/\1/p' "$LOCK")
    if "$VENV/bin/python" -c "import importlib.metadata as m, sys; sys.exit(m.version('torch') != '$version+cpu')" 2>/dev/null; then
        return
    fi
    if ! pip install --no-deps "torch==$version+cpu" 2>/dev/null; then
        pip install --no-deps --extra-index-url "$CPU_WHEELS" "torch==$version+cpu" \
            || fail "the CPU build of torch $version was found neither here nor at $CPU_WHEELS: check the network"
    fi
}

install_rest() {
    local rest
    rest=$(mktemp)
    grep -v '^torch==' "$LOCK" > "$rest"
    # First what builds the few source distributions, without an isolated environment of its own for each.
    pip install --no-deps $(grep -E '^(setuptools|wheel|packaging|ninja|py-cpuinfo)==' "$LOCK") \
        || fail "the build tools could not be installed: check the network and run \`make setup\` again"
    pip install --no-deps --no-build-isolation -r "$rest" \
        || fail "a package could not be installed (see above): run \`make setup\` again to go on"
    rm -f "$rest"
}

# pip writes RECORD last: without it a package was cut off while it was unpacked, though pip takes it for installed.
drop_half_installed() {
    find "$VENV"/lib/python*/site-packages -maxdepth 1 -name '*.dist-info' ! -exec test -s {}/RECORD \; -exec rm -rf {} +
}

install_project() {
    # `compat`: the folder itself is on the path, so a new package is there without another setup.
    pip install --no-deps --no-build-isolation --config-settings editable_mode=compat -e . \
        || fail "the project itself could not be installed (see above)"
}

if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(wanted)" ] && "$VENV/bin/python" -c '' 2>/dev/null; then
    exit 0
fi

echo "setup: installing into $VENV (a few minutes the first time)"
rm -f "$STAMP"
supported "$VENV/bin/python" || { python=$(find_python); "$python" -m venv --clear "$VENV"; }
drop_half_installed
install_torch
install_rest
install_project
wanted > "$STAMP"
echo "setup: $VENV is ready"
