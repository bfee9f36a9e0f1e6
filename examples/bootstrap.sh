#!/bin/sh
# Makes this machine a GitHub Actions runner for one job: asks runner-broker for a just-in-time runner, starts it,
# and takes it off GitHub again if it is stopped before it had a job.
#
#   ./bootstrap.sh [COMMAND…]      COMMAND: what to start instead of ./run.sh
#
# Needs: curl (7.55 or later), jq, and GitHub's runner unpacked in RUNNER_HOME.
# Adapt: the four values below, here or in the environment, which wins.
# The job can read what the user of run.sh can read; where that matters, start this as another user (systemd/,
# cloud-init/) or in another container (kubernetes/).
set -eu

# ---- To adapt ------------------------------------------------------------------------------------------------
: "${RUNNER_BROKER_URL:=https://broker.example.com}"
# The runner to ask for; the broker's /docs has all that it may say.
[ -n "${RUNNER_REQUEST:-}" ] || RUNNER_REQUEST='{"runner_name_prefix": "machine", "labels": ["docker"]}'
# Where run.sh is.
: "${RUNNER_HOME:=.}"
# Whence this machine's OpenID Connect token comes: one of these. In GitHub Actions it is found without.
: "${RUNNER_BROKER_TOKEN:=}"           # the token itself, for what is over soon
: "${RUNNER_BROKER_TOKEN_FILE:=}"      # a file that something keeps fresh, as Kubernetes does
: "${RUNNER_BROKER_TOKEN_COMMAND:=}"   # a command that prints one
# ---- To leave, mostly ----------------------------------------------------------------------------------------
: "${RUNNER_BROKER_AUDIENCE:=$RUNNER_BROKER_URL}"
: "${RUNNER_BROKER_PATIENCE:=300}"     # for how many seconds to ask again, where that may help
# --------------------------------------------------------------------------------------------------------------

say() {
    printf 'bootstrap: %s\n' "$*" >&2
}

die() {
    say "$@"
    exit 1
}

# A token, printed. Made anew for each call: it lives for minutes.
token() {
    if [ -n "$RUNNER_BROKER_TOKEN_COMMAND" ]; then
        sh -c "$RUNNER_BROKER_TOKEN_COMMAND"
    elif [ -n "$RUNNER_BROKER_TOKEN_FILE" ]; then
        cat "$RUNNER_BROKER_TOKEN_FILE"
    elif [ -n "$RUNNER_BROKER_TOKEN" ]; then
        printf '%s\n' "$RUNNER_BROKER_TOKEN"
    elif [ -n "${ACTIONS_ID_TOKEN_REQUEST_URL:-}" ]; then
        printf 'Authorization: Bearer %s\n' "$ACTIONS_ID_TOKEN_REQUEST_TOKEN" |
            curl --silent --show-error --fail --max-time 20 --header @- --get \
                --data-urlencode "audience=$RUNNER_BROKER_AUDIENCE" "$ACTIONS_ID_TOKEN_REQUEST_URL" |
            jq --exit-status --raw-output .value
    else
        say 'set RUNNER_BROKER_TOKEN_FILE or RUNNER_BROKER_TOKEN_COMMAND'
        return 1
    fi
}

# call METHOD PATH [BODY]: the answer in $answer, its status in $status (000: none came). The token goes through a
# pipe: a process's arguments can be read by everybody on the machine.
call() {
    status=000 answer=''
    bearer=$(token) || bearer=''
    if [ -z "$bearer" ]; then
        say 'there is no token'
        return 0
    fi
    reply=$(
        printf 'Authorization: Bearer %s\n' "$bearer" |
            curl --silent --show-error --max-time 60 --request "$1" --header @- \
                --header 'Content-Type: application/json' --header "Idempotency-Key: $key" \
                --dump-header "$scratch/headers" --write-out '\n%{http_code}' \
                ${3:+--data "$3"} "$RUNNER_BROKER_URL$2"
    ) || :
    bearer=''
    status=${reply##*"$newline"}
    answer=${reply%"$newline"*}
    reply=''
    : "${status:=000}"
}

# A field of the answer; nothing if there is none, or if what answered is not the broker.
field() {
    printf '%s\n' "$answer" | jq --raw-output ".$1 // empty" 2> /dev/null || :
}

# Why the broker did not do it, in its words.
reason() {
    if [ "$status" = 000 ]; then
        echo 'no answer'
    else
        echo "$status $(field error_code) $(field detail)"
    fi
}

# For how long the broker wants to be left alone; at least $1.
pause_of_at_least() {
    asked=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9][0-9]*\).*/\1/p' "$scratch/headers" 2> /dev/null | tail -n 1)
    if [ "${asked:-0}" -gt "$1" ]; then echo "$asked"; else echo "$1"; fi
}

