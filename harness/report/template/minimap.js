// The minimap: the whole run, with a brush over the stretch of time that the charts show.
"use strict";
(() => {
  for (const map of document.querySelectorAll(".minimap")) {
    const name = map.dataset.of;
    const brush = map.querySelector(".brush");
    const { start, end } = report.windows.get(name);
    const share = (moment) => `${(100 * (moment - start)) / (end - start)}%`;

    function place({ from, to }) {
      brush.style.left = share(from);
      brush.style.width = share(start + to - from);
      brush.setAttribute("aria-valuemin", start);
      brush.setAttribute("aria-valuemax", end);
      brush.setAttribute("aria-valuenow", from);
      brush.setAttribute("aria-valuetext", `${from.toFixed(2)} s to ${to.toFixed(2)} s of ${end.toFixed(2)} s`);
    }

    place(report.windows.get(name));
    document.addEventListener("window-changed", ({ detail }) => { if (detail.name === name) place(detail); });

    brush.addEventListener("keydown", (event) => report.press(name, event));

    // What the pointer holds: an edge of the brush, the brush, or, beside it, a new one that begins there.
    let held = null;
    const moment = (event) => {
      const box = map.getBoundingClientRect();
      return start + ((event.clientX - box.left) / box.width) * (end - start);
    };
    map.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const { from, to } = report.windows.get(name);
      const at = moment(event);
      if (event.target.className === "start") held = { fixed: to };
      else if (event.target.className === "end") held = { fixed: from };
      else if (event.target === brush && to - from < end - start) held = { at, from, to };
      else held = { fixed: at };
      map.setPointerCapture(event.pointerId);
    });
    map.addEventListener("pointermove", (event) => {
      if (!held) return;
      const at = moment(event);
      if ("fixed" in held) {
        if (at !== held.fixed) report.show(name, { from: Math.max(Math.min(at, held.fixed), start), to: Math.min(Math.max(at, held.fixed), end) });
      } else report.show(name, { from: held.from + at - held.at, to: held.to + at - held.at });
    });
    for (const over of ["pointerup", "pointercancel"]) map.addEventListener(over, () => { held = null; });
    map.addEventListener("dblclick", () => report.show(name, { from: start, to: end }));
  }
})();
