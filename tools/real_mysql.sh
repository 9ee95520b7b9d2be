#!/usr/bin/env bash
# Brings a real MySQL for the tests and unpacks it beside the system: nothing is installed, and nothing of the system is changed.
# Debian's stable suites have MariaDB only, so this asks apt for the newer suite, with lists of its own. The server runs with the
# libraries that came with it, through their own loader (lab/servers/mysql.py).
#
#   tools/real_mysql.sh [FOLDER]      # about 60 MB to fetch, 270 MB on disk; says why where it cannot be had
set -euo pipefail

if [ "$(id -u)" -eq 0 ]; then home=/opt/heirflow-lab/mysql; else home=$(dirname "$0")/../build/mysql; fi
home=${1:-$home}
[ -x "$home/usr/sbin/mysqld" ] && exit 0

cannot() {
    echo "No real MySQL for the tests (MariaDB stands for it): $1"
    exit 1
}

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || cannot "it is tried on Linux on x86_64 only"
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || cannot "there is no apt here"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r $keys ] || cannot "Debian's keys are not installed (debian-archive-keyring)"
# The mirror that this machine uses already.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep '/debian/\?$' | head -n 1 || true)
[ -n "$mirror" ] || cannot "no mirror of Debian is among apt's sources"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/lists/partial "$work"/cache/archives/partial
: >"$work/status" # as if nothing were installed: every library comes along
echo "deb [signed-by=$keys] $mirror sid main" >"$work/sources.list"
options=(-qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$work/lists"
    -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User=)
apt-get "${options[@]}" update >"$work/log" 2>&1 || cannot "Debian's newer suite cannot be reached"
apt-get "${options[@]}" -y --no-install-recommends --download-only install mysql-server-core >>"$work/log" 2>&1 ||
    cannot "mysql-server-core cannot be fetched: $(tail -n 1 "$work/log")"
mkdir -p "$(dirname "$home")"
for package in "$work"/cache/archives/*.deb; do
    case $(basename "$package") in perl* | libperl* | libgdbm* | libdb5*) ;; *) dpkg-deb -x "$package" "$work/unpacked" ;; esac
done
"$work/unpacked/usr/lib64/ld-linux-x86-64.so.2" --library-path "$work/unpacked/usr/lib/x86_64-linux-gnu" \
    "$work/unpacked/usr/sbin/mysqld" --version || cannot "it does not run here"
chmod 755 "$work/unpacked"
rm -rf "$home"
mv "$work/unpacked" "$home"
