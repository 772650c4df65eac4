#!/usr/bin/env bash
# Installs what building and testing need on a fresh Debian 12: the tools that
# boot the lab's hosts, and the programs whose own verdict the golden tests ask
# for (haproxy -c, promtool, pgbackrest, Patroni's validator, a PostgreSQL to watch being
# promoted).
# Quiet and quick when everything is there. Services it brings are not started.
set -euo pipefail

want=(
  systemd-container mmdebstrap iproute2 procps ca-certificates
  haproxy pgbouncer patroni python3-etcd postgresql-15 dnsmasq-base
  prometheus pgbackrest
)
missing=()
for p in "${want[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "all ${#want[@]} packages are installed"
  exit 0
fi
echo "installing: ${missing[*]}"

# A policy-rc.d that says no keeps the packages from starting daemons on the
# machine that runs the tests; an existing one is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
# postgresql-common would create and start a "main" cluster on 5432 otherwise.
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
  mkdir -p /etc/postgresql-common
  echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}" >/dev/null
echo "installed"
