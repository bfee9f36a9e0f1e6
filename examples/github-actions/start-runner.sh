#!/bin/sh
# On the machine that the workflow reaches by ssh: starts a runner, whose configuration comes on standard input, in a
# folder of its own, and goes on without the connection.
#
# Needs: GitHub's runner unpacked in ACTIONS_RUNNER.
set -eu
: "${ACTIONS_RUNNER:=/opt/actions-runner}"
IFS= read -r ACTIONS_RUNNER_INPUT_JITCONFIG
export ACTIONS_RUNNER_INPUT_JITCONFIG RUNNER_MANUALLY_TRAP_SIG=1
folder=$(mktemp -d "$HOME/runner.XXXXXX")
cp -R "$ACTIONS_RUNNER/." "$folder"
cd "$folder"
{
    trap '' HUP
    ./run.sh || :
    cd / && rm -rf "$folder"
} > "$folder.log" 2>&1 < /dev/null &
