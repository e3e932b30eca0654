#!/usr/bin/env bash
# Makes the random secrets that docker-compose.yml reads; leaves those alone that are there.
set -euo pipefail
cd "$(dirname "$0")"
# Compose mounts the files as they are, and the containers' users are not ours: the folder is what keeps others out.
mkdir -p -m 700 secrets
for name in postgres_password blobs_user blobs_password; do
    [ -s "secrets/$name" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"secrets/$name"
    chmod 644 "secrets/$name"
done
