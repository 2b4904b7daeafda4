#!/usr/bin/env bash
# Dumps both databases as they were at one moment of the protocol, while the shop goes on.
# BACKUP_FOLDER  where the dumps go; KEEP  how many pairs stay
# ORDER_DATABASE_URI, INVOICE_DATABASE_URI  what to dump
#
# The moment: nobody can begin an operation (the table of operations is locked for a few milliseconds) while both
# snapshots are taken. What the invoice database has decided, the order database then knows of: at worst as pending, as
# after a crash, and after a restore the shop finishes it. A dump of one database and then of the other has no such moment.
set -Eeuo pipefail

LOCK_TRIES=30
work=$(mktemp -d)
name=$(date -u +%Y%m%dT%H%M%SZ)
folder=$BACKUP_FOLDER/$name
trap 'rm -rf "$work" "$folder.part"' EXIT

# session NAME URI : a psql that stays, on file descriptors named after it
session() {
  mkfifo "$work/$1.in" "$work/$1.out"
  psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 "$2" <"$work/$1.in" >"$work/$1.out" &
  eval "exec {$1_in}>'$work/$1.in' {$1_out}<'$work/$1.out'"
}

# ask NAME SQL : what the session answers, in one line
ask() {
  local in=$1_in out=$1_out answer
  printf '%s\n' "$2" >&"${!in}"
  IFS= read -r -t 60 answer <&"${!out}" || { echo "no answer from the database: $1" >&2; return 1; }
  printf '%s\n' "$answer"
}

# stop_changes : holds back new operations, waiting a short while at a time so that nobody waits long behind it
stop_changes() {
  local try
  for try in $(seq "$LOCK_TRIES"); do
    [ "$(ask gate "$(printf '%s\n' \
      "DO \$\$ BEGIN SET lock_timeout = '500ms'; LOCK TABLE operations IN SHARE MODE;" \
      "EXCEPTION WHEN lock_not_available THEN PERFORM set_config('shop.held', 'no', false); RETURN;" \
      "END \$\$; SELECT coalesce(nullif(current_setting('shop.held', true), ''), 'yes');")")" = yes ] && return
    ask gate "ROLLBACK; SELECT set_config('shop.held', '', false); BEGIN;" >/dev/null
    sleep 0.5
  done
  echo "changes never paused for half a second in $LOCK_TRIES tries" >&2
  return 1
}

session gate "$ORDER_DATABASE_URI"
session order "$ORDER_DATABASE_URI"
session invoice "$INVOICE_DATABASE_URI"
ask gate "BEGIN; SELECT 'open';" >/dev/null
stop_changes
begin="BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT pg_export_snapshot();"
order=$(ask order "$begin")
invoice=$(ask invoice "$begin")
ask gate "ROLLBACK; SELECT 'done';" >/dev/null

mkdir -p "$folder.part"
pg_dump --format=custom --snapshot="$order" --file="$folder.part/order.dump" "$ORDER_DATABASE_URI"
pg_dump --format=custom --snapshot="$invoice" --file="$folder.part/invoice.dump" "$INVOICE_DATABASE_URI"
pg_restore --list "$folder.part/order.dump" >/dev/null
pg_restore --list "$folder.part/invoice.dump" >/dev/null
sync
mv "$folder.part" "$folder"
# The oldest go once the new one is there.
ls -1d "$BACKUP_FOLDER"/*Z | head -n -"$KEEP" | xargs --no-run-if-empty rm -rf
echo "backup $name: $(du -sh "$folder" | cut -f1)"
