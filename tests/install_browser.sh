#!/bin/sh
# Installs Debian's Chromium for the browser tests, where there is no browser yet and this may be done. Never fails: if
# there is none in the end, the tests themselves do, and say what to do.
[ -z "$WALLIE_TEST_BROWSER" ] || exit 0
for name in chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null 2>&1 && exit 0
done
command -v apt-get >/dev/null 2>&1 || exit 0
as_root=""
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || exit 0
  as_root="sudo -n"
fi
echo "Installing Chromium for the browser tests ..."
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq >/dev/null 2>&1
$as_root apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1
exit 0
