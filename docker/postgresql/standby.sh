#!/bin/sh
# A standby that follows the primary: copied from it when its folder is empty, then started. Arguments go to postgres.
#   PRIMARY   where the primary is: "host=db1 port=5432"
#   STANDBY   its own name, as in primary.sh
#   SECRETS   folder with the file replication-password                            default /run/secrets
set -eu
umask 077
passwords=${TMPDIR:-/tmp}/replication.pgpass
printf '*:*:*:replicator:%s\n' "$(cat "${SECRETS:-/run/secrets}/replication-password")" > "$passwords"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    until pg_basebackup --dbname "$PRIMARY user=replicator passfile=$passwords application_name=$STANDBY" \
        --pgdata "$PGDATA" --wal-method stream --slot "$STANDBY" --checkpoint fast --write-recovery-conf --no-password
    do
        echo "the primary does not answer yet" >&2
        # A copy that was cut short is no beginning.
        find "$PGDATA" -mindepth 1 -delete
        sleep 2
    done
fi
exec postgres "$@"