# GitHub's answer may be lost, and the broker's: the same key for every attempt leaves one runner at most.
ask() {
    until=$(($(date +%s) + RUNNER_BROKER_PATIENCE))
    pause=2
    while :; do
        call POST /api/v1/runners/jit "$RUNNER_REQUEST"
        [ "$status" != 201 ] || return 0
        [ -z "$stopped" ] || leave 143
        case $status/$(field error_code) in
            000/* | 429/* | 503/* | 504/* | 502/ | 409/IDEMPOTENCY_KEY_IN_PROGRESS) ;;
            *) die "the broker refuses: $(reason)" ;;
        esac
        this_time=$(pause_of_at_least "$pause")
        [ $(($(date +%s) + this_time)) -lt "$until" ] || die "given up: $(reason)"
        say "$(reason); again in $this_time s"
        sleep "$this_time" &
        wait $! || kill $! 2> /dev/null || :
        [ -z "$stopped" ] || leave 143
        pause=$((pause < 30 ? pause * 2 : 30))
    done
}

# Takes the runner off GitHub. With a job it stays until that is over, and one that had its job is gone already.
release() {
    call DELETE "/api/v1/runners/$id?force_when_idle=true"
    case $status in
        200 | 202) say "$(field message)" ;;
        404) ;;
        *) say "the runner could not be removed, which the broker will do in time: $(reason)" ;;
    esac
}

leave() {
    rm -rf "$scratch"
    exit "$1"
}

# shellcheck disable=SC2317 # the traps call it
on_signal() {
    stopped=1
    [ -z "$child" ] || kill -TERM "$child" 2> /dev/null || :
}

case $RUNNER_BROKER_URL in
    https://* | http://127.0.0.1[:/]* | http://localhost[:/]*) ;;
    *) die "RUNNER_BROKER_URL is '$RUNNER_BROKER_URL'; a token goes over https only" ;;
esac
RUNNER_BROKER_URL=${RUNNER_BROKER_URL%/}
[ $# -gt 0 ] || set -- ./run.sh
newline='
'
child='' stopped=''
key=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap on_signal TERM INT HUP

ask
id=$(field runner_id)
config=$(field encoded_jit_config)
answer=''
if [ -z "$id" ] || [ -z "$config" ]; then
    die 'the broker answered something else than a runner'
fi
if [ -n "$stopped" ]; then
    release
    leave 143
fi
say "runner $id"

# A shell has its background processes ignore SIGINT, by which run.sh stops the runner if it is told to see to
# signals itself. Where `env` cannot mend that, TERM ends run.sh as it stands.
if env --default-signal=INT sh -c : 2> /dev/null; then
    set -- env --default-signal=INT RUNNER_MANUALLY_TRAP_SIG=1 "$@"
fi
# The configuration goes through the environment, and nothing of ours goes along.
(
    trap - TERM INT HUP EXIT
    export ACTIONS_RUNNER_INPUT_JITCONFIG="$config"
    unset RUNNER_BROKER_TOKEN RUNNER_BROKER_TOKEN_FILE RUNNER_BROKER_TOKEN_COMMAND
    unset ACTIONS_ID_TOKEN_REQUEST_URL ACTIONS_ID_TOKEN_REQUEST_TOKEN
    cd "$RUNNER_HOME"
    exec "$@"
) &
child=$!
config=''
[ -z "$stopped" ] || on_signal

code=0
wait "$child" || code=$?
# A signal ends the waiting, not the runner.
while kill -0 "$child" 2> /dev/null; do
    code=0
    wait "$child" || code=$?
done
child=''
if [ -n "$stopped" ]; then
    release
    leave 143
fi
if [ "$code" != 0 ]; then
    say "the runner ended with $code"
    release
fi
leave "$code"
