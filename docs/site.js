// Of the site only: a table that is wider than its place can be moved by the keys, as a block of code can.
"use strict";
(() => {
  const AS = { tabindex: "0", role: "group", "aria-label": "A wide table" };
  function mark() {
    for (const each of document.querySelectorAll(".md-typeset__scrollwrap")) {
      const moves = each.scrollWidth > each.clientWidth;
      for (const [name, value] of Object.entries(AS)) {
        if (moves) each.setAttribute(name, value);
        else each.removeAttribute(name);
      }
    }
  }
  new MutationObserver(mark).observe(document.body, { childList: true, subtree: true }); // the theme wraps tables later
  addEventListener("resize", mark);
  addEventListener("load", mark);
  mark();
})();
