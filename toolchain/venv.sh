#!/bin/sh
# Make the project's virtual environment: venv.sh FOLDER PYTHON. Everything in it is pinned by hash.
set -eu
venv=$1
python=$2

say() { printf 'python    %s\n' "$1"; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  echo "error: $python is missing or older than 3.11. Name another one: make PYTHON=/path/to/python3 …" >&2
  exit 1
}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  command -v apt-get >/dev/null || {
    echo "error: $python has no venv module. Install it (on Debian and Ubuntu: python3-venv), then run this again" >&2
    exit 1
  }
  say "installing python3-venv"
  sudo=$([ "$(id -u)" = 0 ] || echo sudo)
  $sudo apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q python3-venv >/dev/null
fi
say "environment $venv (about a minute when new)"
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/schema.txt
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
