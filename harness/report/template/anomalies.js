// Opens an anomaly that is gone to, says which times its broken axis shows, and steps through the orders that were tried.
"use strict";
(() => {
  function opened() {
    const [, id] = /^#(anomaly-\d+)$/.exec(location.hash) || [];
    const anomaly = id && document.getElementById(id);
    if (!anomaly) return;
    anomaly.open = true;
    anomaly.scrollIntoView();
  }

  // The moment (s) at a place of a broken axis.
  function moment(points, place) {
    let at = 1;
    while (at < points.length - 1 && points[at][0] < place) at += 1;
    const [[left, start], [right, end]] = [points[at - 1], points[at]];
    return start + ((place - left) / (right - left)) * (end - start);
  }

  document.addEventListener("window-changed", ({ detail: { name, from, to } }) => {
    if (!/^anomaly-\d+$/.test(name)) return;
    const bar = document.querySelector(`.window[data-of="${name}"]`);
    const figure = document.getElementById(`picture-${name}`);
    if (!bar || !figure) return;
    figure.points = figure.points || JSON.parse(figure.querySelector("script").textContent).usermeta.points;
    const [start, end] = [moment(figure.points, from), moment(figure.points, to)];
    const digits = Math.min(Math.max(Math.ceil(2 - Math.log10(end - start)), 1), 9);
    bar.querySelector("output").textContent = `${start.toFixed(digits)} s to ${end.toFixed(digits)} s`;
  });

  function stepper(order) {
    const steps = [...order.querySelectorAll("li")];
    const told = order.querySelector("output");
    const anomaly = order.closest("details");
    let at = -1;

    async function show(next) {
      at = Math.min(Math.max(next, 0), steps.length - 1);
      const op = steps[at].dataset.op;
      steps.forEach((step, number) => {
        step.classList.toggle("now", number === at);
        step.classList.toggle("later", number > at);
        if (number === at) step.setAttribute("aria-current", "step"); else step.removeAttribute("aria-current");
      });
      const list = steps[at].parentElement;
      list.scrollTop = steps[at].offsetTop - list.offsetTop - list.clientHeight / 2;
      told.textContent = `step ${at} of ${steps.length - 1}: ${steps[at].textContent.trim().replace(/\s+/g, " ")}`;
      for (const row of anomaly.querySelectorAll("tr[data-op]")) row.classList.toggle("now", row.dataset.op === op);
      const view = report.drawn.get(document.getElementById(order.dataset.picture));
      if (view) await view.signal("current", op === undefined ? -1 : Number(op)).runAsync();
    }

    for (const button of order.querySelectorAll("button")) {
      button.addEventListener("click", () => show(at + Number(button.dataset.step)));
    }
    order.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      show(at + by);
    });
  }

  for (const order of document.querySelectorAll(".order")) stepper(order);
  addEventListener("hashchange", opened);
  opened();
})();
