#!/bin/sh
# Installs the agent of a Greengrass component: install.sh AGENT WORK
# AGENT is what the nucleus unpacked, WORK is where the component may write.
# The nucleus calls this at each of its own starts too, perhaps without a network: what was
# installed from the same files stays.
set -eu

agent=$1
venv=$2/venv
is_new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

files=$(find "$agent" -type f -exec cksum {} + | sort)
if [ -f "$venv/made-from" ] && [ "$(cat "$venv/made-from")" = "$files" ] &&
    "$venv/bin/python" -c "$is_new_enough"; then
    exit 0
fi

for name in python3 python3.14 python3.13 python3.12 python3.11; do
    if python=$(command -v "$name") && "$python" -c "$is_new_enough"; then
        break
    fi
    python=
done
if [ -z "$python" ]; then
    echo "install.sh: windflower needs Python 3.11 or newer, and there is none on the PATH" >&2
    exit 1
fi

# Beside what works now: an installation that fails, for want of a network say, takes nothing away.
"$python" -m venv --clear "$venv.new"

set -- "$agent"/windflower-*.whl
set -- "$1[greengrass]"
if [ -f "$agent/requirements.txt" ]; then
    set -- "$@" -r "$agent/requirements.txt"
fi
if [ -d "$agent/wheels" ]; then
    set -- --no-index --find-links "$agent/wheels" "$@"
fi
# Python compiles what is used when it is used: a small part of what is installed.
"$venv.new/bin/python" -m pip install --quiet --no-compile --no-cache-dir --disable-pip-version-check "$@"
echo "$files" >"$venv.new/made-from"
rm -rf "$venv"
mv "$venv.new" "$venv"
