#!/bin/sh
# Run on the standby when the primary is gone for good: it becomes the one that is written to. The bus finds it by itself.
# Never while the primary may still live: two that are written to are two histories.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
-- It was copied from the primary with the wish for a standby, and has none.
ALTER SYSTEM RESET synchronous_standby_names;
SELECT pg_reload_conf();
SELECT pg_promote(wait => true);
SQL
