#!/bin/sh
# A search method in plain shell: show the best program so far, ask for a faster one, keep the better.
# The harness gives HARNESS_URL and HARNESS_TOKEN; everything is text/plain. See
# docs/foreign-methods.md.
set -eu
umask 077
echo "Authorization: Bearer $HARNESS_TOKEN" > auth # a file: command lines can be read by others
plain="Content-Type: text/plain"

task=$(curl -sS --fail -H @auth -H "Accept: text/plain" "$HARNESS_URL/task")
best_score=0 best_words=""

while :; do
  printf '%s\n\n%s\nWrite a faster program for this task.\n' "$task" "$best_words" > prompt
  curl -sS --fail -H @auth -H "$plain" --data-binary @prompt "$HARNESS_URL/complete" > reply

  # The whole reply is submitted: the harness takes the program out of it. Costs one charge.
  curl -sS --fail -H @auth -H "$plain" --data-binary @reply "$HARNESS_URL/evaluate" > verdict
  eval "$(head -n 1 verdict)" # id, charges_left, status, score, candidate_id
  echo "$charges_left charges left: $status $score"

  if [ -n "$score" ] && awk "BEGIN { exit !($score > $best_score) }"; then
    best_score=$score
    best_words=$(printf '## Current program\n\n'; cat reply; tail -n +2 verdict)
  fi
  [ "$charges_left" -gt 0 ] || exit 0
done
