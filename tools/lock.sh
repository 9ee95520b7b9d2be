#!/usr/bin/env bash
# Writes the lock files anew: every version and hash, no host and no path. See docs/decisions/0001-locks-without-hosts.md.
# Usage: tools/lock.sh [--upgrade]
set -euo pipefail
cd "$(dirname "$0")/.."
export UV_PYTHON_DOWNLOADS=never

lock() { # lock OUTPUT PYTHON-VERSION INPUT...
    local output=$1 python=$2
    shift 2
    echo "locks/$output"
    uv pip compile --quiet --universal --python-version "$python" --generate-hashes --no-emit-index-url --no-header \
        "${upgrade[@]}" --output-file "locks/$output" "$@"
    sed -i.old -e 's|(\(.*/\)pyproject.toml|(pyproject.toml|' "locks/$output" && rm -f "locks/$output.old"
}

upgrade=("$@")
lock uv.txt 3.10 --group uv
lock dev.txt 3.10 pyproject.toml --all-extras --group dev
lock docs.txt 3.10 --group docs
lock runtime.txt 3.10 pyproject.toml --all-extras --group build --constraint locks/dev.txt # what was tested
lock airflow-3.3.txt 3.10 pyproject.toml --extra postgres --extra zookeeper --extra etcd --group airflow-3
lock airflow-2.11.txt 3.11 pyproject.toml --group airflow-2
