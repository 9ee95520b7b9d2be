#!/usr/bin/env bash
# Runs pytest, in three parts side by side when everything is wanted: what starts real Airflow mostly waits for it, the
# laboratory and the coordinators for outages, and the rest for its leases. The reports of the first two come when they are done,
# and then the clusters.
#
# A few failures get one second chance, alone and told. Half of these tests race real processes against real limits, and
# a machine that stood still for a second is not a defect of HeirFlow. A broken promise gets none, nor does what has a seed:
# tests/plugin_chances.py reads the whole report of each failure and says so.
#
#   tools/run_tests.sh PYTHON [pytest's arguments]
set -uo pipefail
python=$1
shift
forgiven_at_most=4
# They also have what disturbs nobody, so that all three take about as long.
airflow=(tests/airflow tests/demo tests/upgrades tests/packages tests/faults)
outages=(tests/coordinators tests/lab tests/fencing tests/planted tests/simulation tests/unit)
# What starts whole clusters of servers takes the machine for itself, and the others race their limits: it comes last, alone.
clusters=(tests/airflow/test_havoc.py tests/airflow/test_quorum_queues.py tests/lab/test_brokers.py
    tests/contract/test_galera.py tests/contract/test_patroni.py)
folder=$(mktemp -d)
beside=()
finish() {
    local each
    for each in "${beside[@]}"; do
        # shellcheck disable=SC2046  several numbers
        kill -INT $(cat "/proc/$each/task/$each/children") 2>/dev/null && wait "$each" 2>/dev/null
    done
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

part() { # part NAME [pytest's arguments]: exit code of pytest, the report in $folder/NAME
    local name=$1
    shift
    "$python" -m pytest -rsfE --color=no -o cache_dir=".pytest_cache/$name" "$@" 2>&1 | tee "$folder/$name"
    return "${PIPESTATUS[0]}"
}

if [ $# -gt 0 ]; then
    part all "$@"
    codes=(all $?)
else
    echo "In the background: ${airflow[*]} ${outages[*]}"
    part airflow --durations=12 "${airflow[@]}" "${clusters[@]/#/--ignore=}" >/dev/null &
    beside+=($!)
    part outages --durations=12 "${outages[@]}" "${clusters[@]/#/--ignore=}" >/dev/null &
    beside+=($!)
    part rest --durations=12 "${airflow[@]/#/--ignore=}" "${outages[@]/#/--ignore=}" "${clusters[@]/#/--ignore=}"
    codes=(rest $?)
    echo
    echo "Waiting for ${airflow[*]} ${outages[*]}"
    wait "${beside[0]}"
    codes+=(airflow $?)
    wait "${beside[1]}"
    codes+=(outages $?)
    beside=()
    cat "$folder/airflow" "$folder/outages"
    part clusters --durations=12 "${clusters[@]}"
    codes+=(clusters $?)
fi

failed=$(cat "$folder"/* | grep -cE '^(FAILED|ERROR) ')
worst=0
again=()
while [ ${#codes[@]} -gt 0 ]; do
    case ${codes[1]} in
        0) ;;
        1) again+=("${codes[0]}") ;;
        *)
            worst=${codes[1]}
            echo "The part '${codes[0]}' did not come to its end: exit code $worst. Its last lines:"
            tail -5 "$folder/${codes[0]}"
            ;;
    esac
    codes=("${codes[@]:2}")
done
[ ${#again[@]} -gt 0 ] || exit "$worst"
if [ "$worst" -ne 0 ] || [ "$failed" -gt "$forgiven_at_most" ] || grep -q '^no second chance: ' "$folder"/*; then
    exit 1
fi
echo
echo "$failed failed. Each is run once more, alone; what fails twice is a failure."
for name in "${again[@]}"; do
    "$python" -m pytest -o cache_dir=".pytest_cache/$name" --last-failed --last-failed-no-failures=none "$@" || worst=1
done
exit "$worst"
