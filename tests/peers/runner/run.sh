#!/bin/bash
# GitHub's run.sh, as far as whoever starts it can tell: what it does with signals, and what it leaves to the
# listener, which reads the JIT configuration. With RUNNER_MANUALLY_TRAP_SIG a TERM reaches the listener, as INT;
# without it this shell ends alone.
DIR=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
listener="$DIR/bin/Runner.Listener"

if [[ -z "$RUNNER_MANUALLY_TRAP_SIG" ]]; then
    "$listener" run "$@"
    exit $?
fi

set -m
signaled=0
trap 'kill -INT -$PID; signaled=1' INT TERM
"$listener" run "$@" &
PID=$!
wait $PID
code=$?
if [[ $signaled -eq 1 ]]; then
    wait $PID
    code=$?
fi
exit $code
