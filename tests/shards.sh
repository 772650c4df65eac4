#!/usr/bin/env bash
# Runs tests of tests/e2e in several labs at once, each with its share of them. Most of
# what such a test does is wait: two labs on two cores take little more than half the time
# of one. Lines begin with the name of the lab; the last lines say what failed and why.
#
# What fails fails the run. A few tests that did run once more, in a lab of their own, and
# the last lines say whether they pass there: then look for what they share with others, or
# for what depends on who is faster.
#
# usage: tests/shards.sh <labs> run|skip <expression of tests>
set -euo pipefail
cd "$(dirname "$0")/.."
n=$1 mode=$2 of=$3
again=3 # so few tests run once more

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go test -c -o "$work/e2e.test" ./tests/e2e

choose=(grep -E "$of")
[ "$mode" = run ] || choose=(grep -vE "$of")
# Every n-th test, so that neighbours, which are alike and take alike long, are shared out.
mapfile -t tests < <(cd tests/e2e && "$work/e2e.test" -test.list '^Test' | "${choose[@]}")
[ "${#tests[@]}" -gt 0 ] || { echo "tests/e2e has no such tests"; exit 1; }
echo "${#tests[@]} tests in $n labs"

# lab <number> <tests ...> runs them and keeps what they print.
lab() {
  local i=$1 name=shard$1
  shift
  (
    cd tests/e2e
    PGCTRL_LAB_NAME=$name PGCTRL_LAB_SUBNET=10.10.$((59 + i)).0/24 \
      "$work/e2e.test" -test.v -test.timeout 75m -test.run "^($(IFS='|'; echo "$*"))\$" 2>&1 |
      tee "$work/$name.log" | sed -u "s/^/$name  /"
  )
}

# failed <log> prints the names of the tests that failed in it.
failed() { sed -nE 's/^--- FAIL: ([A-Za-z0-9_]+) .*/\1/p' "$1"; }

# words <log> <test> prints the last of what a test said for itself.
words() {
  awk -v name="$2" '$0 ~ "^=== RUN +" name "$" {on=1} on && /_test\.go:[0-9]+: / {print} $0 ~ "^--- FAIL: " name " " {exit}' "$1" |
    tail -2 | cut -c1-300
}

go run ./tests/lab image "${PGCTRL_LAB_IMAGE:-bookworm}" >/dev/null # once, and not in each
pids=()
for ((i = 0; i < n; i++)); do
  share=()
  for ((t = i; t < ${#tests[@]}; t += n)); do share+=("${tests[t]}"); done
  lab $((i + 1)) "${share[@]}" &
  pids+=($!)
done
broken=0
for pid in "${pids[@]}"; do wait "$pid" || broken=1; done
[ "$broken" = 1 ] || exit 0

mapfile -t bad < <(for ((i = 1; i <= n; i++)); do failed "$work/shard$i.log"; done)
verdict="$work/verdict"
: >"$verdict"
for ((i = 1; i <= n; i++)); do
  for t in $(failed "$work/shard$i.log"); do { echo "$t:"; words "$work/shard$i.log" "$t"; } >>"$verdict"; done
  # A lab that could not be made, a panic, a time-out: no test says that.
  grep -qxE 'PASS|FAIL' "$work/shard$i.log" || { echo "lab $i ended early:"; tail -3 "$work/shard$i.log" | cut -c1-300; } >>"$verdict"
done
if grep -q 'ended early' "$verdict" || [ "${#bad[@]}" -eq 0 ] || [ "${#bad[@]}" -gt "$again" ]; then
  printf '\nFAILED %s\n' "${bad[*]:-before the end}"
  tail -24 "$verdict"
  exit 1
fi
printf '\nonce more: %s\n' "${bad[*]}"
if lab $((n + 1)) "${bad[@]}"; then
  printf '\nFAILED %s; passed when run once more, alone\n' "${bad[*]}"
else
  printf '\nFAILED %s; again when run alone: %s\n' "${bad[*]}" "$(failed "$work/shard$((n + 1)).log" | tr '\n' ' ')"
fi
tail -20 "$verdict"
exit 1
