#!/usr/bin/env bash
# Installs the Debian packages that tests need and a wheel cannot bring. Without root or apt it says what cannot run.
# In CI that is for the tests to judge: there a skipped test fails.
set -euo pipefail

export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
missing=()
why=()

need() { # need PROGRAM PACKAGE WHY
    command -v "$1" >/dev/null && return
    missing+=("$2")
    why+=("$2: $3")
}

# Tests may use servers that stand elsewhere.
[ -n "${HEIRFLOW_TEST_MYSQL_URL:-}" ] || need mariadbd mariadb-server "the store's contract on MariaDB"
need pgbouncer pgbouncer "what HeirFlow does behind a transaction pooler"
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || need no-such-program postgresql "fencing below PostgreSQL 17"
need rabbitmq-server rabbitmq-server "Airflow with Celery"
[ -n "${HEIRFLOW_TEST_ZOOKEEPER:-}" ] || [ -e /usr/share/java/zookeeper.jar ] || need no-such-program zookeeper "the store's contract on ZooKeeper"
if [ "$(uname -s)" = Linux ]; then
    need haproxy haproxy "an Airflow of which any part may be lost"
    need keepalived keepalived "an Airflow of which any part may be lost"
    need ip iproute2 "the fault laboratory (network namespaces)"
    need nft nftables "the fault laboratory (partitions and loss)"
    need cc gcc "the fault laboratory (wall clocks that jump)"
fi
need systemd-analyze systemd "how systemd reads the units that heirflow generate writes"
need groff groff-base "what groff says of the man pages"
need promtool prometheus "what Prometheus says of metrics and alerts"
need chromium chromium "the page of heirflow serve in a real browser"
need spin spin "the checked model of the protocol (proof/)"
need gcc gcc "the checked model of the protocol (Spin writes a C program)"

[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
    printf 'Not installed, and only root may install it; these tests cannot run: %s\n' "${why[@]}"
elif ! command -v apt-get >/dev/null; then
    printf 'Not installed, and there is no apt-get here; these tests cannot run: %s\n' "${why[@]}"
else
    printf 'Installing from Debian: %s\n' "${why[@]}"
    # Nothing needs the system's own service: the tests start a server of their own, on a private port and folder.
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    log=$(mktemp)
    if apt-get update -qq >"$log" 2>&1 && apt-get install -y -qq --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
        rm -f "$log"
    else
        tail -n 15 "$log"
        printf 'apt-get failed (above); these tests cannot run: %s\n' "${why[@]}"
        rm -f "$log"
    fi
fi
