#!/bin/sh
# private-root.sh FOLDER SHARED COMMAND…: runs a command that has all of this machine's files and may change them,
# of which nobody else sees anything. SHARED alone is the same inside and outside. As root:
#
#   unshare --mount private-root.sh FOLDER SHARED COMMAND…
set -eu
folder=$1 shared=$2
shift 2
mount -t tmpfs tmpfs "$folder"
root=$folder/root
mkdir "$folder/changes" "$folder/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/changes,workdir=$folder/work" "$root"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root$shared"
mount --bind "$shared" "$root$shared"
exec chroot "$root" "$@"
