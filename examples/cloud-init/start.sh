#!/bin/sh
# Downloads GitHub's runner, checks that it is the one that was meant, and starts it as a user of its own.
set -eu
set -a
# shellcheck source=/dev/null
. /etc/github-runner/settings
set +a
RUNNER_HOME=/var/lib/github-runner
export RUNNER_HOME
archive=$(mktemp)
curl --silent --show-error --fail --location --retry 5 --output "$archive" "$RUNNER_DOWNLOAD"
echo "$RUNNER_SHA256  $archive" | sha256sum --check --quiet
mkdir -p "$RUNNER_HOME"
tar --extract --gzip --no-same-owner --file "$archive" --directory "$RUNNER_HOME"
rm "$archive"
"$RUNNER_HOME/bin/installdependencies.sh"
chown -R github-runner: "$RUNNER_HOME"
exec /usr/local/lib/github-runner/bootstrap.sh setpriv --reuid=github-runner --regid=github-runner --init-groups \
    --inh-caps=-all --bounding-set=-all --no-new-privs env HOME="$RUNNER_HOME" ./run.sh
