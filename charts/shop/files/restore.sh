#!/usr/bin/env bash
# Puts both databases back to the newest backup, or to the one that FROM names. Stop both services first.
# BACKUP_FOLDER  where the dumps are; ORDER_DATABASE_URI, INVOICE_DATABASE_URI  what to overwrite
set -Eeuo pipefail

from=${FROM:-$(ls -1 "$BACKUP_FOLDER" | grep 'Z$' | tail -n 1)}
folder=$BACKUP_FOLDER/$from
[ -n "$from" ] && [ -s "$folder/order.dump" ] && [ -s "$folder/invoice.dump" ] || {
  echo "no backup '$from' in $BACKUP_FOLDER: $(ls -m "$BACKUP_FOLDER")" >&2
  exit 1
}
for uri in "$ORDER_DATABASE_URI" "$INVOICE_DATABASE_URI"; do
  others=$(psql --no-psqlrc -At "$uri" -c "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'")
  [ "$others" = 0 ] || {
    echo "$others connections are open: scale the services of both databases to 0 first" >&2
    exit 1
  }
done
for service in order invoice; do
  uri=${service^^}_DATABASE_URI
  # The schema goes as a whole: what a newer release has added would otherwise stay. All or nothing, in one transaction.
  { echo 'BEGIN; DROP SCHEMA public CASCADE; CREATE SCHEMA public;'
    pg_restore --no-owner --no-privileges --file=- "$folder/$service.dump" | grep -v '^CREATE SCHEMA public;$'
    echo 'COMMIT;'; } | psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --output=/dev/null "${!uri}"
  echo "restored $service from $from"
done
