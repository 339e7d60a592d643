#!/bin/sh
# Runs the suite twice, each in an environment of its own that is thrown away: with the
# lowest versions that pyproject.toml allows, then with the newest.
#
#     sh tests/lowest_and_newest.sh python3.11 [arguments of pytest]
#
# uv resolves to the lowest versions, which pip cannot.
set -eu
python=${1:-python3}
[ $# -gt 0 ] && shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/uv"
"$folder/uv/bin/pip" install --quiet --disable-pip-version-check uv
status=0
for which in lowest-direct highest; do
    "$folder/uv/bin/uv" venv --quiet --python "$python" "$folder/$which"
    VIRTUAL_ENV="$folder/$which" "$folder/uv/bin/uv" pip install --quiet \
        --resolution "$which" --editable '.[dev]'
    echo "== $which: $("$folder/$which/bin/python" -c '
from importlib.metadata import version
print(*(f"{n} {version(n)}" for n in
        ("jax", "numpy", "flax", "gymnax", "gymnasium", "evosax", "optax")))')"
    if [ "$which" = lowest-direct ]; then
        # What old versions announce of each other is no news of ours.
        "$folder/$which/bin/python" -m pytest -q -W default::DeprecationWarning \
            -W default::PendingDeprecationWarning -W default::FutureWarning \
            "$@" || status=1
    else
        "$folder/$which/bin/python" -m pytest -q "$@" || status=1
    fi
done
exit $status
