#!/bin/sh
# Installs Debian's Chromium for the browser tests, where there is no browser yet and this may be done. Never fails: if
# there is none in the end, the tests themselves do, and say what to do.
[ -z "$WALLIE_TEST_BROWSER" ] || exit 0
for name in chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null 2>&1 && exit 0
done
say() {
  echo "No Chromium for the browser tests$1: install it, or set WALLIE_TEST_BROWSER (CONTRIBUTING.md)" >&2
  exit 0
}
command -v apt-get >/dev/null 2>&1 || say ""
as_root=""
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || say ""
  as_root="sudo -n"
fi
echo "Installing Chromium for the browser tests ..."
quietly() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" </dev/null >/dev/null 2>&1
}
quietly update -qq # its complaints do not matter where the next line works
quietly install -y -qq --no-install-recommends chromium || say ", apt-get could not install it"
