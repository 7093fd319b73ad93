#!/bin/sh
# Serves the core as a device of a fleet: run.sh WORK THING KEY
# KEY is the UniqueKey of the fleet's stack. What the app is told of this device, `key=value ...`,
# is read from WORK/node-config, where somebody wrote it.
set -eu

node_config=
if [ -f "$1/node-config" ]; then
    node_config=$(cat "$1/node-config")
fi
exec "$1/venv/bin/python" -m windflower.agent --broker greengrass: --device-id "$2" \
    --state "$1/state" --reply-rule "$3_response" --heartbeat-rule "$3_heartbeat" \
    --node-config "$node_config"
