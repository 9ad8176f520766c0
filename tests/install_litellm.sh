#!/bin/sh
# Installs this checkout with another LiteLLM: install_litellm.sh VERSION FOLDER
# The environment has the releases of constraints.txt, but for those that the other LiteLLM needs different: the lines of
# constraints-litellm-VERSION.txt where there is such a file, else the installer's choice.
set -eu
version=$1 folder=$2
own=constraints-litellm-$version.txt
installed=$folder/.installed
[ -f "$own" ] || own=
# shellcheck disable=SC2086,SC2046 # no file is no word; lines become words
if [ -f "$installed" ] && [ -z "$(find pyproject.toml constraints.txt $own -newer "$installed")" ]; then
    exit 0
fi
[ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
if [ -n "$own" ]; then
    names=$(cut -d = -f 1 "$own")
else
    names='litellm litellm-enterprise litellm-proxy-extras openai filelock huggingface_hub'
fi
grep -viE "^($(echo $names | tr ' ' '|'))==" constraints.txt | cat - ${own:-/dev/null} >"$folder/constraints.txt"
"$folder/bin/python" -m pip install --disable-pip-version-check --quiet --constraint "$folder/constraints.txt" \
    --editable '.[dev]' "litellm==$version"
touch "$installed"
