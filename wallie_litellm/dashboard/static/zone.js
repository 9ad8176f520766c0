"use strict";
// Tells the server the browser's time zone, where the configuration names none: the page is loaded once more with it.
(() => {
  const COOKIE = "wallie_zone", YEAR = 31536000; // seconds
  const {zone, path} = document.currentScript.dataset;
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const known = () => document.cookie.split("; ").includes(`${COOKIE}=${own}`);
  if (!own || own === zone || known()) return; // known, and yet another is shown: the server has no such zone
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `${COOKIE}=${own}; path=${path}; max-age=${YEAR}; samesite=lax${secure}`;
  if (known()) location.reload(); // else cookies are off
})();
