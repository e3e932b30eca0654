#!/usr/bin/env bash
# Makes the random secrets that docker-compose.yml reads; leaves those alone that are there.
set -euo pipefail
cd "$(dirname "$0")"
# Compose mounts the files as they are, and the containers' users are not ours: the folder is what keeps others out.
mkdir -p -m 700 secrets
make() {
    [ -s "secrets/$1" ] || printf '%s%s' "$3" "$(od -An -N"$2" -tx1 /dev/urandom | tr -d ' \n')" >"secrets/$1"
    chmod 644 "secrets/$1"
}
make postgres_password 24 ''
# The forms that Garage gives its own: a key's name begins with GK.
make blobs_user 16 GK
make blobs_password 32 ''
make blobs_rpc_secret 32 ''
