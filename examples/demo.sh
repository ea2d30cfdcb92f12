#!/bin/sh
# The demonstration of `make demo`: three fresh nodes become a cluster, in a simulated lab. It leaves nothing behind,
# also when it is interrupted or something fails.
set -eu
cd "$(dirname "$0")/.."

pxrun=./pxrun
site=examples/three-nodes
state=$(mktemp -d)
export PXRUN_STATE_DIR="$state"

finish() {
  status=$?
  trap - EXIT INT TERM
  "$pxrun" lab down "$site" >/dev/null 2>&1 || true
  rm -rf "$state"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$(printf '\033[1;36m') plain=$(printf '\033[0m')
fi
step() {
  printf '\n%s▸ pxrun %s%s\n\n' "$bold" "$*" "$plain"
  "$pxrun" "$@"
}

printf '%sThree fresh Proxmox VE nodes, simulated, behind real SSH servers on loopback.%s\n' "$bold" "$plain"
step lab up "$site" --detach --speed 8
step plan "$site" --lab
step apply "$site" --lab --auto-approve
step status "$site" --lab
printf '\n%sA second run changes nothing.%s\n' "$bold" "$plain"
step apply "$site" --lab --auto-approve
step lab down "$site"
