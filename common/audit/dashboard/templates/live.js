/* Looks again every few seconds while a run goes on, and puts what changed into the page that is
   there: focus, scroll place and opened details stay as they are. Without it, or without scripts,
   the page reloads itself by its meta element. */
(function () {
  "use strict";
  var region = document.getElementById("content");
  var pause = Number(document.body.dataset.live) * 1000;
  var stopped = false;

  function opened() {
    return Array.from(region.querySelectorAll("details"), function (d) { return d.open; });
  }

  /* How many alerts there are stands outside the region. */
  function mark(fresh) {
    var link = document.querySelector('nav a[href="/alerts"]');
    var now = fresh.querySelector('nav a[href="/alerts"]');
    if (link.innerHTML !== now.innerHTML) { link.innerHTML = now.innerHTML; }
  }

  function put(text) {
    var fresh = new DOMParser().parseFromString(text, "text/html");
    var next = fresh.getElementById("content");
    if (!next) { return; }
    stopped = !fresh.body.dataset.live;
    document.title = fresh.title;
    mark(fresh);
    if (next.innerHTML === region.innerHTML) { return; }
    var open = opened();
    var held = document.activeElement && region.contains(document.activeElement)
      ? Array.from(region.querySelectorAll("a, summary, [tabindex]")).indexOf(document.activeElement)
      : -1;
    var scrolled = Array.from(region.querySelectorAll(".scroll"), function (s) { return s.scrollLeft; });
    region.replaceChildren.apply(region, Array.from(document.importNode(next, true).childNodes));
    region.querySelectorAll("details").forEach(function (d, i) { d.open = Boolean(open[i]); });
    region.querySelectorAll(".scroll").forEach(function (s, i) { s.scrollLeft = scrolled[i] || 0; });
    if (held >= 0) {
      var again = region.querySelectorAll("a, summary, [tabindex]")[held];
      if (again) { again.focus({ preventScroll: true }); }
    }
  }

  function say(stale) {
    document.getElementById("stale").hidden = !stale;
  }

  function look() {
    if (stopped) { return; }
    if (document.hidden) { window.setTimeout(look, pause); return; }
    fetch(window.location.href, { cache: "no-cache", credentials: "same-origin" })
      .then(function (answer) { return answer.ok ? answer.text() : Promise.reject(answer.status); })
      .then(function (text) { put(text); say(false); }, function () { say(true); })
      .then(function () { window.setTimeout(look, pause); });
  }

  window.setTimeout(look, pause);
}());
