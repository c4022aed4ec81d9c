#!/bin/sh
# Runs once, when an empty database server is made: the bus's own role and database, and what a standby needs.
#   SECRETS   folder with the files postgres-password and replication-password     default /run/secrets
#   STANDBY   name of the standby that every commit waits for; empty: none
set -eu
secrets=${SECRETS:-/run/secrets}

psql --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set "password=$(cat "$secrets/postgres-password")" <<'SQL'
CREATE ROLE lgsp LOGIN PASSWORD :'password';
CREATE DATABASE lgsp OWNER lgsp ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE lgsp FROM PUBLIC;
SQL

[ -n "${STANDBY:-}" ] || exit 0
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set "password=$(cat "$secrets/replication-password")" --set "standby=$STANDBY" <<'SQL'
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'password';
SELECT pg_create_physical_replication_slot(:'standby');
-- Counts from the next start on. A receipt then means that two machines have the message; while the standby is away no
-- commit ends. docs/operations.md says how to go on without it.
ALTER SYSTEM SET synchronous_standby_names = :'standby';
SQL
echo "host replication replicator all scram-sha-256" >> "$PGDATA/pg_hba.conf"
